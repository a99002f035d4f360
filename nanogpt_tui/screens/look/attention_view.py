"""The attention view: every head as a tiny heat map, and the chosen one large. Pure functions of an inspection."""

from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len
from textual.content import Content

from nanogpt_tui.screens.look.parts import (
    GAP,
    Frame,
    bars,
    beside,
    clickable,
    first_shown,
    fit,
    quoted,
    short_layers,
)
from nanogpt_tui.text import short
from nanogpt_tui.widgets.shades import shade_legend, shade_lines

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanogpt.inspection.attention import HeadScores
    from nanogpt_tui.session.inspector import AttentionFound

SHORT_KINDS = {"previous token": "prev", "first token": "first", "induction": "ind"}
MIN_TILE, MAX_TILE = 4, 14  # columns of a tiny heat map
MIN_TILE_ROWS = 2
TILES_SHARE = 0.42  # of the width at most
LABEL = 6  # columns of a token beside the large heat map
LOOKED_AT = 5  # tokens that are listed below it


def attention_view(found: "AttentionFound", frame: Frame) -> Content:
    """Return the view in the size of the frame."""
    tiles = _tiles(found, frame.sized(int(frame.width * TILES_SHARE), frame.height))
    left = max(line.cell_length for line in tiles)
    large = _large(found, frame.sized(frame.width - left - GAP, frame.height))
    return Content("\n").join(beside(tiles, large, left)[: frame.height])


def heat(weights: "NDArray[np.float32]", columns: int, rows: int, ascii_only: bool) -> list[str]:
    """Return attention weights (T, T) as `rows` lines of shades, each the largest weight of its part."""
    down, across = (
        np.arange(count) * total // count for count, total in zip((rows, columns), weights.shape, strict=True)
    )
    largest = np.maximum.reduceat(np.maximum.reduceat(weights, down, 0), across, 1)  # (rows, columns)
    return shade_lines(largest, ascii_only)


def caption(head: int, scores: "HeadScores | None", width: int) -> str:
    """Return the number of a head and the kind that it has, in `width` cells."""
    kind = SHORT_KINDS.get(scores.kind, scores.kind) if scores is not None else ""
    whole = f"{head} {kind}".rstrip()
    return whole if len(whole) <= width else f"{head}{kind[:1]}"


def _tiles(found: "AttentionFound", frame: Frame) -> list[Content]:
    layer, head, width, height = frame.layer, frame.head, frame.width, frame.height
    names = short_layers([each.name for each in found.layers])
    label = max(map(len, names)) + 1
    heads = max(len(each.weights) for each in found.layers)
    shown = max(1, min(heads, (width - label) // (MIN_TILE + 1)))
    columns = max(MIN_TILE, min(MAX_TILE, (width - label) // shown - 1))
    rows = max(MIN_TILE_ROWS, min(columns // 2, height // len(names) - 1))
    shown_layers = max(1, min(len(names), height // (rows + 1)))
    first_layer, first_head = first_shown(layer, shown_layers, len(names)), first_shown(head, shown, heads)
    lines: list[Content] = []
    for at in range(first_layer, first_layer + shown_layers):
        attention = found.layers[at]
        numbers = range(first_head, min(first_head + shown, len(attention.weights)))
        maps = {number: heat(attention.weights[number], columns, rows, frame.ascii_only) for number in numbers}
        captions = [Content.styled(fit(names[at], label), "$quiet")]
        for number in numbers:
            is_chosen = (at, number) == (layer, head)
            text = caption(number, found.scores.get((attention.name, number)), columns - is_chosen)
            part = fit(f"▸{text}" if is_chosen else text, columns) + " "
            style = "bold $accent" if is_chosen else "$foreground"
            captions.append(clickable(Content.styled(part, style), f"head_at({at}, {number})"))
        lines.append(Content.assemble(*captions))
        chosen = label + (head - first_head) * (columns + 1)  # its first column
        for row in range(rows):
            line = Content.styled(" " * label + "".join(maps[number][row] + " " for number in numbers), "$quiet")
            lines.append(line.stylize("$accent", chosen, chosen + columns) if at == layer else line)
    return lines


def _large(found: "AttentionFound", frame: Frame) -> list[Content]:
    labels, cursor, head, width, height = frame.labels, frame.token, frame.head, frame.width, frame.height
    attention = found.layers[frame.layer]
    weights, count = attention.weights[head], len(labels)
    title: list[tuple[str, str]] = [(f"{attention.name} head {head}  ", "bold")]
    scores = found.scores.get((attention.name, head))
    if scores is not None:
        for kind, score in sorted(scores.scores.items(), key=lambda pair: -pair[1]):
            name = kind.removesuffix(" token")
            title.append((f" {name} {score:.2f} ", "bold $accent" if kind == scores.kind else "$quiet"))
    while len(title) > 1 and sum(len(text) for text, _ in title) > width:
        title.pop()
    lines = [Content.assemble(*title)]
    looked_at = LOOKED_AT if height >= 20 else 0
    room = width - LABEL - 3
    cell = 2 if 2 * count <= room else 1
    columns = min(count, room // cell)
    rows = max(1, min(count, height - len(lines) - 2 - (looked_at + 2 if looked_at else 1)))
    first_column = max(0, min(cursor + 2 - columns, count - columns))
    first_row = first_shown(cursor, rows, count)
    shown = range(first_column, first_column + columns)
    heads = "".join(fit(labels[at][:cell], cell) for at in shown)
    lines.append(Content.styled(" " * (LABEL + 3) + heads, "$quiet"))
    part = weights[first_row : first_row + rows, first_column : first_column + columns]
    for row, cells in enumerate(shade_lines(np.repeat(part, cell, axis=1), frame.ascii_only), first_row):
        is_cursor = row == cursor
        lines.append(
            clickable(
                Content.assemble(
                    ("▸ " if is_cursor else "  ", "$accent"),
                    (fit(labels[row], LABEL) + " ", "bold" if is_cursor else "$quiet"),
                    (cells, "bold $accent" if is_cursor else "$accent"),
                ),
                f"token_at({row})",
            )
        )
    lines.append(Content.styled(" " * (LABEL + 3) + shade_legend(frame.ascii_only), "$quiet"))
    order = sorted(range(cursor + 1), key=lambda at: -weights[cursor, at])[: looked_at or 3]
    if not looked_at:
        found_there = "  ".join(f"{quoted(labels[at])} {weights[cursor, at]:.0%}" for at in order)
        name = f"{quoted(labels[cursor])} looks at  "
        lines.append(Content.assemble((name, "$quiet"), short(found_there, max(1, width - cell_len(name)))))
        return lines
    lines += [Content(), Content.styled(f"{quoted(labels[cursor])} looks at", "$quiet")]
    listed = [
        (f"{quoted(labels[at])} {place_text(cursor - at)}", float(weights[cursor, at]), f"{weights[cursor, at]:.0%}")
        for at in order
    ]
    return lines + bars(listed, min(width, 60))


def place_text(back: int) -> str:
    """Return how many tokens before the cursor a token is."""
    return "itself" if back == 0 else f"{back} before"
