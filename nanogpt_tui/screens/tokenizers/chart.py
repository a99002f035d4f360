"""A chart of the size of a vocabulary against the bytes per token of a text, with tokenizers as marks."""

import math
from collections.abc import Callable, Sequence

import numpy as np
from textual.content import Content
from textual.widget import Widget

from nanogpt.events import VocabularyPoint as Point
from nanogpt_tui.widgets.canvas import GLYPHS, Canvas, plain, polyline
from nanogpt_tui.widgets.scales import LABEL_WIDTH, Scale, x_text, y_labels, y_scale, y_ticks

MARGIN, HEADER, FOOTER = LABEL_WIDTH + 1, 1, 2
MIN_SIZE = MARGIN + 20, HEADER + FOOTER + 3
STYLES = ("$foreground", "$alive", "$warning", "$rule", "$quiet")
BASE, LINE, MARK, AXIS, LABEL = range(len(STYLES))
LABEL_CELLS = 16  # of the name of a mark


class VocabularyChart(Widget):
    """`curve` is one tokenizer at growing sizes; `marks` are tokenizers by name. The x axis is logarithmic."""

    DEFAULT_CSS = """
    VocabularyChart { width: 1fr; height: 1fr; }
    """
    glossary = "bytes per token"

    def __init__(self, glyphs: str) -> None:
        super().__init__(id="vocabulary-chart")
        self.glyphs = glyphs
        self.curve: list[Point] = []
        self.marks: dict[str, Point] = {}

    def show(self, curve: Sequence[Point], marks: dict[str, Point]) -> None:
        """Draw other points, if they differ."""
        if (list(curve), marks) != (self.curve, self.marks):
            self.curve, self.marks = list(curve), dict(marks)
            self.refresh()

    def render(self) -> Content:
        width, height = self.size
        if width < MIN_SIZE[0] or height < MIN_SIZE[1] or not (self.curve or self.marks):
            return Content()
        return Content("\n").join(draw(self.curve, self.marks, width, height, self.glyphs).contents(STYLES))


def draw(curve: Sequence[Point], marks: dict[str, Point], width: int, height: int, glyphs: str) -> Canvas:
    """Return the chart as a canvas of `width` × `height` cells, at least MIN_SIZE; it has at least one point."""
    kind = GLYPHS[glyphs]
    canvas, points = Canvas(width, height, kind), [*curve, *marks.values()]
    across, down = width - MARGIN, height - HEADER - FOOTER
    sizes, values = [each.vocab_size for each in points], [each.bytes_per_token for each in points]
    first = math.floor(math.log2(min(sizes)))
    x = Scale(2.0**first, 2.0 ** max(math.ceil(math.log2(max(sizes))), first + 1), True)
    y = y_scale(min(values), max(values), False)

    def column(size: float) -> int:
        return MARGIN + min(across - 1, int(float(x.fraction(size)) * across))

    def row(value: float) -> int:
        return HEADER + min(down - 1, int((1 - float(y.fraction(value))) * down))

    ticks = y_ticks(y, max(3, down // 3))
    for tick, label in zip(ticks, y_labels(ticks), strict=True):
        canvas.fill(row(tick), slice(MARGIN, None), kind.grid, AXIS)
        canvas.text(0, row(tick), label.rjust(LABEL_WIDTH), LABEL)
    _x_axis(canvas, x, column)
    if curve:
        dots = polyline(
            np.array([float(x.fraction(each.vocab_size)) for each in curve]) * across * kind.across - 0.5,
            (1 - np.array([float(y.fraction(each.bytes_per_token)) for each in curve])) * (down * kind.down - 1),
            across * kind.across,
            down * kind.down,
        )
        canvas.dots(dots, LINE, MARGIN, HEADER)
    places = {label: (column(point.vocab_size), row(point.bytes_per_token)) for label, point in marks.items()}
    taken = {(at + by, line) for at, line in places.values() for by in (-1, 0, 1)}
    for label, (at, line) in places.items():
        _label(canvas, plain(label)[:LABEL_CELLS], at, line, taken)
    for at, line in places.values():
        canvas.text(at, line, kind.diamond, MARK)
    canvas.text(0, 0, "bytes per token", LABEL)
    return canvas


def _label(canvas: Canvas, text: str, at: int, line: int, taken: set[tuple[int, int]]) -> None:
    """Write the name of a mark beside it, or in a row above or below, where no other one is; else not at all."""
    for row in (line, line - 1, line + 1, line - 2):
        for start in (at + 2, at - 1 - len(text)):
            cells = {(x, row) for x in range(start - 1, start + len(text) + 1)}
            inside = start >= MARGIN and start + len(text) <= canvas.width and HEADER <= row < canvas.height - FOOTER
            if inside and not cells & taken:
                canvas.text(start, row, text, LABEL)
                taken |= cells
                return


def _x_axis(canvas: Canvas, x: Scale, column: Callable[[float], int]) -> None:
    bottom, name = canvas.height - FOOTER, "entries"
    canvas.fill(bottom, slice(MARGIN, None), canvas.glyphs.axis, AXIS)
    free, end = 0, canvas.width - len(name) - 1
    canvas.text(end + 1, bottom + 1, name, LABEL)
    for power in range(round(math.log2(x.low)), round(math.log2(x.high)) + 1):
        size = 2.0**power
        text, at = x_text("step", size), column(size)
        start = max(0, at - len(text) // 2)
        if start >= free and start + len(text) <= end:
            canvas.text(at, bottom, canvas.glyphs.tick, AXIS)
            canvas.text(start, bottom + 1, text, LABEL)
            free = start + len(text) + 1
