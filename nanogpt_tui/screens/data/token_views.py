"""Tokens made visible: text in alternating shades, and bars for how frequent some are. Knows no data set."""

import codecs
from collections.abc import Iterable, Iterator

from textual.content import Content

from nanogpt_tui.text import printable

VISIBLE = {"\n": "↵\n", "\t": "→ ", " ": " "}
NAMED = {"\n": "↵", "\t": "→", " ": "␣"}
ASCII_NAMED = {"\n": "\\n", "\t": "\\t", " ": "' '"}


def texts(tokens: Iterable[bytes]) -> Iterator[str]:
    """The text of each token; a character in several tokens stands at its last one, and what is no UTF-8 is U+FFFD."""
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    for token in tokens:
        yield decoder.decode(token)


def shaded(tokens: Iterable[bytes], characters: int, plain: bool, ascii_only: bool) -> Content:
    """The first `characters` of the text, each other token on another ground; `plain`, with other letters instead
    (for terminals whose colours are their own)."""
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


def name(token: bytes, ascii_only: bool) -> str:
    """A token's text with its blanks made visible."""
    names = ASCII_NAMED if ascii_only else NAMED
    return "".join(names.get(letter, letter) for letter in printable(token.decode("utf-8", "replace")))


def bars(common: Iterable[tuple[bytes, float]], width: int, ascii_only: bool) -> Content:
    """A row a token: its text, a bar as long as its share is of the largest, and the share."""
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
