"""The figures of a training: for each a label, a value of fixed width, and a sparkline of its history.

One widget draws all lines, because many small widgets would cost more to repaint than the chart.
"""

import math
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import strip
from textual.binding import Binding, BindingType
from textual.events import MouseMove
from textual.geometry import Region
from textual.widget import Widget

from nanogpt.loss_units import LossUnit, better_loss, convert
from nanogpt_tui.session.alerts import SEVERITY
from nanogpt_tui.text import count, duration, loss_text, short
from nanogpt_tui.widgets.sparkline import sparkline

if TYPE_CHECKING:
    from nanogpt_tui.session.history import History

LABEL, VALUE = 11, 9  # widths
TILES = 4  # figures per line of the layout without sparklines

Line = list[tuple[str, str]]  # (text, name of its style)


@dataclass(frozen=True, slots=True)
class Row:
    """`term` is the figure's term in the glossary, `column` the history's column for its sparkline, or ""."""

    label: str
    term: str
    column: str = ""
    log: bool = False


# three groups of four: progress, quality, speed and resources
ROWS = (
    Row("step", "iteration"),
    Row("ETA", "ETA"),
    Row("tokens", "epoch"),
    Row("state", "health"),
    Row("train loss", "loss", "loss"),
    Row("val loss", "validation loss"),
    Row("perplexity", "perplexity"),
    Row("lr", "learning rate", "learning_rate"),
    Row("grad norm", "gradient norm", "grad_norm", log=True),
    Row("tokens/s", "tokens per second", "tokens_per_second"),
    Row("MFU", "MFU", "mfu"),
    Row("memory", "memory", "memory_bytes"),
)
SHORT_UNITS = {"loss": "loss", "perplexity": "ppl", "bits per character": "bpc", "bits per byte": "bpb"}
LABELS = [1 + max(len(row.label) for row in ROWS[place::TILES]) for place in range(TILES)]


class Figures(Widget, can_focus=True):
    """Rows with sparklines, or tiles if there is no room for rows. The arrow keys choose a figure for the help."""

    DEFAULT_CSS = """
    Figures > .figures--label, Figures > .figures--note { color: $quiet; }
    Figures > .figures--value { color: $foreground; }
    Figures > .figures--alive, Figures > .figures--curve { color: $alive; }
    Figures > .figures--warning { color: $warning; }
    Figures > .figures--error { color: $error; }
    Figures > .figures--chosen { color: $accent; text-style: bold; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"figures--{style}" for style in ("label", "note", "value", "alive", "curve", "warning", "error", "chosen")
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "choose(-1)", "figure before", id="figures.before", show=False),
        Binding("down", "choose(1)", "next figure", id="figures.next", show=False),
    ]

    def __init__(self, glyphs: str) -> None:
        super().__init__(id="figures")
        self._glyphs = glyphs
        self._history: History | None = None
        self._waiting = ""
        self._smoothed: float | None = None
        self._unit: LossUnit = "loss"
        self._lines: list[Line] = []
        self._styles: dict[str, Style] = {}
        self._curves: dict[str, tuple[int, object, str]] = {}  # by column: number of rows, cache key, text
        self._chosen = 0
        self._hovered: int | None = None

    @property
    def glossary(self) -> str:
        """The term of the figure under the mouse, else of the chosen one."""
        return ROWS[self._chosen if self._hovered is None else self._hovered].term

    def set_glyphs(self, glyphs: str) -> None:
        self._glyphs = glyphs
        self._repaint()

    def show(self, history: "History", waiting: str, smoothed: float | None, unit: LossUnit) -> None:
        """Show a history, with losses in `unit`.

        `waiting` is the command that the trainer has not executed yet, or ""; for `smoothed` see `figure_values`.
        """
        self._history, self._waiting, self._smoothed, self._unit = history, waiting, smoothed, unit
        self._repaint()

    def action_choose(self, by: int) -> None:
        self._chosen = (self._chosen + by) % len(ROWS)
        self._repaint()

    def on_focus(self) -> None:
        self._repaint()

    def on_blur(self) -> None:
        self._repaint()

    def on_resize(self) -> None:
        self._repaint()

    def on_mouse_move(self, event: MouseMove) -> None:
        y = event.y
        if self._tiles:
            index: int | None = y * TILES + bisect_right(self._tile_starts, event.x) - 1
        else:
            index = self._figure_lines.index(y) if y in self._figure_lines else None
        self._hovered = index if index is not None and index < len(ROWS) else None

    def on_leave(self) -> None:
        self._hovered = None

    @property
    def _tiles(self) -> bool:
        return self.size.height < len(ROWS)

    @property
    def _figure_lines(self) -> list[int]:
        """The line of each figure, with blank lines between the groups if there is room."""
        spaced = self.size.height >= len(ROWS) + 2
        return [index + (index // TILES if spaced else 0) for index in range(len(ROWS))]

    @property
    def _tile_starts(self) -> list[int]:
        """The first cell of each tile of a line; values have equal width, and the last one also the remainder."""
        value = (self.size.width - sum(LABELS)) // TILES
        return [sum(LABELS[:place]) + place * value for place in range(TILES)]

    def _repaint(self) -> None:
        """Draw all lines, and refresh those that changed."""
        if self._history is None or not self.size.width:
            return
        figures = list(figure_values(self._history, self._waiting, self._smoothed, self._unit))
        lines: list[Line] = [[] for _ in range(self.size.height)]
        if self._tiles:
            edges = [*self._tile_starts, self.size.width + 1]
            for index, (value, _, style) in enumerate(figures):
                if index // TILES < len(lines):
                    place = index % TILES
                    room = edges[place + 1] - edges[place] - LABELS[place] - 1  # a space before the next label
                    text = short(fit_number(value, room), room)
                    lines[index // TILES] += [self._label(index, LABELS[place]), (f"{text:<{room}} ", style)]
        else:
            for index, (place, (value, note, style)) in enumerate(zip(self._figure_lines, figures, strict=True)):
                line = [self._label(index, LABEL), (f"{fit_number(value, VALUE):<{VALUE}} ", style)]
                line.append((note, "note") if note or not ROWS[index].column else (self._curve(ROWS[index]), "curve"))
                lines[place] = line
        changed = [y for y, line in enumerate(lines) if y >= len(self._lines) or line != self._lines[y]]
        self._lines = lines
        if changed:
            self.refresh(*(Region(0, y, self.size.width, 1) for y in changed))

    def _label(self, index: int, width: int) -> tuple[str, str]:
        chosen = self.has_focus and index == self._chosen
        label = ROWS[index].label.replace("loss", SHORT_UNITS[self._unit])
        return f"{label:<{width}}", "chosen" if chosen else "label"

    def _curve(self, row: Row) -> str:
        """Return the sparkline of a figure; it is drawn again when new values fill half a cell."""
        values = self._history.column(row.column) if self._history else ()
        width = max(0, self.size.width - LABEL - VALUE - 2)
        kind = (self._history, self._glyphs, width)
        rows, known, text = self._curves.get(row.column, (0, None, ""))
        if kind != known or not rows <= len(values) < rows * (1 + 0.5 / max(1, width)):
            text = sparkline(values, width, self._glyphs, log=row.log)
            self._curves[row.column] = len(values), kind, text
        return text

    def notify_style_update(self) -> None:
        """Drop cached colours: the theme may have changed."""
        super().notify_style_update()
        self._styles.clear()

    def render_line(self, y: int) -> strip.Strip:
        line = self._lines[y] if y < len(self._lines) else []
        segments = [Segment(text, self._style(name)) for text, name in line]
        return strip.Strip(segments).adjust_cell_length(self.size.width, self._style(""))

    def _style(self, name: str) -> Style:
        if name not in self._styles:
            component = self.get_component_rich_style(f"figures--{name}") if name else Style.null()
            self._styles[name] = self.rich_style + component
        return self._styles[name]


def figure_values(
    history: "History", waiting: str, smoothed: float | None, unit: LossUnit
) -> Iterator[tuple[str, str, str]]:
    """Yield (value, note, style) of each figure, in the order of ROWS, with the losses in `unit`.

    `smoothed` is the chart's smoothed loss, in nats per token.
    """
    last, evaluations, started = history.last, history.evaluations, history.started
    evaluation = evaluations[-1] if evaluations else None
    now = history.run_state
    yield f"{now.step:,}", f"of {now.max_iters:,}  {now.share:.0%}", "value"
    left = last.eta_s if last and history.running else None
    yield duration(left), f"after {duration(last.elapsed_s)}" if last else "", "value"
    epochs = f"{last.tokens / started.train_tokens:.1f} epochs" if last and started and started.train_tokens else ""
    yield count(last.tokens) if last else "–", epochs, "value"
    style = {"failed": "error"} | dict.fromkeys(("training", "preparing", "evaluating"), "alive")
    style |= dict.fromkeys(("paused", "waiting", "silent"), "warning")
    reported = history.health  # the thread that reads the run may remove it
    health = reported.state if reported is not None and history.running else ""
    alarming = waiting or SEVERITY.get(health, "warning" if health else "info") != "info"
    phase = f"eval {now.evaluating or 0:.0%}" if now.phase == "evaluating" else now.phase
    yield waiting or phase, health, "warning" if alarming else style.get(now.phase, "value")
    text = history.val_text
    yield loss_text(convert(smoothed, unit, text)), "", "value"
    if evaluation:
        losses = [(better_loss(each.val_loss, each.ema_val_loss), each.step) for each in evaluations]
        lowest, best_step = min(losses, key=lambda each: (math.isnan(each[0]), each[0]))
        best_val_loss = convert(lowest, unit, text)
        best_loss = "–" if best_val_loss is None or math.isnan(best_val_loss) else f"{best_val_loss:.3f}"
        note = f"best {best_loss} @ {best_step:,}"
        if evaluation.ema_val_loss is not None:
            average = loss_text(convert(evaluation.ema_val_loss, unit, text))
            note = f"EMA {average}  best {best_loss}"  # the step has no room
        yield loss_text(convert(evaluation.val_loss, unit, text)), note, "value"
        bits = convert(evaluation.val_loss, "bits per byte", text)
        has_bits = bits is not None and not math.isnan(bits)
        yield perplexity(evaluation.val_loss), f"{bits:.3f} bits/byte" if has_bits else "", "value"
    else:
        yield "–", "", "value"
        yield "–", "", "value"
    yield f"{last.learning_rate:.2e}".replace("e-0", "e-") if last else "–", "", "value"
    yield f"{last.grad_norm:.3f}" if last and not math.isnan(last.grad_norm) else "–", "", "value"
    yield f"{last.tokens_per_second:,.0f}" if last else "–", "", "value"
    yield f"{last.mfu:.1%}" if last and last.mfu is not None else "–", "", "value"
    yield f"{last.memory_bytes / 1e9:.2f} GB" if last else "–", "", "value"


def fit_number(text: str, room: int) -> str:
    """Return a number with so few digits that it fits in `room` cells; return any other text unchanged."""
    number = text.replace(",", "")
    if len(text) <= room or not number.replace(".", "").isdecimal():
        return text
    whole = f"{float(number):,.0f}"
    return whole if len(whole) <= room else count(float(number))


def perplexity(value: float) -> str:
    """Return the perplexity of a loss in nats, exp(loss); "∞" from a loss of 20 on, a dash for NaN."""
    if math.isnan(value):
        return "–"
    return f"{math.exp(value):,.2f}" if value < 20 else "∞"
