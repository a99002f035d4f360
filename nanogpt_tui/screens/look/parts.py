"""What the views of the Look screen share: cells of one width, columns side by side, and the line of tokens."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import TYPE_CHECKING

from rich.cells import cell_len, set_cell_size
from textual.content import Content
from textual.style import Style

from nanogpt_tui.text import short
from nanogpt_tui.token_views import visible

if TYPE_CHECKING:
    from nanogpt.tokenizers.base import Tokenizer

GAP = 3  # columns between two parts of a view
NO_LETTER = "◌"  # what Unicode shows combining marks on


@dataclass(frozen=True, slots=True)
class Frame:
    """What a view is drawn for: the tokens of the prompt, what is chosen, and the size in cells."""

    labels: tuple[str, ...]
    token: int
    layer: int
    head: int
    width: int
    height: int
    ascii_only: bool

    def sized(self, width: int, height: int) -> "Frame":
        """Return the same with another size."""
        return replace(self, width=max(1, width), height=max(1, height))


def fit(text: str, width: int) -> str:
    """Return `text` in exactly `width` cells, cut with an ellipsis or padded."""
    return set_cell_size(short(text, width), width)


def token_label(tokenizer: "Tokenizer", id: int, ascii_only: bool) -> str:
    """Return the text of a token in one line and at least one cell, with visible white space.

    A token of combining marks alone, which have no cell of their own, has a dotted circle below them.
    """
    shown = visible(tokenizer.token_bytes(id).decode("utf-8", "replace"), ascii_only)
    if cell_len(shown):
        return shown
    return f"{NO_LETTER}{shown}" if shown else "…"


def quoted(text: str) -> str:
    """Return a token's text in quotes."""
    return f"“{text}”"


def first_shown(at: int, shown: int, total: int) -> int:
    """Return the first of `shown` of `total` places, so that place `at` is among them, in the middle if possible."""
    return max(0, min(at - shown // 2, total - shown))


def short_layers(names: Sequence[str]) -> list[str]:
    """Return the names of layers without the end that all have in common: h.0 for h.0.attn."""
    parts = [name.split(".") for name in names]
    while len(parts) > 1 and all(len(each) > 1 for each in parts) and len({each[-1] for each in parts}) == 1:
        parts = [each[:-1] for each in parts]
    return [".".join(each) for each in parts]


def beside(left: Sequence[Content], right: Sequence[Content], width: int) -> list[Content]:
    """Return lines with `left`, in `width` cells, and `right` beside it."""
    return [
        Content.assemble(one, " " * max(0, width + GAP - one.cell_length), other)
        for one, other in zip_longest(left, right, fillvalue=Content())
    ]


def clickable(content: Content, action: str) -> Content:
    """Return `content` with an action of the screen that a click runs."""
    return content.stylize(Style.from_meta({"act": action}))


def bars(rows: Sequence[tuple[str, float, str]], width: int, chosen: int = -1) -> list[Content]:
    """Return for each (label, share, figure) a line with a bar in which a share of 1 is full. `chosen` is a row."""
    label = max((cell_len(text) for text, _, _ in rows), default=0)
    figures = max((len(figure) for _, _, figure in rows), default=0)
    room = max(4, width - label - figures - 2)
    return [
        Content.assemble(
            (fit(text, label) + " ", "bold $foreground" if at == chosen else "$foreground"),
            (f"{'━' * round(min(1.0, max(0.0, share)) * room):<{room}}", "$accent"),
            (f" {figure:>{figures}}", "$foreground" if at == chosen else "$quiet"),
        )
        for at, (text, share, figure) in enumerate(rows)
    ]


def token_lines(labels: Sequence[str], cursor: int, width: int, marks: Sequence[str] = ()) -> list[Content]:
    """Return two lines: the tokens, of which those around the cursor are shown, and a mark below each of them.

    `marks` are characters, one for each token; the token under the cursor has a pointer.
    """
    widths = [cell_len(label) for label in labels]
    first = 0
    if sum(widths) > width:
        first = cursor
        while first > 0 and sum(widths[first - 1 : cursor + 1]) <= width * 2 // 3:
            first -= 1
        while first > 0 and sum(widths[first - 1 :]) <= width:
            first -= 1
    tokens: list[Content] = []
    below: list[tuple[str, str]] = []
    used = 0
    for at in range(first, len(labels)):
        if used + widths[at] > width:
            break
        used += widths[at]
        style = "bold reverse" if at == cursor else "$foreground"
        tokens.append(clickable(Content.styled(labels[at], style), f"token_at({at})"))
        mark = "▲" if at == cursor else marks[at] if at < len(marks) else " "
        below.append((mark * widths[at] if at != cursor else f"{mark:<{widths[at]}}", "$accent"))
    return [Content.assemble(*tokens), Content.assemble(*below)]
