"""Decoding of bytes to text, block by block, and detection of the encoding if the user does not give it.

A text is read as UTF-8, as the encoding of its byte order mark, or else as Windows-1252. Nearly every byte is a letter
in Windows-1252, so the text may be in another encoding; an excerpt lets the user judge.
"""

import codecs
from pathlib import Path

from nanogpt.data.binaries import MAX_CONTROL_SHARE, binary_error, count_controls, find_binary
from nanogpt.errors import SettingError, UserError, nearest

EXCERPT, CONTEXT = 40, 10  # characters in all, and before the first one outside ASCII
COMMON = ("utf-8", "utf-16", "cp1252", "gb18030", "big5", "shift_jis", "euc-jp", "euc-kr", "koi8-r", "cp1251")
ADVICE = "set its encoding with --encoding=NAME, such as gb18030, big5, shift_jis, euc-kr, koi8-r or cp1251"

_MARKS = (  # the longer first: UTF-32's little-endian mark begins with UTF-16's
    (codecs.BOM_UTF32_LE, "utf-32-le"),
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)
_NO_FILES = ("idna", "punycode", "undefined", "raw_unicode_escape", "unicode_escape", "utf-7")  # not for files
_SAME = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}  # without a mark
_ASCII = bytes(range(128))
_DAMAGED = 0.75  # a text is damaged UTF-8 if at least this share of its non-ASCII bytes is valid UTF-8


def codec_name(encoding: str) -> str:
    """Return Python's name of an encoding, which may have several. Raise `SettingError` for an unknown one."""
    try:
        found = codecs.lookup(encoding)
        known = found._is_text_encoding and found.name not in _NO_FILES and found.incrementaldecoder is not None
    except (LookupError, ValueError):
        known = False
    if not known:
        raise SettingError(
            "encoding",
            f"encoding={encoding}: no such encoding; common ones are {', '.join(COMMON)}.{nearest(encoding, COMMON)}",
        )
    return found.name


def display_name(codec: str) -> str:
    """Return the name of a codec for messages."""
    return "Windows-1252" if codec == "cp1252" else codec.upper()


def detect_encoding(start: bytes, encoding: str | None) -> tuple[str, int]:
    """Return (codec, length of the byte order mark in bytes) of a file that begins with these bytes.

    A given `encoding` takes precedence over the mark, except if both are of the same family.
    """
    marked, mark_bytes = next(((codec, len(mark)) for mark, codec in _MARKS if start.startswith(mark)), ("utf-8", 0))
    if encoding is None:
        return marked, mark_bytes
    asked = codec_name(encoding)
    if mark_bytes and marked in (asked, _SAME.get(asked), f"{asked}-be"):
        return marked, mark_bytes
    return _SAME.get(asked, asked), 0


class Decoder:
    """A decoder for the blocks of a file, in order. Without an encoding, what is not UTF-8 is read as Windows-1252.

    `codec` is the codec in use, `offset` the number of bytes decoded so far, and `excerpt` the decoded text around the
    first characters outside ASCII.
    """

    def __init__(self, path: Path, start: bytes, encoding: str | None) -> None:
        self.codec, self.offset = detect_encoding(start, encoding)
        self.mark_bytes = self.offset
        self.excerpt = ""
        self._path, self._asked = path, encoding is not None
        self._decoder = codecs.getincrementaldecoder(self.codec)()
        self._pure_ascii, self._before = True, b""
        # For a text that is read as Windows-1252: the byte that is not UTF-8, and how much of the rest is.
        self._not_utf8 = ""
        self._as_utf8 = codecs.getincrementaldecoder("utf-8")("ignore")
        self._high_bytes = self._utf8_bytes = 0

    def decode(self, block: bytes, final: bool) -> tuple[bytes, int]:
        """Return (the text of this block in UTF-8, its number of characters). Raise `UserError` if it is not text."""
        held = self._decoder.getstate()[0]
        if not held and self.codec in ("utf-8", "cp1252") and block.isascii():  # most are: nothing to decode
            self.offset += len(block)
            self._extend_excerpt(block)
            self._check_damage(block, final)
            return block, len(block)
        text = self._decoded(block, held, final)
        read = len(held) + len(block) - len(self._decoder.getstate()[0])
        self.offset += read
        raw = (held + block)[:read] if self.codec == "utf-8" else text.encode()
        self._pure_ascii = self._pure_ascii and raw.isascii()
        self._extend_excerpt(raw)
        self._check_damage((held + block)[:read], final)
        return raw, len(text)

    def _decoded(self, block: bytes, held: bytes, final: bool) -> str:
        try:
            return self._decoder.decode(block, final)
        except UnicodeDecodeError as error:
            byte = f"{error.object[error.start]:#04x} at byte {self.offset + error.start}"
            if self._asked:
                raise UserError(
                    f"{self._path} is not {display_name(self.codec)}: {byte} is invalid; set another encoding"
                ) from error
            # So far the text was ASCII, which is the same in Windows-1252.
            mended = self.codec == "utf-8" and not self.mark_bytes and self._pure_ascii
            if not mended or not error.object[: error.start].isascii():
                raise UserError(_broken(self._path, f"begins as {display_name(self.codec)}", byte)) from error
        self.codec, self._not_utf8 = "cp1252", byte
        self._decoder = codecs.getincrementaldecoder(self.codec)()
        try:
            return self._decoder.decode(held + block, final)
        except UnicodeDecodeError as worse:
            raw = held + block
            if b"\0" in raw or count_controls(raw) > MAX_CONTROL_SHARE * len(raw):
                raise UserError(binary_error(self._path, self.offset + find_binary(raw))) from worse
            other = f"{worse.object[worse.start]:#04x} at byte {self.offset + worse.start}"
            raise UserError(f"{self._path} is neither UTF-8 ({byte}) nor Windows-1252 ({other}): {ADVICE}") from worse

    def _extend_excerpt(self, text: bytes) -> None:
        """Append to the excerpt, which starts shortly before the first character outside ASCII."""
        if len(self.excerpt) >= EXCERPT:
            return
        if not self.excerpt:
            if self.codec == "utf-8" or text.isascii():
                self._before = (self._before + text[-CONTEXT:])[-CONTEXT:]
                return
            text = self._before + text
            text = text[max(0, len(text) - len(text.lstrip(_ASCII)) - CONTEXT) :]
        self.excerpt += text[: 4 * EXCERPT].decode(errors="ignore")
        self.excerpt = self.excerpt[:EXCERPT]

    def _check_damage(self, raw: bytes, final: bool) -> None:
        """Raise `UserError` at the end of a text that is UTF-8 except for a few bytes."""
        if not self._not_utf8:
            return
        if not raw.isascii():
            self._high_bytes += len(raw.translate(None, _ASCII))
            self._utf8_bytes += len(self._as_utf8.decode(raw).encode().translate(None, _ASCII))
        if final and self._utf8_bytes >= _DAMAGED * self._high_bytes:
            raise UserError(_broken(self._path, "is mostly UTF-8", self._not_utf8))


def _broken(path: Path, what: str, byte: str) -> str:
    return (
        f"{path} {what}, but {byte} is not: fix it (`iconv -c -f UTF-8 -t UTF-8 FILE` removes invalid bytes), or "
        f"set its encoding with --encoding=NAME"
    )
