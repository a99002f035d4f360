"""Learning rate, gradient norm and tokens/s as charts of several rows, where a terminal has the room."""

from typing import TYPE_CHECKING

import numpy as np
from textual.content import Content
from textual.widget import Widget

from nanogpt_tui.widgets.canvas import GLYPHS, Canvas, polyline
from nanogpt_tui.widgets.sparkline import means

if TYPE_CHECKING:
    from nanogpt_tui.session.history import History

# (title, column of the history, whether on a log scale, format)
SHOWN = (
    ("learning rate", "learning_rate", False, "{:.2e}"),
    ("gradient norm", "grad_norm", True, "{:.3f}"),
    ("tokens/s", "tokens_per_second", False, "{:,.0f}"),
)


class Trends(Widget):
    """`show` follows a history. What is not on the screen is not drawn, and a chart only anew once it differs."""

    glossary = "learning rate"

    def __init__(self, glyphs: str) -> None:
        super().__init__(id="trends")
        self.glyphs = glyphs
        self._history: History | None = None
        self._drawn: object = None
        self.drawings = 0  # how often it was drawn

    def show(self, history: "History") -> None:
        self._history = history
        columns = max(1, 2 * self.size.width)
        # half a column more is the least that can be seen
        seen = (id(history), history.generation, int(len(history) * 2 * columns / max(columns, len(history))))
        if self.is_on_screen and seen != self._drawn:
            self._drawn = seen
            self.refresh()

    def on_resize(self) -> None:
        self._drawn = None

    def render(self) -> Content:
        history, (width, height) = self._history, self.size
        if history is None or not len(history) or width < 8:
            return Content()
        self.drawings += 1
        each = max(3, height // len(SHOWN))
        lines: list[Content] = []
        for title, column, log, form in SHOWN[: height // each]:
            values = history.column(column)
            known = values[np.isfinite(values)]
            now, most = (form.format(known[-1]), form.format(known.max())) if len(known) else ("–", "–")
            right = f"highest {most}"
            head = f"{title:<14}{now}"
            lines.append(Content.styled(f"{head:<{max(0, width - len(right))}}{right}"[:width], "$quiet"))
            rows = drawn(values, width, each - 2, self.glyphs, log)
            lines += [*(Content.styled(row, "$alive") for row in rows), Content()]
        return Content("\n").join(lines)


def drawn(
    values: "np.ndarray[tuple[int], np.dtype[np.float64]]", width: int, rows: int, glyphs: str, log: bool
) -> list[str]:
    """`rows` lines of `width` characters: the means of as many columns as there are dots, the newest at the right."""
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
