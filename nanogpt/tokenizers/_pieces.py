r"""The patterns that cut a text into pieces, inside which byte pairs are merged.

Both leave the last of several blanks to the word after them, with a look-ahead, `\s+(?!\S)`. A matcher with look-ahead
backtracks, which takes longer than all merging. `insert_marks` finds these places with numpy instead and inserts a mark
there, which is a piece of its own, so that a pattern without look-ahead cuts the text at the same places. Tests compare
the two.
"""

import re

GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
GPT4 = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"""
    r"""|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
)

# A quantifier that gives nothing back, as Oniguruma does not write it: `\p{N}{1,3}+` there repeats the repetition.
_POSSESSIVE = re.compile(r"([+*?]|\{\d+,\d*\})\+")

MARK = "\0"
MARKED_PATTERNS = {  # for each pattern the one that cuts a text with marks at the same places, and at the marks
    GPT2: r"""\x00|'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}\x00]+|\s+""",
    GPT4: (
        r"""\x00|'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}\x00]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}\x00]+[\r\n]*"""
        r"""|\s+$|\s*[\r\n]|\s+"""
    ),
}
RARE_BLANKS = (
    "\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)


def oniguruma(pattern: str) -> str:
    r"""Return the pattern for the matcher of `tokenizers`, in which `$` is also the end of a line."""
    return _POSSESSIVE.sub(r"\1", pattern).replace("$", r"\z")


def insert_marks(text: str, pattern: str) -> str | None:
    """Return the text with a mark before the last of several blanks before a non-blank.

    It is for `MARKED_PATTERNS[pattern]`. In GPT-4's pattern the blanks up to a line's end are one piece, so only those
    after it count. Return None if the text already has the mark. Raise UnicodeEncodeError for half a surrogate pair.
    """
    if MARK in text:
        return None
    import numpy as np

    codes: np.ndarray[tuple[int], np.dtype[np.uint8 | np.uint32]]
    if any(blank in text for blank in RARE_BLANKS):
        codec, codes = "utf-32-le", np.frombuffer(text.encode("utf-32-le"), "<u4")
        blank = np.isin(codes, [ord(blank) for blank in RARE_BLANKS])
    else:
        codec, codes = "utf-8", np.frombuffer(text.encode(), np.uint8)
        blank = np.zeros(len(codes), np.bool_)
    blank |= (codes - 9 < 5) | (codes == 32)  # below 9 the difference is far above 5: it has no sign
    several = blank[:-2] & blank[1:-1]
    if pattern == GPT4:
        inner = blank & (codes != 10) & (codes != 13)
        several = inner[:-2] & inner[1:-1]
    places = np.flatnonzero(several & ~blank[2:]) + 1
    return str(np.insert(codes, places, ord(MARK)).data, codec)
