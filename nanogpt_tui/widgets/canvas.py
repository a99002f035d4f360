"""A grid of one-colour cells drawn on with dots finer than a cell, and turned into segments row by row.

All drawing is numpy over whole layers. A cell has one glyph and one style, so a later layer replaces the cells that it
touches. A row has few segments: styles differ in colour only, so a blank takes the style of the cell before it.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from rich.segment import Segment
from rich.style import Style

BLANK = 0x20
Floats = NDArray[np.float64]
Dots = NDArray[np.bool_]


@dataclass(frozen=True, eq=False)
class Glyphs:
    """How dots become characters: `down` × `across` dots a cell, dot (row, column) being bit `row * across + column`.

    `shade` is the character of a half-tone area, or "" where the dots themselves are thinned out; `bars` are the
    characters of growing height, from nothing to full.
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
    """(len(text),) Unicode numbers."""
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
    """`text` with one cell a character: what is wider, narrower or not printable becomes "?"."""
    return "".join(char if char.isprintable() and cell_len(char) == 1 else "?" for char in text)


def spans(top: Floats, bottom: Floats, rows: int) -> Dots:
    """(rows, n) dots, column i filled from row `top[i]` down to `bottom[i]`, both included; NaN leaves it empty."""
    at = np.arange(rows)[:, None]
    return (at >= top) & (at <= bottom)


def polyline(at: Floats, y: Floats, columns: int, rows: int) -> Dots:
    """(rows, columns) dots of the line through the points (at[i], y[i]), in dots from the top left, `at` increasing.

    Points may lie outside. Each column carries its own dot and half of the way to its neighbours, so the line is joined
    and one dot thin wherever it is no steeper than that.
    """
    known = np.isfinite(y)
    if not known.any():
        return np.zeros((rows, columns), np.bool_)
    row = np.rint(np.interp(np.arange(columns), at[known], y[known], left=np.nan, right=np.nan))
    top, bottom = row.copy(), row.copy()
    with np.errstate(invalid="ignore"):
        here, there, middle = row[:-1], row[1:], np.floor((row[:-1] + row[1:]) / 2)
        falls, rises = there > here, there < here
        bottom[:-1] = np.where(falls, middle, bottom[:-1])
        top[1:] = np.where(falls, middle + 1, top[1:])
        top[:-1] = np.where(rises, np.minimum(top[:-1], middle + 1), top[:-1])
        bottom[1:] = np.where(rises, np.maximum(bottom[1:], middle), bottom[1:])
        return spans(top, bottom, rows)


def pack(dots: Dots, glyphs: Glyphs) -> tuple[NDArray[np.uint32], Dots]:
    """(h, w) code points and which cells have a dot, from (h * down, w * across) dots."""
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
        """Lays a layer of dots with its top left cell at (x, y) over what is there."""
        codes, inked = pack(dots, self.glyphs)
        area = np.s_[y : y + codes.shape[0], x : x + codes.shape[1]]
        self.codes[area][inked] = codes[inked]
        self.styles[area][inked] = style

    def area(self, top: Floats, bottom: Floats, rows: int, style: int, x: int = 0, y: int = 0) -> None:
        """A half-tone area between two dot rows a column. A single dot stays: it is a measured point, not an area."""
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
        """Writes `text` (one cell a character) from (x, y) on, cut at the edges."""
        if not 0 <= y < self.height or x >= self.width:
            return
        codes = code_points(text[max(0, -x) : self.width - x])
        x = max(0, x)
        self.codes[y, x : x + len(codes)] = codes
        self.styles[y, x : x + len(codes)] = style

    def fill(self, y: int, x: NDArray[np.intp] | slice, char: str, style: int) -> None:
        """Puts `char` at the columns `x` of row `y`."""
        self.codes[y, x] = ord(char)
        self.styles[y, x] = style

    def segments(self, y: int, styles: Sequence[Style]) -> Iterator[Segment]:
        """Row `y` as one segment a run of one style."""
        codes, row = self.codes[y], self.styles[y]
        inked = codes != BLANK
        if not inked.any():
            yield Segment(" " * self.width, styles[0])
            return
        # each blank takes the style of the last inked cell before it, or of the first one
        source = np.maximum.accumulate(np.where(inked, np.arange(self.width), np.argmax(inked)))
        row = row[source]
        text = codes.astype("<u4").tobytes().decode("utf-32-le")
        cuts = [0, *(np.flatnonzero(np.diff(row)) + 1).tolist(), self.width]
        for start, end in pairwise(cuts):
            yield Segment(text[start:end], styles[row[start]])

    def lines(self) -> list[str]:
        """The characters alone, a string a row."""
        return [row.astype("<u4").tobytes().decode("utf-32-le") for row in self.codes]

    def changes(self, before: "Canvas | None") -> Iterator[tuple[int, int, int]]:
        """(y, first column, column after the last) of each row that differs from the canvas `before`."""
        if before is None or before.codes.shape != self.codes.shape:
            yield from ((y, 0, self.width) for y in range(self.height))
            return
        differs = (self.codes != before.codes) | (self.styles != before.styles)
        for y in np.flatnonzero(differs.any(axis=1)).tolist():
            columns = np.flatnonzero(differs[y])
            yield y, int(columns[0]), int(columns[-1]) + 1
