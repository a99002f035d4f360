"""Formatting of text and numbers for the terminal, and the characters that a terminal can show."""

import codecs
import math
from collections.abc import Mapping
from functools import cache

CONSOLES = ("linux", "screen.linux", "tmux.linux")  # TERM of a console, whose font has 256 or 512 characters


def printable(text: str) -> str:
    """Return `text` with visible replacements for control characters and for those that hide or reorder text.

    Newline and tab are not replaced.
    """
    return text.translate(_visible())


def token_text(token: bytes, most: int | None = None) -> str:
    r"""Return a token's text in one line of printable characters.

    What is not UTF-8 is shown as \xe2, a line feed as \n, a tab as \t, a carriage return as \r, a backslash twice, an
    invisible character as \u200b. most: cut a longer text at so many characters, with an ellipsis.
    """
    if most is not None and len(token) > most:
        whole = token_text(token[: 4 * most + 4])  # a character more, of four bytes at most
        return f"{whole[:most]}…" if len(whole) > most else whole
    text = token.replace(b"\\", b"\\\\").decode("utf-8", "backslashreplace")
    text = printable(text.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r"))
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("ascii", "backslashreplace").decode() for c in text)


@cache
def _visible() -> dict[int, str]:
    controls = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}  # ␀ to ␟
    c1 = {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}
    layout = (0x200E, 0x200F, 0x061C, 0x2028, 0x2029, 0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    surrogates = dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")
    return {**controls, 0x7F: "␡", **c1, **{code: f"\\u{code:04x}" for code in layout}, **surrogates}


def significant(value: float) -> str:
    """Return a number with at least two significant digits and no exponent: 0.069, 1.3, 42.0, 1,302."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    decimals = 0 if abs(value) >= 100 else max(1, 1 - math.floor(math.log10(abs(value))))
    return f"{value:,.{decimals}f}"


def counted(count: int, noun: str) -> str:
    """Return a count with its noun, which gets an s in the plural: 1 token, 2,000 tokens."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def duration(seconds: float | None) -> str:
    """Return a duration as 12:41, 3:07:09 or 4 d 02 h; – if it is not known."""
    if seconds is None or seconds != seconds or seconds < 0 or seconds == float("inf"):
        return "–"
    whole = int(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02}"
    if whole < 86400:
        return f"{whole // 3600}:{whole // 60 % 60:02}:{whole % 60:02}"
    return f"{whole // 86400} d {whole // 3600 % 24:02} h"


def supports_unicode(encoding: str | None) -> bool:
    """Return whether an encoding has the characters of charts (braille, blocks)."""
    try:
        return codecs.lookup(encoding or "ascii").name.startswith("utf")
    except LookupError:
        return False


def default_glyphs(environment: Mapping[str, str], encoding: str | None) -> str:
    """Return the default characters of charts in a terminal: "braille" or "ascii".

    It is "ascii" if the font has few other characters (the Linux console) or `encoding` has none.
    """
    return "braille" if supports_unicode(encoding) and environment.get("TERM") not in CONSOLES else "ascii"
