"""Charts of learning rate, gradient norm and tokens/s, for large terminals."""

from typing import TYPE_CHECKING

import numpy as np
from textual.content import Content
from textual.widget import Widget

from nanogpt_tui.widgets.canvas import GLYPHS, Canvas, polyline
from nanogpt_tui.widgets.sparkline import means

if TYPE_CHECKING:
    from nanogpt_tui.session.history import History

# (title, column of the history, log scale, format)
TRENDS = (
    ("learning rate", "learning_rate", False, "{:.2e}"),
    ("gradient norm", "grad_norm", True, "{:.3f}"),
    ("tokens/s", "tokens_per_second", False, "{:,.0f}"),
)


class Trends(Widget):
    """Three charts, one below the other, of the history that was passed to `show`."""

    glossary = "learning rate"

    def __init__(self, glyphs: str) -> None:
        super().__init__(id="trends")
        self.glyphs = glyphs
        self._history: History | None = None
        self._drawn: tuple[object, int] = None, 0  # identity of the history, number of its rows
        self.drawings = 0  # the number of times it was drawn, for tests

    def show(self, history: "History") -> None:
        """Show a history; redraw only if the widget is on the screen and the charts would look different."""
        self._history = history
        identity = id(history), history.generation
        drawn, rows = self._drawn
        half_column = 0.5 * rows / max(1, 2 * self.size.width)  # in rows; a line of dots changes from there on
        same = identity == drawn and rows <= len(history) < rows + max(half_column, 1)
        if self.is_on_screen and not same:
            self._drawn = identity, len(history)
            self.refresh()

    def on_resize(self) -> None:
        self._drawn = None, 0

    def render(self) -> Content:
        history, (width, height) = self._history, self.size
        if history is None or not len(history) or width < 8:
            return Content()
        self.drawings += 1
        each = max(3, height // len(TRENDS))
        lines: list[Content] = []
        for title, column, log, form in TRENDS[: height // each]:
            values = history.column(column)
            known = values[np.isfinite(values)]
            now, most = (form.format(known[-1]), form.format(known.max())) if len(known) else ("–", "–")
            right = f"highest {most}"
            head = f"{title:<14}{now}"
            lines.append(Content.styled(f"{head:<{max(0, width - len(right))}}{right}"[:width], "$quiet"))
            rows = plot_lines(values, width, each - 2, self.glyphs, log)
            lines += [*(Content.styled(row, "$alive") for row in rows), Content()]
        return Content("\n").join(lines)


def plot_lines(
    values: "np.ndarray[tuple[int], np.dtype[np.float64]]", width: int, rows: int, glyphs: str, log: bool
) -> list[str]:
    """Return `rows` lines of `width` characters with a line of the values, or of their means per dot column.

    The newest value is at the right.
    """
    kind = GLYPHS[glyphs]
    with np.errstate(invalid="ignore", divide="ignore"):
        series = np.where(values > 0, np.log10(values), np.nan) if log else values
    across, down = width * kind.across, rows * kind.down
    y = means(np.where(np.isfinite(series), series, np.nan), across)
    known = y[np.isfinite(y)]
    canvas = Canvas(width, rows, kind)
    if len(known):
        low, span = known.min(), np.ptp(known)
        height = (y - low) / span if span > 1e-6 * np.abs(known).max() else np.where(np.isfinite(y), 0.5, np.nan)
        canvas.dots(polyline(np.arange(across, dtype=float), np.rint((1 - height) * (down - 1)), across, down), 0)
    return canvas.lines()
