"""Overlays of the loss chart: a dialog to choose runs, and reading their losses in a thread."""

from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from nanogpt_tui.text import safe_content, short
from nanogpt_tui.widgets.dialog import Dialog, hint

if TYPE_CHECKING:
    from nanogpt_tui.session.history import History
    from nanogpt_tui.session.session import Session
    from nanogpt_tui.widgets.chart import LossChart


NAME_WIDTH = 40


class PickRuns(Dialog[list[str] | None]):
    """Dismisses with the names of the ticked runs, or with None at escape."""

    DEFAULT_CSS = """
    PickRuns > Vertical { width: 64; max-width: 90%; height: auto; max-height: 80%; }
    PickRuns OptionList, PickRuns OptionList:focus {
        height: auto; max-height: 16; border: none; padding: 0; margin: 1 0; background: $panel; text-wrap: nowrap;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "back"),
        Binding("space", "tick", "tick"),
        Binding("enter,o", "done", "draw", priority=True),
    ]

    def __init__(self, session: "Session", own: str, chosen: list[str]) -> None:
        super().__init__()
        self._session, self._own, self._ticked = session, own, list(chosen)
        self._runs: list[tuple[str, float | None]] = []

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content("Runs to overlay on the chart"), classes="question")
            yield OptionList()
            yield hint("space ticks, enter draws, esc cancels")

    def on_mount(self) -> None:
        def read() -> list[tuple[str, float | None]]:
            found = self._session.list_runs()
            return [(each.name, each.best_val_loss) for each in found if each.name != self._own]

        def show(found: list[tuple[str, float | None]] | None, error: str) -> None:
            if self.is_whole:
                self._runs = found or []
                if found is not None:  # what is not in the list cannot be unticked
                    listed = {name for name, _ in found}
                    self._ticked = [name for name in self._ticked if name in listed]
                problem = error or ("" if found else "No other runs yet.")
                if problem:
                    self.query_one(".question", Static).update(safe_content(problem))
                options = self.query_one(OptionList)
                options.set_options([Option(self._row(*each)) for each in self._runs])
                options.highlighted = 0 if found else None

        self._session.fetch(read, show, "runs")

    def _row(self, name: str, loss: float | None) -> Content:
        shown = safe_content(short(name, NAME_WIDTH))
        gap = " " * (NAME_WIDTH + 2 - shown.cell_length)
        best = f"{loss:7.4f}" if loss is not None else "      –"
        return Content.assemble(("◆ " if name in self._ticked else "  ", "$accent"), shown, gap, (best, "$quiet"))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.action_tick()

    def action_tick(self) -> None:
        options = self.query_one(OptionList)
        at = options.highlighted
        if at is None:
            return
        name, loss = self._runs[at]
        self._ticked = [each for each in self._ticked if each != name] + [name] * (name not in self._ticked)
        options.replace_option_prompt_at_index(at, self._row(name, loss))

    def action_done(self) -> None:
        self.dismiss(self._ticked)


def set_overlays(session: "Session", chart: "LossChart", names: list[str]) -> None:
    """Make the runs `names` the overlays of the chart; new ones are read in a thread."""
    for name in chart.overlays:
        if name not in names:
            chart.remove_overlay(name)
    for name in names:
        if name not in chart.overlays:
            _read(session, chart, name)


def _read(session: "Session", chart: "LossChart", name: str) -> None:
    def read() -> "History":
        from nanogpt import runs
        from nanogpt_tui.session import history

        return history.load_history(runs.find(name, session.runs_dir))

    def show(history: "History | None", error: str) -> None:
        if error:
            chart.app.notify(error, severity="error", markup=False)
        elif history and chart.is_mounted:
            steps, tokens, elapsed_s, losses = map(history.column, ("step", "tokens", "elapsed_s", "loss"))
            text, flops = history.val_text, history.flops_per_token
            chart.set_overlay(name, steps, tokens, elapsed_s, losses, text=text, flops_per_token=flops)

    session.fetch(read, show, "overlay")
