"""Bytes of unknown encoding to text, block by block: UTF-8, what a byte order mark says, else Windows-1252, or what the
person says.

What is read as Windows-1252 may be anything, for nearly every byte is a letter there. The excerpt lets a person judge.
"""

import codecs
from pathlib import Path

from nanogpt.data.binaries import MAX_CONTROL_SHARE, binary_at, controls, first_binary
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
_NO_FILES = ("idna", "punycode", "undefined", "raw_unicode_escape", "unicode_escape", "utf-7")  # but codecs
_SAME = {"utf-8-sig": "utf-8", "utf-16": "utf-16-le", "utf-32": "utf-32-le"}  # without a mark
_ASCII = bytes(range(128))
_DAMAGED = 0.75  # the share of a text's non-ASCII bytes that are whole characters of UTF-8, from which on it is meant


def codec_of(encoding: str) -> str:
    """Return the one name of an encoding that may have many. Raise `SettingError` for what is none."""
    try:
        found = codecs.lookup(encoding)
        known = found._is_text_encoding and found.name not in _NO_FILES and found.incrementaldecoder is not None
    except (LookupError, ValueError):
        known = False
    if not known:
        raise SettingError(
            "encoding",
            f"encoding={encoding}: there is none of that name; common ones are {', '.join(COMMON)}."
            f"{nearest(encoding, COMMON)}",
        )
    return found.name


def spoken(codec: str) -> str:
    """Return the name of a codec as people write it."""
    return "Windows-1252" if codec == "cp1252" else codec.upper()


def begins_as(start: bytes, encoding: str | None) -> tuple[str, int]:
    """Return (the codec of a file that begins with these bytes, the length of its byte order mark).

    What is asked for takes precedence over a mark, but for one of the same family.
    """
    marked, mark_bytes = next(((codec, len(mark)) for mark, codec in _MARKS if start.startswith(mark)), ("utf-8", 0))
    if encoding is None:
        return marked, mark_bytes
    asked = codec_of(encoding)
    if mark_bytes and marked in (asked, _SAME.get(asked), f"{asked}-be"):
        return marked, mark_bytes
    return _SAME.get(asked, asked), 0


class Decoder:
    """Decodes a file's blocks, one after the other: as Windows-1252 where no encoding was given and it is not UTF-8.

    `codec` is what it is read as now, `offset` the bytes of the file that were decoded, and `excerpt` how its first
    letters outside ASCII read.
    """

    def __init__(self, path: Path, start: bytes, encoding: str | None) -> None:
        self.codec, self.offset = begins_as(start, encoding)
        self.mark_bytes = self.offset
        self.excerpt = ""
        self._path, self._asked = path, encoding is not None
        self._decoder = codecs.getincrementaldecoder(self.codec)()
        self._pure_ascii, self._before = True, b""
        # Of a text that is read as Windows-1252: the byte that is not UTF-8, and how much else is.
        self._not_utf8 = ""
        self._as_utf8 = codecs.getincrementaldecoder("utf-8")("ignore")
        self._high_bytes = self._utf8_bytes = 0

    def decode(self, block: bytes, final: bool) -> tuple[bytes, int]:
        """Return (the text of this block in UTF-8, its characters). Raise `UserError` where it is none."""
        held = self._decoder.getstate()[0]
        if not held and self.codec in ("utf-8", "cp1252") and block.isascii():  # most are: nothing to decode
            self.offset += len(block)
            self._quote(block)
            self._judge(block, final)
            return block, len(block)
        text = self._decoded(block, held, final)
        read = len(held) + len(block) - len(self._decoder.getstate()[0])
        self.offset += read
        raw = (held + block)[:read] if self.codec == "utf-8" else text.encode()
        self._pure_ascii = self._pure_ascii and raw.isascii()
        self._quote(raw)
        self._judge((held + block)[:read], final)
        return raw, len(text)

    def _decoded(self, block: bytes, held: bytes, final: bool) -> str:
        try:
            return self._decoder.decode(block, final)
        except UnicodeDecodeError as error:
            byte = f"{error.object[error.start]:#04x} at byte {self.offset + error.start}"
            if self._asked:
                raise UserError(
                    f"{self._path} is not {spoken(self.codec)}: {byte} is none of it; set another encoding"
                ) from error
            # So far all was ASCII, which Windows-1252 reads alike: only from here on does it matter.
            mended = self.codec == "utf-8" and not self.mark_bytes and self._pure_ascii
            if not mended or not error.object[: error.start].isascii():
                raise UserError(_broken(self._path, f"begins as {spoken(self.codec)}", byte)) from error
        self.codec, self._not_utf8 = "cp1252", byte
        self._decoder = codecs.getincrementaldecoder(self.codec)()
        try:
            return self._decoder.decode(held + block, final)
        except UnicodeDecodeError as worse:
            raw = held + block
            if b"\0" in raw or controls(raw) > MAX_CONTROL_SHARE * len(raw):
                raise UserError(binary_at(self._path, self.offset + first_binary(raw))) from worse
            other = f"{worse.object[worse.start]:#04x} at byte {self.offset + worse.start}"
            raise UserError(f"{self._path} is neither UTF-8 ({byte}) nor Windows-1252 ({other}): {ADVICE}") from worse

    def _quote(self, text: bytes) -> None:
        """Add to the excerpt, which begins shortly before the first letter outside ASCII."""
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

    def _judge(self, raw: bytes, final: bool) -> None:
        """Raise `UserError` at the end of a text that is UTF-8 but for a few bytes."""
        if not self._not_utf8:
            return
        if not raw.isascii():
            self._high_bytes += len(raw.translate(None, _ASCII))
            self._utf8_bytes += len(self._as_utf8.decode(raw).encode().translate(None, _ASCII))
        if final and self._utf8_bytes >= _DAMAGED * self._high_bytes:
            raise UserError(_broken(self._path, "is UTF-8 for the most part", self._not_utf8))


def _broken(path: Path, what: str, byte: str) -> str:
    return (
        f"{path} {what}, but {byte} is none: fix it (`iconv -c -f UTF-8 -t UTF-8 FILE` leaves out what is none), or "
        f"set its encoding with --encoding=NAME"
    )
