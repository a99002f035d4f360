"""Which other runs' losses lie over the chart: a list to choose from, and reading the chosen ones in a thread."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import SelectionList, Static

from nanogpt.events import Event
from nanogpt_tui.text import harmless

if TYPE_CHECKING:
    from nanogpt_tui.session import Session
    from nanogpt_tui.widgets.chart import LossChart


class PickRuns(ModalScreen[list[str] | None]):
    """Dismisses with the names that are ticked, or None for escape."""

    DEFAULT_CSS = """
    PickRuns { align: center middle; background: $background 60%; }
    PickRuns > Vertical { width: 72; max-width: 90%; height: auto; max-height: 80%; padding: 1 2; background: $panel; }
    PickRuns SelectionList { height: auto; max-height: 16; border: none; background: $panel; }
    PickRuns Static { margin-bottom: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "close"),
        Binding("enter,o", "done", "lay over", priority=True),
    ]

    def __init__(self, session: "Session", own: str, chosen: list[str]) -> None:
        super().__init__()
        self._session, self._own, self._chosen = session, own, chosen

    def compose(self) -> ComposeResult:
        from nanogpt import runs

        summaries = [each for each in runs.list_runs(self._session.runs_dir) if each.name != self._own]
        with Vertical():
            if not summaries:
                yield Static(Content("There is no other run yet. Esc goes back."))
                return
            yield Static(Content("Losses to lay over the chart: space ticks, enter draws, esc goes back"))
            yield SelectionList[str](
                *(
                    (
                        Content.assemble(
                            harmless(f"{each.name:<32} "), (f"{each.best_val_loss or float('nan'):7.4f}", "$quiet")
                        ),
                        each.name,
                        each.name in self._chosen,
                    )
                    for each in summaries
                )
            )

    def action_done(self) -> None:
        lists = self.query(SelectionList)
        self.dismiss(lists.first().selected if lists else None)


def lay_over(session: "Session", chart: "LossChart", names: list[str]) -> None:
    """Makes the chart's overlays the runs `names`; those that are not there yet are read in a thread."""
    for name in chart.overlays:
        if name not in names:
            chart.remove_overlay(name)
    for name in names:
        if name not in chart.overlays:
            _read(session, chart, name)


def _read(session: "Session", chart: "LossChart", name: str) -> None:
    read: list[Event] = []

    def work() -> Iterator[Event]:
        from nanogpt import runs

        read.extend(runs.history(runs.find(name, session.runs_dir)))
        return iter(())

    def done() -> None:
        from nanogpt_tui.history import from_events

        if job.error is not None:
            chart.app.notify(job.error, severity="error", markup=False)
        elif job.done and chart.is_mounted:
            history = from_events(name, read)
            chart.set_overlay(name, *(history.column(part) for part in ("step", "tokens", "elapsed_s", "loss")))

    job = session.work(work, done, name="overlay")
