"""Text files of unknown encoding: what they are read as, and what is refused."""

import bz2
import codecs
import gzip
import hashlib
import io
import lzma
import os
import random
import re
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from backports import zstd

from nanogpt.data.encodings import codec_name
from nanogpt.data.text import SEPARATOR, Alphabet, TextFile, exclusion_reason, read, scan
from nanogpt.errors import UserError

TEXT = "naïve café — “quoted”\r\nsecond line\n"


def scanned(path: Path, block_bytes: int = 1 << 20, encoding: str | None = None) -> tuple[TextFile, str]:
    """The file and its alphabet."""
    alphabet = Alphabet()
    reading = scan(path, alphabet, len, block_bytes, encoding)
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
    assert sum(scan(tmp_path / "text", Alphabet(), digest.update, 64)) == len(content)
    assert digest.hexdigest() == hashlib.sha256(content).hexdigest()


def test_files_are_joined_by_a_separator(tmp_path: Path) -> None:
    for name in "ab":
        (tmp_path / name).write_text(name)
    assert "".join(read([scanned(tmp_path / name)[0] for name in "ab"])) == f"a{SEPARATOR}b"


@pytest.mark.parametrize(
    ("content", "offset"),
    [
        (b"plain text\0more", 10),
        (b"caf\xe9 \x81\0", 6),  # 0x81 stands for nothing in Windows-1252
        (b"fine\x01\x02\x03\x04", 4),
        (codecs.BOM_UTF16_LE + "ab\0".encode("utf-16-le"), 6),
        ("é\0".encode(), 2),
    ],
)
def test_binary_data_is_refused_with_its_place(tmp_path: Path, content: bytes, offset: int) -> None:
    (tmp_path / "thing").write_bytes(content)
    with pytest.raises(UserError, match=f"thing is not text.* at byte {offset};"):
        scanned(tmp_path / "thing")
    assert exclusion_reason(tmp_path / "thing") == "not text"


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


@pytest.mark.usefixtures("unprivileged")
def test_a_file_without_permission_is_named(tmp_path: Path) -> None:
    path = tmp_path / "secret.txt"
    path.write_text("x")
    path.chmod(0)
    with pytest.raises(UserError, match=r"secret\.txt cannot be read .*permission denied.*check"):
        scanned(path)


def test_a_file_that_changed_between_the_readings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("one line\n")
    file, _ = scanned(path)
    path.write_text("one line\nand another\n")
    with pytest.raises(UserError, match="changed while"):
        list(read([file]))


def test_a_change_of_the_same_length_between_the_readings_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "log.txt"
    path.write_text("one line\n")
    file, _ = scanned(path)
    path.write_text("two line\n")
    os.utime(path, ns=(0, file.stamp[1] + 1))  # a clock may tick only every few milliseconds
    with pytest.raises(UserError, match="changed while"):
        list(read([file]))


@pytest.mark.parametrize("more", [b"", b"and more"])
def test_a_change_while_a_file_is_read_is_refused(tmp_path: Path, more: bytes) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"a line\n" * 100)
    scanning = scan(path, Alphabet(), len, 70)
    next(scanning)
    path.write_bytes(b"A line\n" * 100 + more)
    os.utime(path, ns=(0, path.stat().st_mtime_ns + 1))
    with pytest.raises(UserError, match="changed while"):
        list(scanning)


def test_a_file_that_grows_while_it_is_read_again_is_refused_before_more_of_it_is_given(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "log.txt"
    path.write_bytes(b"a line\n" * 100)
    file, _ = scanned(path)
    monkeypatch.setattr("nanogpt.data.text.BLOCK_BYTES", 70)
    reading = read([file])
    given = [next(reading)]
    with path.open("ab") as log:
        log.write(b"and more\n" * 100)
    with pytest.raises(UserError, match="changed while"):
        given.extend(reading)
    assert len("".join(given)) <= 700


@pytest.mark.parametrize("block_bytes", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    ("text", "encoding", "codec"),
    [
        ("道可道，非常道。" * 9, "GBK", "gbk"),
        ("道可道，非常道。" * 9, "gb18030", "gb18030"),
        ("吾輩は猫である。" * 9, "Shift_JIS", "shift_jis"),
        ("吾輩は猫である。" * 9, "iso-2022-jp", "iso2022_jp"),
        ("吾輩は猫である。" * 9, "utf-16-be", "utf-16-be"),
        ("Все счастливые семьи" * 9, "koi8-r", "koi8-r"),
        ("naïve café", "latin1", "iso8859-1"),
        ("naïve café", "utf-8", "utf-8"),
        ("naïve café", "utf-8-sig", "utf-8"),
        ("naïve café", "utf-16", "utf-16-le"),
    ],
)
def test_what_is_said_to_be_in_an_encoding_is_read_as_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, encoding: str, codec: str, block_bytes: int
) -> None:
    (tmp_path / "text").write_bytes(text.encode(encoding))
    file, alphabet = scanned(tmp_path / "text", block_bytes, encoding)
    monkeypatch.setattr("nanogpt.data.text.BLOCK_BYTES", block_bytes)
    assert (file.codec, alphabet) == (codec, "".join(sorted(set(text))))
    assert "".join(read([file])) == text
    if codec != "utf-8":
        assert file.excerpt == (text if text.isascii() else text[:40])


@pytest.mark.parametrize("block_bytes", [1, 3, 1 << 20])
@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"a name \x81", "is not GBK: 0x81 at byte 7"),
        ("é".encode() * 50 + b"\xff", "is not GBK: 0xff at byte 100"),
    ],
)
def test_what_is_not_in_the_encoding_that_it_is_said_to_be_in_is_refused(
    tmp_path: Path, content: bytes, complaint: str, block_bytes: int
) -> None:
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(UserError, match=complaint):
        scanned(tmp_path / "text", block_bytes, "gbk")


@pytest.mark.parametrize("encoding", ["gkb", "rot13", "idna", "utf-7", "", "a\0b", "é"])
def test_what_is_no_encoding_is_refused(encoding: str) -> None:
    with pytest.raises(UserError, match="no such encoding"):
        codec_name(encoding)


@pytest.mark.parametrize("block_bytes", [1, 7, 1 << 20])
@pytest.mark.parametrize(
    ("content", "excerpt"),
    [
        (
            b"We went to the caf\xe9 on the corner, all of us together",
            "to the café on the corner, all of us together"[:40],
        ),
        (b"plain text that was cut off in a caf\xc3", "f in a cafÃ"),
        (b"plain text with one \xff in it, and no more than that", "with one ÿ in it, and no more than that"),
    ],
)
def test_how_a_text_reads_as_windows_1252_is_kept_for_a_person_to_judge(
    tmp_path: Path, content: bytes, excerpt: str, block_bytes: int
) -> None:
    (tmp_path / "text").write_bytes(content)
    file, _ = scanned(tmp_path / "text", block_bytes)
    assert (file.codec, file.detected) == ("cp1252", False)
    assert file.excerpt.strip() == excerpt.strip()


@pytest.mark.parametrize("block_bytes", [1, 7, 1 << 20])
def test_utf8_with_a_bad_byte_after_plain_ascii_is_not_taken_for_another_encoding(
    tmp_path: Path, block_bytes: int
) -> None:
    content = b"plain ascii \xff, and then: " + "naïve café\n".encode() * 3
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(UserError, match=r"is mostly UTF-8, but 0xff at byte 12 is not"):
        scanned(tmp_path / "text", block_bytes)
    assert scanned(tmp_path / "text", block_bytes, "cp1252")[0].codec == "cp1252"  # where the person says so


@pytest.mark.parametrize("block_bytes", [1, 7, 1 << 20])
@pytest.mark.parametrize("before", ["", "plain lines\n" * 9000], ids=["from the start", "after 100 kB of ASCII"])
@pytest.mark.parametrize(
    ("text", "encoding", "codec"),
    [
        ("道可道，非常道。名可名，非常名。", "gbk", "gb18030"),
        ("道可道，非常道。名可名，非常名。", "big5", "big5"),
        ("吾輩は猫である。名前はまだ無い。", "shift_jis", "shift_jis"),
        ("吾輩は猫である。名前はまだ無い。", "euc-jp", "euc_jp"),
        ("모든 국민은 법 앞에 평등하다. 누구든지", "euc-kr", "cp949"),
        ("Все счастливые семьи похожи друг на друга", "koi8-r", "koi8-r"),
        ("Все счастливые семьи похожи друг на друга", "cp1251", "cp1251"),
        ("Όλοι οι άνθρωποι γεννιούνται ελεύθεροι", "iso8859-7", "iso8859-7"),
    ],
)
def test_another_encoding_is_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, encoding: str, codec: str, before: str, block_bytes: int
) -> None:
    if before and block_bytes < 100:
        block_bytes = (1 << 16) - block_bytes  # such a block ends within the text or shortly before it
    text = before + f"{text}\n" * 9
    (tmp_path / "text").write_bytes(text.encode(encoding))
    file, alphabet = scanned(tmp_path / "text", block_bytes)
    monkeypatch.setattr("nanogpt.data.text.BLOCK_BYTES", block_bytes)
    assert (file.codec, file.detected, alphabet) == (codec, True, "".join(sorted(set(text))))
    assert "".join(read([file])) == text


@pytest.mark.parametrize("block_bytes", [1, 3, 1 << 20])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be"])
@pytest.mark.parametrize("text", ["It was the best of times,\n", "道可道，非常道。\n", "Все счастливые семьи\n"])
def test_utf_16_without_a_byte_order_mark_is_detected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str, encoding: str, block_bytes: int
) -> None:
    text *= 9
    (tmp_path / "text").write_bytes(text.encode(encoding))
    file, _ = scanned(tmp_path / "text", block_bytes)
    monkeypatch.setattr("nanogpt.data.text.BLOCK_BYTES", block_bytes)
    assert (file.codec, file.detected) == (encoding, True)
    assert "".join(read([file])) == text


@pytest.mark.parametrize(
    ("content", "reads"),
    [
        ("吾輩は猫である。".encode("shift_jis"), "shift_jis reads “吾輩は猫である。”"),
        ("道可道，".encode("gbk"), "gb18030 reads “道可道，”"),
        ("Все они".encode("koi8-r"), "koi8-r reads “Все они”"),
    ],
)
def test_too_short_a_text_in_another_encoding_is_refused_with_what_it_may_be(
    tmp_path: Path, content: bytes, reads: str
) -> None:
    (tmp_path / "text").write_bytes(content)
    with pytest.raises(
        UserError, match="is not UTF-8, and its encoding is not certain: set it with --encoding=NAME"
    ) as error:
        scanned(tmp_path / "text")
    assert reads in str(error.value)
    assert "\n" not in str(error.value)
    assert exclusion_reason(tmp_path / "text") == "encoding not certain"


@pytest.mark.parametrize("lowest", [0x20, 0x80])
def test_random_bytes_are_in_no_encoding(tmp_path: Path, lowest: int) -> None:
    (tmp_path / "noise").write_bytes(bytes(random.Random(1).choices(range(lowest, 256), k=20_000)))
    with pytest.raises(UserError, match=r"not UTF-8|is not text"):
        scanned(tmp_path / "noise")


def test_bytes_that_the_detected_encoding_does_not_have_are_refused(tmp_path: Path) -> None:
    content = "道可道，非常道。名可名，非常名。\n".encode("gbk") * 20_000  # more than is looked at
    (tmp_path / "text").write_bytes(content + b"\xff\xff")
    with pytest.raises(
        UserError, match=f"looks like GB18030, but 0xff at byte {len(content)} is not: set its encoding"
    ):
        scanned(tmp_path / "text")


def archived(how: str) -> bytes:
    """A small archive of some text."""
    into = io.BytesIO()
    if how == "tar":
        with tarfile.open(fileobj=into, mode="w") as archive:
            archive.addfile(tarfile.TarInfo("a.txt"))
    else:
        with zipfile.ZipFile(into, "w") as archive:
            archive.writestr("[Content_Types].xml" if how == "docx" else "a.txt", "some text")
    return into.getvalue()


@pytest.mark.parametrize(
    ("content", "hint"),
    [
        (gzip.compress(archived("tar"), mtime=0), "a tar archive: unpack it first"),
        (archived("tar"), "a tar archive: unpack it first"),
        (archived("zip"), "a zip archive: unpack it first"),
        (archived("docx"), "an office document or an e-book: save it as plain text"),
        (b"%PDF-1.4\nall of it is ASCII\n", "a PDF: convert it first, with `pdftotext FILE`"),
        (b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR", "an image: give a text file"),
        (b"\x7fELF\x02\x01\x01\0\0\0\xff\x81", "a program: give a text file"),
        (b"PAR1\x15\x04\x15", "a Parquet table: rename it to FILE.parquet"),
    ],
)
@pytest.mark.parametrize("encoding", [None, "cp1252", "utf-16"])
def test_a_file_that_is_not_text_is_called_what_it_is(
    tmp_path: Path, content: bytes, hint: str, encoding: str | None
) -> None:
    (tmp_path / "thing").write_bytes(content)
    with pytest.raises(UserError) as refused:
        scanned(tmp_path / "thing", encoding=encoding)
    assert f"thing is not text but {hint}" in str(refused.value)
    assert exclusion_reason(tmp_path / "thing", encoding) == "not text"


@pytest.mark.parametrize("compress", [gzip.compress, bz2.compress, lzma.compress, zstd.compress])
def test_a_compressed_text_is_read_as_what_it_has(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, compress: Callable[[bytes], bytes]
) -> None:
    monkeypatch.setattr("nanogpt.data.text.BLOCK_BYTES", 7)
    path = tmp_path / "a.txt.gz"
    path.write_bytes(compress(TEXT.encode("cp1252")) + compress(TEXT.encode("cp1252")))  # two parts, as `cat` makes
    file, alphabet = scanned(path, 7)
    assert (file.codec, file.text_bytes, alphabet) == ("cp1252", 2 * len(TEXT), "".join(sorted(set(TEXT))))
    assert "".join(read([file])) == TEXT * 2
    assert sum(scan(path, Alphabet(), len)) == path.stat().st_size


@pytest.mark.parametrize("name", ["mem", "attr/current"])
def test_a_file_that_opens_and_cannot_be_read_is_named(name: str) -> None:
    path = Path("/proc/self", name)
    try:
        path.read_bytes()
    except OSError as error:
        if not path.is_file():
            pytest.skip(f"this system has no {path}")
        with pytest.raises(UserError, match=re.escape(f"{path} cannot be read ({error.strerror})")):
            scanned(path)
        assert exclusion_reason(path) == "cannot be read"
    else:
        pytest.skip(f"this system lets {path} be read")
