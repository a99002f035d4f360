"""Views of tokens: a text with every other token shaded, and bars of the most common tokens."""

import codecs
from collections.abc import Iterable, Iterator

from textual.content import Content

from nanogpt_tui.text import printable

# Joiners and variation selectors are left out: terminals disagree on the width of the characters that they combine.
ZERO_WIDTH = frozenset("\u200b\u200c\u200d\u2060\ufe0e\ufe0f")
VISIBLE = {"\n": "↵\n", "\t": "→ "}
NAMED = {"\n": "↵", "\t": "→", " ": "␣"}
ASCII_NAMED = {"\n": "\\n", "\t": "\\t", " ": "' '"}


def texts(tokens: Iterable[bytes]) -> Iterator[str]:
    """Yield the text of each token. A character that spans tokens belongs to the last one; bad UTF-8 is U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in tokens:
        yield decoder.decode(token)


def shaded(tokens: Iterable[bytes], characters: int, plain: bool, ascii_only: bool) -> Content:
    """Return the first `characters` of the text, every other token on another background.

    `plain` changes the colour of the text instead, for themes that use the colours of the terminal.
    """
    odd, even = ("$quiet", "$foreground") if plain else ("$foreground on $panel", "$foreground on $surface")
    newline = "\\n\n" if ascii_only else VISIBLE["\n"]
    parts: list[tuple[str, str]] = []
    length = 0
    for number, text in enumerate(texts(tokens)):
        parts.append((printable(text).replace("\n", newline).replace("\t", VISIBLE["\t"]), odd if number % 2 else even))
        length += len(text)
        if length > characters:
            break
    return Content.assemble(*parts)


def cut_styles(ansi: bool) -> tuple[str, str]:
    """Return the styles of every other token in a text that is cut. ansi: the theme has the terminal's own colours."""
    return ("$foreground", "$quiet") if ansi else ("$foreground on $surface", "$foreground on $rule")


def name(token: bytes, ascii_only: bool) -> str:
    """Return the text of a token with visible white space."""
    names = ASCII_NAMED if ascii_only else NAMED
    return "".join(names.get(letter, letter) for letter in printable(token.decode("utf-8", "replace")))


def visible(text: str, ascii_only: bool = False) -> str:
    """Return the text of a token in one line, with visible spaces, line breaks and tabs."""
    space, newline, tab = ("_", "\\n", "\\t") if ascii_only else ("␣", "↵", "⇥")
    shown = "".join(each for each in printable(text) if each not in ZERO_WIDTH)
    return shown.replace("\n", newline).replace("\t", tab).replace(" ", space)


def bars(common: Iterable[tuple[bytes, float]], width: int, ascii_only: bool) -> Content:
    """Return one row for each token: its text, a bar relative to the most common one, and its share."""
    rows = [(name(token, ascii_only), share) for token, share in common]
    if not rows:
        return Content()
    label = min(12, max(len(text) for text, _ in rows))
    room = max(4, width - label - 9)
    largest = rows[0][1]
    lines = [
        Content.assemble(
            (f"{text[:label]:>{label}} ", "$foreground"),
            (f"{('=' if ascii_only else '━') * max(1, round(share / largest * room)):<{room}}", "$accent"),
            (f" {share:6.1%}", "$quiet"),
        )
        for text, share in rows
    ]
    return Content("\n").join(lines)
