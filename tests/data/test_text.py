"""Text files of unknown encoding: what they are read as, and what is refused."""

import codecs
import hashlib
import os
from pathlib import Path

import pytest

from nanogpt.data.text import SEPARATOR, Alphabet, TextFile, looks_like_text, read, scan
from nanogpt.errors import UserError

TEXT = "naïve café — “quoted”\r\nsecond line\n"


def scanned(path: Path, block_bytes: int = 1 << 20) -> tuple[TextFile, str]:
    """The file and its alphabet."""
    alphabet = Alphabet()
    reading = scan(path, alphabet, len, block_bytes)
    while True:
        try:
            next(reading)
        except StopIteration as end:
            return end.value, alphabet.characters()


@pytest.mark.parametrize("block_bytes", [1, 2, 3, 5, 7, 1 << 20])
@pytest.mark.parametrize(
    ("content", "codec"),
    [
        (TEXT.encode(), "utf-8"),
        (codecs.BOM_UTF8 + TEXT.encode(), "utf-8"),
        (codecs.BOM_UTF16_LE + TEXT.encode("utf-16-le"), "utf-16-le"),
        (codecs.BOM_UTF16_BE + TEXT.encode("utf-16-be"), "utf-16-be"),
        (codecs.BOM_UTF32_LE + TEXT.encode("utf-32-le"), "utf-32-le"),
        (TEXT.encode("cp1252"), "cp1252"),
    ],
)
def test_the_encoding_is_detected_wherever_a_block_ends(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes, codec: str, block_bytes: int
) -> None:
    path = tmp_path / "text"
    path.write_bytes(content)
    file, alphabet = scanned(path, block_bytes)
    monkeypatch.setattr("nanogpt.data.text.BLOCK_BYTES", block_bytes)
    assert (file.codec, file.characters) == (codec, len(TEXT))
    assert alphabet == "".join(sorted(set(TEXT)))
    assert "".join(read([file])) == TEXT


def test_the_digest_is_that_of_the_files_bytes(tmp_path: Path) -> None:
    content = codecs.BOM_UTF8 + TEXT.encode() * 100
    (tmp_path / "text").write_bytes(content)
    digest = hashlib.sha256()
    assert sum(scan(tmp_path / "text", Alphabet(), digest.update, 64)) == len(content) - len(codecs.BOM_UTF8)
    assert digest.hexdigest() == hashlib.sha256(content).hexdigest()


def test_files_are_joined_by_a_separator(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    assert "".join(read([scanned(tmp_path / name)[0] for name in "ab"])) == f"a{SEPARATOR}b"


@pytest.mark.parametrize(
    ("content", "offset"),
    [
        (b"plain text\0more", 10),
        (b"caf\xe9 \x81", 5),  # 0x81 stands for nothing in Windows-1252
        (b"\x7fELF\x02\x01\x01\0\0\0\xff\x81", 7),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", 8),
        (b"fine\x01\x02\x03\x04", 4),
        (codecs.BOM_UTF16_LE + "ab\0".encode("utf-16-le"), 6),
        ("é\0".encode(), 2),
    ],
)
def test_binary_data_is_refused_with_its_place(tmp_path: Path, content: bytes, offset: int) -> None:
    (tmp_path / "thing").write_bytes(content)
    with pytest.raises(UserError, match=f"thing is not text.* at byte {offset};"):
        scanned(tmp_path / "thing")
    assert not looks_like_text(tmp_path / "thing")


@pytest.mark.parametrize(
    ("content", "offset"),
    [("né".encode() + b" caf\xe9", 7), (codecs.BOM_UTF8 + b"caf\xe9", 6), ("né".encode() * 3 + b"\xc3", 9)],
)
@pytest.mark.parametrize("block_bytes", [1, 4, 1 << 20])
def test_damaged_utf8_is_not_taken_for_another_encoding(
    tmp_path: Path, content: bytes, offset: int, block_bytes: int
) -> None:
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(UserError, match=rf"begins as UTF-8.* at byte {offset} "):
        scanned(tmp_path / "text", block_bytes)


def test_some_control_characters_do_not_make_a_text_binary(tmp_path: Path) -> None:
    (tmp_path / "text").write_text("a page\f\x1b[1mbold\x1b[0m \x07 and so on and on and on and on\n" * 3)
    assert scanned(tmp_path / "text")[0].codec == "utf-8"


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"absent\.txt cannot be read"):
        scanned(tmp_path / "absent.txt")
    with pytest.raises(UserError, match="Is a directory"):
        scanned(tmp_path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="not a regular file"):
        scanned(tmp_path / "pipe")


def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    path = tmp_path / "secret.txt"
    path.write_text("x")
    path.chmod(0)
    privileged = os.geteuid() == 0  # the superuser reads everything: be somebody else for a moment
    if privileged:
        os.seteuid(65534)
    try:
        with pytest.raises(UserError, match=r"secret\.txt cannot be read .*Permission denied.*check"):
            scanned(path)
    finally:
        if privileged:
            os.seteuid(0)


def test_a_file_that_changed_between_the_readings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("one line\n")
    file, _ = scanned(path)
    path.write_text("one line\nand another\n")
    with pytest.raises(UserError, match="changed while"):
        list(read([file]))
