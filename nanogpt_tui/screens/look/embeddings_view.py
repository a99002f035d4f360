"""The embeddings: a map of the tokens, and the tokens most like the chosen one. Pure functions of an inspection."""

from typing import TYPE_CHECKING

import numpy as np
from rich.cells import cell_len
from textual.content import Content

from nanogpt_tui.screens.look.parts import GAP, Frame, bars, beside, fit, quoted, token_label

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanogpt.tokenizers.base import Tokenizer
    from nanogpt_tui.session.inspector import EmbeddingsFound

LIST_WIDTH = 34
LABELLED = 400  # tokens of a vocabulary that all have their text on the map; of a larger one only the chosen ones
MAX_LABEL = 10  # columns of a token on the map
DOT = "·"
QUIET, PROMPT, NEAR, CHOSEN = range(4)
STYLES = ("$quiet", "$foreground", "bold $accent", "bold reverse")


def embeddings_view(found: "EmbeddingsFound", tokenizer: "Tokenizer", ids: tuple[int, ...], frame: Frame) -> Content:
    """Return the view in the size of the frame. `ids` are the tokens of the prompt."""
    width = min(LIST_WIDTH, frame.width // 2)
    token = ids[frame.token]
    near = [
        (quoted(token_label(tokenizer, id, frame.ascii_only)), similarity, f"{similarity:.2f}")
        for id, similarity in found.nearest[token]
    ]
    right = [
        Content.styled(fit(f"most like {quoted(frame.labels[frame.token])}", width), "$quiet"),
        *bars(near, width),
        Content(),
        Content.styled("by the cosine of the angle", "$quiet"),
    ]
    left = token_map(found, tokenizer, ids, frame.sized(frame.width - width - GAP, frame.height - 1))
    caption = f"{found.share:.0%} of the variance, in two principal components"
    left.append(Content.styled(fit(caption, frame.width - width - GAP), "$quiet"))
    return Content("\n").join(beside(left, right, frame.width - width - GAP)[: frame.height])


def token_map(found: "EmbeddingsFound", tokenizer: "Tokenizer", ids: tuple[int, ...], frame: Frame) -> list[Content]:
    """Return the map: the chosen token, its neighbours and those of the prompt first, then the others where there is
    room."""
    chosen = ids[frame.token]
    ranks = dict.fromkeys(range(len(found.points)), QUIET) | dict.fromkeys(ids, PROMPT)
    ranks |= {id: NEAR for id, _ in found.nearest[chosen]} | {chosen: CHOSEN}
    columns, rows = places(found.points, frame.width, frame.height)
    grid = [[" "] * frame.width for _ in range(frame.height)]
    styles = np.zeros((frame.height, frame.width), np.int8)
    for id in sorted(ranks, key=lambda id: -ranks[id]):
        row, column = rows[id], columns[id]
        is_labelled = ranks[id] > QUIET or len(ranks) <= LABELLED
        text = token_label(tokenizer, id, frame.ascii_only) if is_labelled else DOT
        if not is_labelled or cell_len(text) > MAX_LABEL or cell_len(text) != len(text):
            text = fit(text, min(cell_len(text), MAX_LABEL)) if is_labelled else DOT
        wide = cell_len(text)
        start = max(0, min(column, frame.width - wide))
        if any(cell != " " for cell in grid[row][max(0, start - 1) : start + wide + 1]):
            text, wide, start = DOT, 1, column
            if grid[row][column] != " ":
                continue
        grid[row][start : start + wide] = [text] + [""] * (wide - 1)
        styles[row, start : start + wide] = ranks[id]
    return [_line(cells, list(map(int, kinds))) for cells, kinds in zip(grid, styles, strict=True)]


def places(points: "NDArray[np.float32]", width: int, height: int) -> tuple[list[int], list[int]]:
    """Return the column and the row of each point (V, 2) in a map of (width, height) cells, the second axis upwards."""
    low, span = points.min(0), np.maximum(np.ptp(points, axis=0), 1e-12)
    share = (points - low) / span
    columns = np.rint(share[:, 0] * (width - 1)).astype(int)
    rows = np.rint((1 - share[:, 1]) * (height - 1)).astype(int)
    return columns.tolist(), rows.tolist()


def _line(cells: list[str], kinds: list[int]) -> Content:
    parts: list[tuple[str, str]] = []
    for cell, kind in zip(cells, kinds, strict=True):
        style = STYLES[kind] if cell.strip() else ""
        if cell and parts and parts[-1][1] == style:
            parts[-1] = (parts[-1][0] + cell, style)
        elif cell:
            parts.append((cell, style))
    return Content.assemble(*parts)
