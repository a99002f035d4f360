"""Detection of binary files by their first bytes, with advice for each kind."""

import re
from pathlib import Path

HEAD_BYTES = 512  # a tar archive says so at byte 257
MAX_CONTROL_SHARE = 0.05  # of a text's characters; random bytes have 10 %
CONTROLS = bytes(code for code in range(32) if code not in b"\b\t\n\v\f\r\x1a\x1b")

_IMAGE = ("an image", "give a text file")
# (pattern of the first bytes, what it is, what to do); a text of a data set is unpacked before it is looked at
_KINDS = (
    (rb"\x1f\x8b", "a gzip archive", "unpack it first, with `gunzip -k FILE`"),
    (rb"BZh[1-9]1AY&SY", "a bzip2 archive", "unpack it first, with `bunzip2 -k FILE`"),
    (rb"\xfd7zXZ\0", "an xz archive", "unpack it first, with `unxz -k FILE`"),
    (rb"\x28\xb5\x2f\xfd", "a zstd archive", "unpack it first, with `unzstd FILE`"),
    (rb"7z\xbc\xaf\x27\x1c", "a 7z archive", "unpack it first, with `7z x FILE`"),
    (rb"Rar!\x1a\x07", "a RAR archive", "unpack it first"),
    (rb".{257}ustar", "a tar archive", "unpack it first, with `tar -xf FILE`"),
    (rb"PK\x03\x04.{26}mimetypeapplication/epub", "an EPUB book", "rename it to FILE.epub"),
    (
        rb"PK\x03\x04.{26}(\[Content_Types\]|_rels/|word/|mimetype)",
        "an office document or an e-book",
        "save it as plain text, or convert it with `pandoc -t plain FILE -o FILE.txt`",
    ),
    (rb"PK\x03\x04", "a zip archive", "unpack it first, with `unzip FILE`"),
    (rb"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an office document", "save it as plain text"),
    (rb"%PDF-", "a PDF", "convert it first, with `pdftotext FILE`"),
    (rb"\x89PNG\r\n\x1a\n", *_IMAGE),
    (rb"\xff\xd8\xff", *_IMAGE),
    (rb"GIF8[79]a", *_IMAGE),
    (rb"RIFF.{4}WEBP", *_IMAGE),
    (rb"PAR1\x15", "a Parquet table", "rename it to FILE.parquet"),
    (rb"ARROW1\0", "an Arrow table", "write its text column to a text file first"),
    (rb"SQLite format 3\0", "an SQLite database", "write its text to a text file first"),
    (rb"\x93NUMPY", "a NumPy array", "give a text file"),
    (rb"\x7fELF", "a program", "give a text file"),
)


def identify_binary(name: str | Path, start: bytes) -> str:
    """Return the kind of a binary file that begins with `start`, and what to do; empty if it is not recognised."""
    for pattern, what, advice in _KINDS:
        if re.match(pattern, start, re.DOTALL):
            return f"{name} is not text but {what}: {advice}"
    return ""


def binary_error(name: str | Path, offset: int) -> str:
    """Return the message for a file with binary data at byte `offset`."""
    return f"{name} is not text: it has binary data at byte {offset}; give a text file"


def count_controls(data: bytes) -> int:
    """Return the number of control characters that do not occur in text."""
    return len(data) - len(data.translate(None, CONTROLS))


def find_binary(data: bytes) -> int:
    """Return the offset of the first zero byte, or else of the first control character."""
    null = data.find(0)
    return null if null >= 0 else next((place for place, code in enumerate(data) if code in CONTROLS), 0)
