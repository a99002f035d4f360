r"""The patterns that cut a text into pieces, inside which byte pairs are merged. Knows nothing of vocabularies.

Both leave the last of several blanks to the word after them, for which they look ahead, `\s+(?!\S)`; and a matcher that
looks ahead goes back and forth, for longer than all merging takes. `marked` finds those places with numpy instead and
puts a mark there, a piece of its own, so that a pattern without looking ahead cuts the text alike. Tests hold the two
ways against each other.
"""

GPT2 = r"""'(?:[sdmt]|ll|ve|re)| ?\p{L}++| ?\p{N}++| ?[^\s\p{L}\p{N}]++|\s++$|\s+(?!\S)|\s"""
GPT4 = (
    r"""'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|\p{N}{1,3}+| ?[^\s\p{L}\p{N}]++[\r\n]*+"""
    r"""|\s++$|\s*[\r\n]|\s+(?!\S)|\s"""
)

MARK = "\0"
OF_MARKED = {  # for each pattern the one that cuts a marked text at the same places, and at the marks
    GPT2: r"""\x00|'(?:[sdmt]|ll|ve|re)| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}\x00]+|\s+""",
    GPT4: (
        r"""\x00|'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}\x00]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}\x00]+[\r\n]*"""
        r"""|\s+$|\s*[\r\n]|\s+"""
    ),
}
RARE_BLANKS = (
    "\x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)


def marked(text: str, pattern: str) -> str | None:
    """The text with a mark before the last of several blanks that anything else follows, for `OF_MARKED[pattern]`.

    In GPT-4's pattern the blanks up to a line's end are one piece, so only those after it count. None for a text that
    has the mark already. Raises UnicodeEncodeError for half a surrogate pair.
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
