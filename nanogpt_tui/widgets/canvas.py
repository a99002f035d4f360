"""A grid of character cells with one style each, drawn with dots that are finer than a cell.

Each layer is drawn with numpy as a whole. A later layer replaces the cells that it covers. Styles differ in colour
only, so a blank takes the style of the cell before it, and a row has few segments.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style
from textual.content import Content

BLANK = 0x20
Floats = NDArray[np.float64]
Dots = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Glyphs:
    """The characters for dots: `down` × `across` dots per cell; dot (row, column) is bit `row * across + column` of the
    index into `table`.

    `shade` is the character of a half-tone area, or "" to draw it with every other dot; `bars` are the characters of a
    bar chart, from empty to full.
    """

    down: int
    across: int
    table: NDArray[np.uint32]
    shade: str
    bars: str
    line: str
    diamond: str
    point: str
    cursor: str
    grid: str
    axis: str
    tick: str
    change_line: str
    saved: str
    best: str
    change: str
    uniform: str


def _braille() -> NDArray[np.uint32]:
    # Unicode numbers braille's dots down the left column, then the right one, and the bottom row last
    bits = (0x01, 0x08, 0x02, 0x10, 0x04, 0x20, 0x40, 0x80)
    table = [0x2800 + sum(bit for i, bit in enumerate(bits) if number >> i & 1) for number in range(256)]
    return np.array(table, np.uint32)


def code_points(text: str) -> NDArray[np.uint32]:
    """Return the Unicode code points, (len(text),)."""
    return np.frombuffer(text.encode("utf-32-le"), np.uint32)


# fmt: off
GLYPHS = {
    "braille": Glyphs(
        4, 2, _braille(), "", " ▁▂▃▄▅▆▇█",
        "━", "◆", "●", "│", "┈", "─", "┬", "┊", "△", "▲", "●", "╌",
    ),
    "block": Glyphs(
        2, 2, code_points(" ▘▝▀▖▌▞▛▗▚▐▜▄▙▟█"), "░", " ▁▂▃▄▅▆▇█",
        "━", "◆", "●", "│", "┈", "─", "┬", "┊", "△", "▲", "●", "╌",
    ),
    "ascii": Glyphs(
        3, 1, code_points(" '-|_:||"), ":", " _.-=+*#@", "-", "o", "*", "|", " ", "-", "+", "!", "^", "*", "!", "=",
    ),
}
# fmt: on


def plain(text: str) -> str:
    """Return `text` with one cell per character: a wider, narrower or unprintable character becomes "?"."""
    return "".join(char if char.isprintable() and cell_len(char) == 1 else "?" for char in text)


def spans(top: Floats, bottom: Floats, rows: int) -> Dots:
    """Return (rows, n) dots; column i is filled from row `top[i]` to `bottom[i]`, both included, or empty for NaN."""
    at = np.arange(rows)[:, None]
    return (at >= top) & (at <= bottom)


def polyline(at: Floats, y: Floats, columns: int, rows: int) -> Dots:
    """Return (rows, columns) dots of the line through the points (at[i], y[i]), in dots from the top left.

    `at` must increase; points may be outside. Each column is filled from its own dot half way to its neighbours, so the
    line has no gaps, and is one dot thick unless it is steep.
    """
    known = np.isfinite(y)
    if not known.any():
        return np.zeros((rows, columns), np.bool_)
    row = np.rint(np.interp(np.arange(columns), at[known], y[known], left=np.nan, right=np.nan))
    top, bottom = row.copy(), row.copy()
    with np.errstate(invalid="ignore"):
        left, right, middle = row[:-1], row[1:], np.floor((row[:-1] + row[1:]) / 2)
        falls, rises = right > left, right < left
        bottom[:-1] = np.where(falls, middle, bottom[:-1])
        top[1:] = np.where(falls, middle + 1, top[1:])
        top[:-1] = np.where(rises, np.minimum(top[:-1], middle + 1), top[:-1])
        bottom[1:] = np.where(rises, np.maximum(bottom[1:], middle), bottom[1:])
        return spans(top, bottom, rows)


def pack(dots: Dots, glyphs: Glyphs) -> tuple[NDArray[np.uint32], Dots]:
    """Return the (h, w) code points and a (h, w) mask of the cells with a dot, for (h * down, w * across) dots."""
    height, width = dots.shape[0] // glyphs.down, dots.shape[1] // glyphs.across
    number = np.zeros((height, width), np.uint8)
    for bit in range(glyphs.down * glyphs.across):
        row, column = divmod(bit, glyphs.across)
        number |= dots[row :: glyphs.down, column :: glyphs.across].astype(np.uint8) << bit
    return glyphs.table[number], number > 0


class Canvas:
    """`codes` and `styles` are (height, width): the character of each cell, and the index of its style."""

    def __init__(self, width: int, height: int, glyphs: Glyphs) -> None:
        self.width, self.height, self.glyphs = width, height, glyphs
        self.codes = np.full((height, width), BLANK, np.uint32)
        self.styles = np.zeros((height, width), np.uint8)

    def dots(self, dots: Dots, style: int, x: int = 0, y: int = 0) -> None:
        """Draw a layer of dots with its top left cell at (x, y)."""
        codes, inked = pack(dots, self.glyphs)
        area = np.s_[y : y + codes.shape[0], x : x + codes.shape[1]]
        self.codes[area][inked] = codes[inked]
        self.styles[area][inked] = style

    def area(self, top: Floats, bottom: Floats, rows: int, style: int, x: int = 0, y: int = 0) -> None:
        """Draw a half-tone area from `top[i]` to `bottom[i]` in each dot column i. A single dot is drawn as it is."""
        dots = spans(top, bottom, rows)
        if self.glyphs.shade:
            codes, inked = pack(dots, self.glyphs)
            cells = np.s_[y : y + codes.shape[0], x : x + codes.shape[1]]
            self.codes[cells][inked] = ord(self.glyphs.shade)
            self.styles[cells][inked] = style
        else:
            even = (np.arange(rows)[:, None] + np.arange(dots.shape[1])) % 2 == 0
            self.dots(dots & (even | (top == bottom)), style, x, y)

    def text(self, x: int, y: int, text: str, style: int) -> None:
        """Write `text` (one cell per character) from (x, y) on, cut off at the edges."""
        if not 0 <= y < self.height or x >= self.width:
            return
        codes = code_points(text[max(0, -x) : self.width - x])
        x = max(0, x)
        self.codes[y, x : x + len(codes)] = codes
        self.styles[y, x : x + len(codes)] = style

    def fill(self, y: int, x: NDArray[np.intp] | slice, char: str, style: int) -> None:
        """Write `char` at the columns `x` of row `y`."""
        self.codes[y, x] = ord(char)
        self.styles[y, x] = style

    def segments(self, y: int, styles: Sequence[Style]) -> Iterator[Segment]:
        """Yield row `y` as segments, one for each run of cells with the same style."""
        yield from (Segment(text, styles[style]) for text, style in self._runs(y))

    def contents(self, styles: Sequence[str]) -> list[Content]:
        """Return the rows, with a part for each run of cells with the same style; `styles` are names by index."""
        return [Content.assemble(*((text, styles[style]) for text, style in self._runs(y))) for y in range(self.height)]

    def _runs(self, y: int) -> Iterator[tuple[str, int]]:
        """Yield the text and the style of each run of cells in row `y`."""
        codes, row = self.codes[y], self.styles[y]
        inked = codes != BLANK
        if not inked.any():
            yield " " * self.width, 0
            return
        # each blank takes the style of the last inked cell before it, or of the first one
        source = np.maximum.accumulate(np.where(inked, np.arange(self.width), np.argmax(inked)))
        row = row[source]
        text = codes.astype("<u4").tobytes().decode("utf-32-le")
        cuts = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), self.width]
        yield from ((text[start:end], int(row[start])) for start, end in pairwise(cuts))

    def lines(self) -> list[str]:
        """Return the characters without styles, one string per row."""
        return [row.astype("<u4").tobytes().decode("utf-32-le") for row in self.codes]

    def changes(self, before: "Canvas | None") -> Iterator[tuple[int, int, int]]:
        """Yield (y, first column, column after the last) of each row that differs from the canvas `before`."""
        if before is None or before.codes.shape != self.codes.shape:
            yield from ((y, 0, self.width) for y in range(self.height))
            return
        differs = (self.codes != before.codes) | (self.styles != before.styles)
        for y in np.flatnonzero(differs.any(axis=1)).tolist():
            columns = np.flatnonzero(differs[y])
            yield y, int(columns[0]), int(columns[-1]) + 1
