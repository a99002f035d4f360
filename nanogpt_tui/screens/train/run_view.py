"""All panes of a run: chart, figures, trends, samples and log.

`show` is called a few times per second and passes on only what is new since the previous call.
"""

import math
from collections import deque
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import ComposeResult
from textual.containers import Horizontal, Vertical
from textual.events import Resize
from textual.widgets import RichLog, Static

from nanogpt.events import Downloading, Encoding, TokenizerTraining
from nanogpt.inspection.spikes import describe
from nanogpt_tui.screens.train.figures import Figures
from nanogpt_tui.screens.train.samples_pane import SamplesPane
from nanogpt_tui.screens.train.trends import Trends
from nanogpt_tui.text import count, printable, safe_content
from nanogpt_tui.widgets.chart import LossChart

if TYPE_CHECKING:
    from nanogpt.loss_units import LossUnit
    from nanogpt_tui.session.history import History, LogLine

ROOMY = (160, 48)  # columns and rows from which the trends are shown
NEW_S = 5.0  # an error that is older is not notified
LOG_LINES = 500  # the newest ones
LOG_STYLES = {"error": "red", "warning": "yellow", "gone": "yellow", "saved": "green"}


class Log(RichLog):
    """The log. After a resize its lines are wrapped again, and it scrolls to the newest ones."""

    glossary = "checkpoint"
    HELP = "The log of the run. With the focus here, the arrows scroll it."

    def __init__(self) -> None:
        super().__init__(id="log", max_lines=LOG_LINES, wrap=True, markup=False, min_width=20)
        self._texts: deque[Text] = deque(maxlen=LOG_LINES)
        self._wrapped_at = 0  # cells; 0 if lines were added while it was hidden

    def add(self, texts: Sequence[Text]) -> None:
        """Append lines."""
        if not texts:
            return
        texts = texts[-LOG_LINES:]
        self._texts.extend(texts)
        if not self.scrollable_content_region.width:  # hidden: there is no width to wrap at
            self._wrapped_at = 0
            return
        self.write(Text("\n").join(texts))  # at once: a call for each costs several times as much

    def remove_all(self) -> None:
        """Remove all lines."""
        self._texts.clear()
        self.clear()

    def on_resize(self, event: Resize) -> None:
        width = self.scrollable_content_region.width
        if width not in (0, self._wrapped_at):
            self._wrapped_at = width
            self.clear()
            if self._texts:
                self.write(Text("\n").join(self._texts))
        self.call_after_refresh(self.scroll_end, animate=False, immediate=True)


class RunView(Vertical):
    """The panes of one run. `show` updates them."""

    def __init__(self, glyphs: str, unit: "LossUnit") -> None:
        super().__init__(id="run")
        self.chart = LossChart(glyphs=glyphs, id="chart")
        self.chart.set_reactive(LossChart.unit, unit)
        self.figures = Figures(glyphs)
        self.trends = Trends(glyphs)
        self.samples = SamplesPane()
        self.log_lines = Log()
        self._history: History | None = None
        self._generation = -1
        self._rows = self._evaluations = self._saves = self._changes = self._spikes = self._logged = 0

    def compose(self) -> ComposeResult:
        with Horizontal(id="top"):
            yield self.chart
            with Vertical(id="side"):
                yield self.figures
                yield self.trends
        yield Static(id="error")
        with Vertical(id="bottom"):
            yield self.samples
            yield self.log_lines

    def on_resize(self, event: Resize) -> None:
        self.set_class(event.size.width >= ROOMY[0] and event.size.height >= ROOMY[1], "-roomy")

    def show(self, history: "History", waiting: str = "") -> None:
        """Show a history. `waiting` is the command that the trainer has not executed yet, or ""."""
        if history is not self._history:
            self._clear_chart()
            self.log_lines.remove_all()
            self.samples.show_newest()
            self._history, self._logged = history, 0
        if history.generation != self._generation:
            self._clear_chart()
            self._generation = history.generation
        self._extend_chart(history)
        self.figures.show(history, waiting, self.chart.smoothed, self.chart.shown_unit)
        self.trends.show(history)
        can_ask = history.run_state.alive and not self.app.session.readonly  # type: ignore[attr-defined]
        can_sample = can_ask if history.running else bool(history.saves)
        self.samples.show(history.samples, history.running, can_sample)
        if history.reading is None:
            self._show_log(history)
        self._show_error(history)

    def _show_log(self, history: "History") -> None:
        lines = history.log[self._logged :]
        self._logged += len(lines)
        self.log_lines.add([log_text(line) for line in lines[-LOG_LINES:]])
        for line in lines:
            if line.kind == "error" and history.phase != "failed" and _is_new(line):  # a failure is shown above the log
                self.notify(printable(line.text), severity="error", markup=False)

    def set_glyphs(self, glyphs: str) -> None:
        """Draw with other glyphs: a key of `canvas.GLYPHS`."""
        self.chart.glyphs = glyphs
        self.figures.set_glyphs(glyphs)
        self.trends.glyphs = glyphs
        self.trends.refresh()

    def _clear_chart(self) -> None:
        self.chart.clear()
        self._rows = self._evaluations = self._saves = self._changes = self._spikes = 0

    def _extend_chart(self, history: "History") -> None:
        first, last = self._rows, len(history)
        if last > first:
            names = ("step", "tokens", "elapsed_s", "loss")
            columns = [history.column(name)[first:last] for name in names]
            rows = min(map(len, columns))  # a resume in another thread may have removed some in between
            self.chart.append(*(column[:rows] for column in columns))
            self._rows = first + rows
        evaluations = history.evaluations[self._evaluations :]
        if evaluations:
            self.chart.add_validation([each.step for each in evaluations], [each.val_loss for each in evaluations])
            self._evaluations += len(evaluations)
        for saved in history.saves[self._saves :]:
            self.chart.add_mark(saved.step, "best" if saved.is_best else "saved", f"saved step {saved.step:,}")
            self._saves += 1
        for change in history.changes[self._changes :]:
            self.chart.add_mark(change.step, "change", change.text)
            self._changes += 1
        for spike in history.spikes[self._spikes :]:
            self.chart.add_mark(spike.step, "spike", describe(spike))
            self._spikes += 1
        if history.started is not None:
            self.chart.describe(history.val_text, history.flops_per_token)
            self.chart.uniform = math.log(max(1, history.started.vocab_size))
        self.chart.empty_text = preparing_text(history)
        if history.phase not in ("training", "evaluating"):
            self.chart.flush()

    def _show_error(self, history: "History") -> None:
        failed = history.phase in ("failed", "interrupted")
        self.set_class(failed, "-failed")
        if failed:
            reasons = [line.text for line in history.log if line.kind in ("error", "gone")]
            self.query_one("#error", Static).update(safe_content(reasons[-1] if reasons else "failed"))


def _is_new(line: "LogLine") -> bool:
    import time

    return time.time() - line.time < NEW_S


def log_text(line: "LogLine") -> Text:
    """Return a line of the log, with its local time; a dash for a time that no calendar has."""
    import time

    try:
        clock = time.strftime("%H:%M:%S", time.localtime(line.time))
    except (OverflowError, ValueError, OSError):
        clock = f"{'–':<8}"
    return Text.assemble((f"{clock}  ", "dim"), (printable(line.text), LOG_STYLES.get(line.kind, "")))


def preparing_text(history: "History") -> str:
    """Return the text of the empty chart: what is read or prepared, and how much of it is done."""
    if history.reading is not None:
        return f"reading … {history.reading:.0%}"
    event = history.preparing
    if isinstance(event, Downloading):
        total = f" of {count(event.total_bytes)}" if event.total_bytes else ""
        return f"downloading {printable(event.source)}: {count(event.done_bytes)}{total} bytes"
    if isinstance(event, Encoding):
        share = event.done_bytes / event.total_bytes if event.total_bytes else 0.0
        return f"{'reading the text' if event.phase == 'scan' else 'writing tokens'}: {share:.0%}"
    if isinstance(event, TokenizerTraining):
        if event.phase == "read":
            share = event.done_bytes / event.total_bytes if event.total_bytes else 0.0
            return f"training the tokenizer: reading, {share:.0%}"
        return f"training the tokenizer: {event.vocab_size:,} of {event.target:,} entries"
    return "starting …" if history.running else "nothing was recorded"
