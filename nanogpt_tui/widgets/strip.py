"""A sparkline in one row of cells, the newest value at its right end. Knows nothing of what it shows.

Many values are drawn as the mean of each column over the whole history, few ones a column each.
"""

from typing import ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from rich.segment import Segment
from textual import strip as textual_strip
from textual.reactive import reactive
from textual.widget import Widget

from nanogpt_tui.widgets.canvas import GLYPHS, code_points, pack, polyline

Floats = NDArray[np.float64]


def means(values: Floats, columns: int) -> Floats:
    """(columns,) means of equal parts of `values`, without the NaN; fewer values stand at the right end, after NaN."""
    if len(values) <= columns:
        return np.concatenate([np.full(columns - len(values), np.nan), values])
    starts = np.arange(columns) * len(values) // columns
    known = np.isfinite(values)
    counts = np.add.reduceat(known, starts, dtype=float)
    sums = np.add.reduceat(np.where(known, values, 0.0), starts)
    return np.asarray(np.divide(sums, counts, out=np.full(columns, np.nan), where=counts > 0), np.float64)


def sparkline(values: ArrayLike, width: int, glyphs: str = "braille", *, log: bool = False) -> str:
    """`width` characters: a line of braille dots, or bars of eight heights. The lowest value is at the bottom, the
    highest at the top, and what does not change runs through the middle."""
    kind = GLYPHS[glyphs]
    series = np.asarray(values, float).ravel()
    with np.errstate(invalid="ignore", divide="ignore"):
        series = np.where(series > 0, np.log10(series), np.nan) if log else series
    across = kind.across if glyphs == "braille" else 1
    y = means(np.where(np.isfinite(series), series, np.nan), width * across)
    known = y[np.isfinite(y)]
    if not width or not len(known):
        return " " * width
    low, span = known.min(), np.ptp(known)
    # a wobble in the seventh digit is not news
    height = (y - low) / span if span > 1e-6 * np.abs(known).max() else np.where(np.isfinite(y), 0.5, np.nan)
    if glyphs == "braille":
        dots = polyline(np.arange(len(y), dtype=float), np.rint((1 - height) * 3), len(y), 4)
        return "".join(map(chr, pack(dots, kind)[0][0])).replace("\u2800", " ")
    bars = code_points(kind.bars)
    level = np.where(np.isfinite(height), 1 + np.rint(np.nan_to_num(height) * (len(bars) - 2)), 0).astype(int)
    return "".join(map(chr, bars[level]))


class Strip(Widget):
    """One row for a series; asks for a repaint only where the picture changed."""

    DEFAULT_CSS = """
    Strip { height: 1; width: 1fr; color: $foreground; }
    Strip > .strip--line { color: $alive; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"strip--line"}

    glyphs: reactive[str] = reactive("braille", repaint=False)

    def __init__(
        self,
        *,
        glyphs: str = "braille",
        log: bool = False,
        name: str | None = None,
        id: str | None = None,
        classes: str | None = None,
    ) -> None:
        super().__init__(name=name, id=id, classes=classes)
        self._values, self._length = np.empty(64), 0
        self._log, self._shown = log, ""
        self.set_reactive(Strip.glyphs, glyphs)

    def append(self, values: ArrayLike) -> None:
        """Adds a value or several; one that is not finite leaves a gap."""
        new = np.atleast_1d(np.asarray(values, float))
        end = self._length + len(new)
        if end > len(self._values):
            self._values = np.concatenate([self._values[: self._length], np.empty(end)])
        self._values[self._length : end] = new
        self._length = end
        self._update()

    def load(self, values: ArrayLike) -> None:
        """Replaces the series."""
        self._length = 0
        self.append(values)

    def clear(self) -> None:
        self.load([])

    def watch_glyphs(self) -> None:
        self._update()

    def _update(self) -> None:
        if self.is_mounted and self._text() != self._shown:
            self.refresh()

    def _text(self) -> str:
        return sparkline(self._values[: self._length], self.size.width, self.glyphs, log=self._log)

    def render_line(self, y: int) -> textual_strip.Strip:
        width = self.size.width
        if y:
            return textual_strip.Strip.blank(width, self.rich_style)
        self._shown = self._text()
        return textual_strip.Strip([Segment(self._shown, self.get_component_rich_style("strip--line"))], width)
