"""Decoding of bytes to text, block by block, and detection of the encoding if the user does not give it.

A text is read as UTF-8, in the encoding of its byte order mark, in the one that `nanogpt.data.detection` is certain of,
or else, if it looks western European, as Windows-1252. An excerpt lets the user judge.
"""

import codecs
from collections.abc import Callable
from pathlib import Path

from nanogpt.data.binaries import MAX_CONTROL_SHARE, binary_error, count_controls, find_binary
from nanogpt.data.detection import CANDIDATES, SAMPLE_BYTES, detect
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
_FROM_THE_START = ("utf-16", "utf-32", "iso2022")  # in these, bytes of ASCII are not ASCII characters
_ASCII = bytes(range(128))
# A text is damaged UTF-8 if at least this share of its non-ASCII bytes is valid UTF-8. The second is for a text whose
# first characters outside ASCII are valid: of GBK and EUC-KR, a tenth is by chance.
_DAMAGED, _BROKEN = 0.75, 0.5


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


class UncertainEncoding(UserError):
    """The encoding of a text was not given, and its bytes do not say with certainty which it is."""


class Decoder:
    """A decoder for the blocks of a file, in order.

    start: the first bytes, at least `HEAD_BYTES` if there are so many. peek: returns bytes that follow the block that
    is decoded, without reading them. Without an `encoding`, what is not UTF-8 is read in the encoding that `detect`
    is certain of, or as Windows-1252. Raise `UncertainEncoding` if the text is neither.

    `codec` is the codec in use, `detected` whether it was found by `detect`, `offset` the number of bytes decoded so
    far, and `excerpt` the decoded text around the first characters outside ASCII.
    """

    def __init__(self, path: Path, start: bytes, encoding: str | None, peek: Callable[[], bytes] = bytes) -> None:
        self.codec, self.offset = detect_encoding(start, encoding)
        self.mark_bytes = self.offset
        self.excerpt, self.detected = "", False
        self._path, self._asked, self._peek = path, encoding is not None, peek
        if not self._asked and not self.mark_bytes:
            self._set_codec(self._detect_at_start(start[:SAMPLE_BYTES]))
        self._decoder = codecs.getincrementaldecoder(self.codec)()
        self._pure_ascii, self._before = True, b""
        # For a text that is read as Windows-1252: the byte that is not UTF-8, and how much of the rest is.
        self._not_utf8 = ""
        self._as_utf8 = codecs.getincrementaldecoder("utf-8")("ignore")
        self._high_bytes = self._utf8_bytes = 0

    def _set_codec(self, codec: str) -> None:
        self.codec, self.detected = codec, codec not in ("utf-8", "cp1252")

    def _detect_at_start(self, start: bytes) -> str:
        """Return the codec of a text that begins with these bytes and has no byte order mark.

        It is UTF-8 if that is possible, or if the decoder is to decide at the first byte that is not UTF-8.
        """
        try:
            codecs.getincrementaldecoder("utf-8")().decode(start)
            valid = start
        except UnicodeDecodeError as error:
            valid = start[: error.start]
        has_escapes = b"\x1b$" in start  # ISO-2022 is ASCII with escape sequences
        if len(valid) == len(start) and b"\0" not in start and not has_escapes:
            return "utf-8"
        found = detect(start)
        if found.is_certain and found.candidates[0].codec.startswith(_FROM_THE_START):
            return found.candidates[0].codec
        if valid.isascii() or _utf8_share(start) >= _BROKEN:
            return "utf-8"
        return self._detect(start)

    def _detect(self, sample: bytes) -> str:
        """Return the codec of a text that is not UTF-8. Raise `UncertainEncoding`."""
        found = detect(sample)
        if found.is_certain:
            return found.candidates[0].codec
        if found.is_latin or not found.candidates:
            return "cp1252"
        reads = "; ".join(f"{each.codec} reads “{_excerpt(each.text)}”" for each in found.candidates[:CANDIDATES])
        raise UncertainEncoding(
            f"{self._path} is not UTF-8, and its encoding is not certain: set it with --encoding=NAME ({reads})"
        )

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
            if self.detected:
                raise UncertainEncoding(
                    f"{self._path} looks like {display_name(self.codec)}, but {byte} is not: {ADVICE}"
                ) from error
            # So far the text was ASCII, which is the same in the encodings that are detected here.
            undecided = self.codec == "utf-8" and not self.mark_bytes and self._pure_ascii
            if not undecided or not error.object[: error.start].isascii():
                raise UserError(_broken(self._path, f"begins as {display_name(self.codec)}", byte)) from error
            line = error.object.rfind(b"\n", 0, error.start) + 1
            sample = (error.object[line : line + SAMPLE_BYTES] + self._peek())[:SAMPLE_BYTES]
        is_text = b"\0" not in sample and count_controls(sample) <= MAX_CONTROL_SHARE * len(sample)
        if is_text and _utf8_share(sample) < _DAMAGED:
            self._set_codec(self._detect(sample))
        else:
            self.codec = "cp1252"  # what is wrong with it shows when it is read
        self._not_utf8 = "" if self.detected else byte
        self._decoder = codecs.getincrementaldecoder(self.codec)()
        if self.detected:
            return self._decoded(held + block, b"", final)
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


def _utf8_share(data: bytes) -> float:
    """Return the share of the bytes outside ASCII that are part of valid UTF-8."""
    valid = codecs.getincrementaldecoder("utf-8")("ignore").decode(data).encode().translate(None, _ASCII)
    return len(valid) / max(1, len(data.translate(None, _ASCII)))


def _excerpt(text: str) -> str:
    """Return the text around the first character outside ASCII, in one line."""
    first = next((place for place, character in enumerate(text) if character > "\x7f"), 0)
    return " ".join(text[max(0, first - CONTEXT) :][:EXCERPT].split())


def _broken(path: Path, what: str, byte: str) -> str:
    return (
        f"{path} {what}, but {byte} is not: fix it (`iconv -c -f UTF-8 -t UTF-8 FILE` removes invalid bytes), or "
        f"set its encoding with --encoding=NAME"
    )
