"""The lower half of the Runs screen: the loss curves of some runs, and the details of one or how several differ."""

import math
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.style import Style
from textual.app import ComposeResult
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.widgets import Static

from nanogpt.errors import UserError
from nanogpt.loss_units import LossUnit
from nanogpt.runs.state import RunState
from nanogpt_tui.session.session import Session
from nanogpt_tui.text import printable

if TYPE_CHECKING:
    from nanogpt_tui.session.history import History
    from nanogpt_tui.widgets.chart import LossChart

READ_DELAY_S = 0.15  # a run that is under the cursor for a shorter time is not read
MAX_HISTORIES = 12  # in the cache, besides those that are drawn
COLUMNS = ("step", "tokens", "elapsed_s", "loss")
Key = tuple[str, float]  # the folder of a run, and when it changed


class Selection(NamedTuple):
    """`curves` are the runs of the chart, the one under the cursor first; the settings of `compared` are compared if
    there are several. `width` is that of the text, in cells. `phases` are those of the runs: without a heartbeat they
    change alone."""

    curves: tuple[Key, ...]
    compared: tuple[Path, ...]
    width: int
    phases: tuple[str, ...]


NOTHING = Selection((), (), 0, ())


class RunPanel(Horizontal):
    """Runs are read in threads and cached until they change. A slow read holds up no other runs than its own."""

    class CurvesDrawn(Message):
        """Other runs are drawn, or their curves have other colours."""

        def __init__(self, styles: dict[str, Style]) -> None:
            """`styles` are those of the curves, by name of the run."""
            super().__init__()
            self.styles = styles

    def __init__(self, session: Session, glyphs: str, unit: LossUnit) -> None:
        super().__init__(id="about")
        self.chart: LossChart | None = None  # made with the first run: it imports numpy
        self._session, self._glyphs = session, glyphs
        self._unit = unit
        self._mixed_unit: LossUnit = "bits per byte"  # of runs with different tokenizers
        self._wanted = NOTHING
        self._read_last = NOTHING  # or being read
        self._being_read: set[tuple[str, ...]] = set()  # the folders of each read in progress
        self._histories: dict[Key, History] = {}
        self._drawn: dict[str, History | None] = {}  # by folder, the one under the cursor first; None: unreadable

    def compose(self) -> ComposeResult:
        with VerticalScroll(id="details", can_focus=False):
            yield Static(id="text")

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda _: self._post_styles())

    def show(self, current: RunState | None, ticked: list[RunState], width: int) -> None:
        """Draw the run under the cursor and the ticked ones, after a short delay. `width` is that of the text."""
        runs = [current, *(run for run in ticked if run is not current)] if current else []
        curves = tuple((run.path, run.updated) for run in runs)
        wanted = self._wanted = Selection(
            curves, tuple(Path(run.path) for run in ticked), width, tuple(run.phase for run in runs)
        )
        if curves and wanted != self._read_last:
            self.set_timer(READ_DELAY_S, lambda: self._read(wanted))

    def reload(self) -> None:
        """Read the runs again, though they have not changed."""
        self._read_last = NOTHING
        self._read(self._wanted)

    def use_glyphs(self, glyphs: str) -> None:
        """Draw the chart with other characters."""
        self._glyphs = glyphs
        if self.chart is not None:
            self.chart.glyphs = glyphs

    def use_unit(self, unit: LossUnit) -> None:
        """Draw losses in this unit; those of runs with different tokenizers in a unit that compares them."""
        self._unit = unit
        if self.chart is not None:
            self.chart.unit = self._mixed_unit if self.is_mixed else unit

    def next_unit(self) -> LossUnit:
        """Draw losses in the next unit. Return the unit to remember: not the one of runs with different tokenizers."""
        if self.chart is not None:
            self.chart.action_next_unit()
            if self.is_mixed:
                self._mixed_unit = self.chart.unit
            else:
                self._unit = self.chart.unit
        return self._unit

    @property
    def is_mixed(self) -> bool:
        """Whether the runs that are drawn have different tokenizers, so that nats per token do not compare them."""
        starts = [each.started for each in self._drawn.values() if each is not None]
        return len({each.vocab_size for each in starts if each is not None}) > 1

    def _read(self, wanted: Selection) -> None:
        """Read a selection in a thread and draw it, unless other runs are wanted by then. Then read what is wanted.

        A run that trains changes each second: its curves are drawn although there are newer ones already.
        """
        folders, cache = _folders(wanted), self._histories
        if folders in self._being_read or not folders or wanted != self._wanted or wanted == self._read_last:
            return

        def read() -> "tuple[dict[Key, History], Content, str]":
            from nanogpt_tui.screens.runs import run_details
            from nanogpt_tui.session.history import load_history

            histories, problem = dict[Key, "History"](), ""
            for key in wanted.curves:
                try:
                    histories[key] = cache[key] if key in cache else load_history(Path(key[0]))
                except UserError as error:  # the others are drawn
                    problem = str(error) if key == wanted.curves[0] else problem
            if len(wanted.compared) > 1:
                return histories, run_details.comparison(wanted.compared, wanted.width), problem
            return histories, run_details.description(Path(wanted.curves[0][0])), problem

        def show(found: "tuple[dict[Key, History], Content, str] | None", error: str) -> None:
            self._being_read.remove(folders)
            if not self.is_attached:
                return
            is_wanted = folders == _folders(self._wanted)
            if is_wanted and (problem := error or (found[2] if found else "")):
                self.notify(problem, severity="error", markup=False)
            if found:
                histories, text, _ = found
                self._store(histories, wanted.curves)
                if is_wanted:
                    self.query_one("#text", Static).update(text)
                    self._draw(wanted.curves)
            if not is_wanted and self._read_last == wanted:
                self._read_last = NOTHING  # it is not drawn
            self._read(self._wanted)

        self._read_last = wanted
        self._being_read.add(folders)
        self._session.fetch(read, show, "run")

    def _store(self, histories: "dict[Key, History]", curves: tuple[Key, ...]) -> None:
        """Add what was read for these curves to the cache."""
        known = self._histories | histories
        latest = {key: known[key] for key in curves if key in known}
        paths = {path for path, _ in latest}  # a run that changed is kept as it is now only
        others = [(key, each) for key, each in known.items() if key[0] not in paths]
        self._histories = dict(others[-MAX_HISTORIES:]) | latest

    def _draw(self, curves: tuple[Key, ...]) -> None:
        """Draw the curves. If the same runs are drawn already, the part of the chart that is shown stays."""
        from nanogpt_tui.widgets.chart import LossChart

        if self.chart is None:
            self.chart = LossChart(glyphs=self._glyphs, id="losses")
            self.chart.can_focus = False
            self.mount(self.chart, before=0)
        chart, before = self.chart, self._drawn
        self._drawn = {key[0]: self._histories.get(key) for key in curves}
        is_same = _are_readable(before) == _are_readable(self._drawn)
        chart.clear(keep_view=is_same)
        if not is_same:
            for name in chart.overlays:
                chart.remove_overlay(name)
        self.use_unit(self._unit)
        for index, history in enumerate(self._drawn.values()):
            if history is None:
                continue
            steps, tokens, elapsed_s, losses = map(history.column, COLUMNS)
            text, flops = history.val_text, history.flops_per_token
            if index > 0:
                name = printable(history.run)
                chart.set_overlay(name, steps, tokens, elapsed_s, losses, text=text, flops_per_token=flops)
                continue
            chart.describe(text, flops)
            chart.append(steps, tokens, elapsed_s, losses)
            if history.started is not None:
                chart.uniform = math.log(max(1, history.started.vocab_size))
            evaluations = history.evaluations
            chart.add_validation([each.step for each in evaluations], [each.val_loss for each in evaluations])
        self._post_styles()

    def _post_styles(self) -> None:
        if self.chart is None:
            return
        from nanogpt_tui.widgets.plot import OVERLAYS

        names = [Path(path).name for path, each in self._drawn.items() if each is not None]
        lines = [f"overlay-{1 + index % OVERLAYS}" for index in range(len(names))]
        if None not in list(self._drawn.values())[:1]:
            lines.insert(0, "line")
        style = self.chart.get_component_rich_style
        styles = {name: style(f"losschart--{line}", partial=True) for name, line in zip(names, lines, strict=False)}
        self.post_message(self.CurvesDrawn(styles))


def _folders(selection: Selection) -> tuple[str, ...]:
    return tuple(path for path, _ in selection.curves)


def _are_readable(drawn: "dict[str, History | None]") -> list[tuple[str, bool]]:
    return [(path, each is not None) for path, each in drawn.items()]
