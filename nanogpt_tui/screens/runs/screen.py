"""The Runs screen: what was trained, side by side; and what can be done with it. Knows nothing of training."""

import math
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, VerticalScroll
from textual.content import Content
from textual.events import Resize
from textual.widget import Widget
from textual.widgets import DataTable, Input, Static

from nanogpt import paths
from nanogpt.errors import UserError
from nanogpt.runs.state import RunState
from nanogpt_tui.keys import with_keys
from nanogpt_tui.screens.base import LabScreen
from nanogpt_tui.screens.runs.run_table import FIELDS, RunTable, arranged
from nanogpt_tui.session.completions import LIVE, Source
from nanogpt_tui.text import printable
from nanogpt_tui.widgets import copy_menu
from nanogpt_tui.widgets.dialog import Ask, AskValue, problem_of
from nanogpt_tui.widgets.step_dialogs import ask_longer_run, parse_steps

if TYPE_CHECKING:
    from nanogpt_tui.session.history import History
    from nanogpt_tui.session.workers import Worker
    from nanogpt_tui.widgets.chart import LossChart

LIST_INTERVAL_S = 2.0
SETTLED_S = 0.15  # the cursor has to rest so long before its run is read
HISTORIES_KEPT = 12
DETAILS = (52, 80)  # cells of a line beside the chart, where it is of medium width, and where it is wide
Curves = tuple[tuple[str, float], ...]  # the folder of each, and when it changed
Wanted = tuple[Curves, tuple[Path, ...], int]
EMPTY = "No runs yet. Train one: {app.train}, then {train.quick_start} for the quick start."
NO_SUCH = "No matching runs. {runs.clear} shows all runs again."
FILTER = "name, state or data set; {runs.clear} shows all"


class RunsScreen(LabScreen):
    CSS_PATH = "runs.tcss"
    AUTO_FOCUS = "RunTable"
    HELP = (
        "All runs in the runs folder. The chart shows the run under the cursor and the ticked runs; next to "
        "it are the details of the run, or the settings in which the ticked runs differ."
    )
    MOUSE = "A click on a run chooses it, on a column sorts by it; the wheel zooms into the chart"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "look", "look", id="runs.look", tooltip="Open the run in Train", priority=True),
        Binding("space", "tick", "tick", id="runs.tick", tooltip="Tick it for the chart and the comparison"),
        Binding("o", "sort", "sort", id="runs.sort", tooltip="Sort by the next column"),
        Binding("O", "turn_round", "reverse the order", id="runs.reverse", show=False),
        Binding("slash", "filter", "filter", id="runs.filter", tooltip="Show only matching runs"),
        Binding("s", "sample", "sample", id="runs.sample", tooltip="Sample from the run's best checkpoint"),
        Binding("r", "resume_run", "resume", id="runs.resume", tooltip="Resume from the latest checkpoint"),
        Binding("R", "rename", "rename", id="runs.rename", tooltip="Rename the run"),
        Binding("i", "note", "note", id="runs.note", tooltip="Edit the note of the run"),
        Binding("e", "export", "export", id="runs.export", tooltip="Export the run's metrics as CSV"),
        Binding("y", "copy", "copy", id="runs.copy", tooltip="Copy its path or its command"),
        Binding("d,delete", "delete", "delete", id="runs.delete", tooltip="Delete the run; asks first"),
        Binding(
            "v", "other_panel", "details", id="runs.panel", tooltip="Chart or details, where there is room for one"
        ),
        Binding("l", "chart('toggle_log_y')", "log-y", id="runs.log_y", show=False),
        Binding("a", "chart('next_x_axis')", "x by step, tokens or time", id="runs.x_axis", show=False),
        Binding("z", "chart('next_smoothing')", "smoothing", id="runs.smoothing", show=False),
        Binding("escape", "clear", "no filter, no ticks", id="runs.clear", show=False, priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.is_reading = True
        self.runs: list[RunState] = []
        self.by, self.reverse, self.words = "age", False, ""
        self.ticked: list[str] = []
        self.chart: LossChart | None = None  # made with the first run: its parts import numpy
        self._histories: dict[tuple[str, float], History] = {}
        self._listing: Worker[None] | None = None
        self._drawn: object = None
        self._curves: tuple[str, ...] = ()  # names of the runs that are drawn
        self._wanted_run = ""  # the one to stand on once the runs are read

    def body(self) -> Iterator[Widget]:
        yield Input(id="filter", compact=True, placeholder=with_keys(FILTER, self.app))
        yield RunTable()
        yield Static(self._why_none(), id="none")
        with Horizontal(id="about"), VerticalScroll(id="details", can_focus=False):
            yield Static(id="text")

    def on_mount(self) -> None:
        self.set_interval(LIST_INTERVAL_S, self._list)
        self.app.theme_changed_signal.subscribe(self, lambda _: self._colour_names())

    def on_screen_resume(self) -> None:
        self._list()

    def on_resize(self, event: Resize) -> None:
        self.call_after_refresh(self.repaint)

    # ---- listing

    def _list(self) -> None:
        """Reads the folder of runs in a thread, unless that is being done."""
        if self.app.screen is not self or (self._listing is not None and not self._listing.done):
            return

        def read() -> list[RunState]:
            from nanogpt import runs

            return runs.list_runs(self.session.runs_dir)

        def show(found: list[RunState] | None, error: str) -> None:
            if self.is_whole:
                self._problem(error)
                self.is_reading = False
                self.runs = found or []
                wanted, self._wanted_run = self._wanted_run, ""
                self.ticked = [name for name in self.ticked if self.summary(name)]
                self.repaint()
                if wanted:
                    self.table.highlight(wanted)

        self._listing = self.session.fetch(read, show, "runs")

    def highlight(self, name: str) -> None:
        """Move the cursor to a run, now or as soon as it is listed; clear a filter that hides it."""
        if self.words and self.summary(name) not in arranged(self.runs, self.by, self.reverse, self.words):
            self.action_clear()
        if self.summary(name):
            self.table.highlight(name)
        else:
            self._wanted_run = name

    def _problem(self, text: str) -> None:
        if text:
            self.notify(text, severity="error", markup=False)

    def summary(self, name: str | None) -> RunState | None:
        return next((run for run in self.runs if run.name == name), None)

    @property
    def table(self) -> RunTable:
        return self.query_one(RunTable)

    @property
    def current(self) -> RunState | None:
        """The run under the cursor."""
        return self.summary(self.table.current)

    def repaint(self) -> None:
        shown = arranged(self.runs, self.by, self.reverse, self.words)
        self.set_class(not shown, "-none")
        self.query_one("#none", Static).update(self._why_none())
        self.table.show(shown, self.ticked, self.by, self.reverse)
        if self.focused is None and shown:  # it was hidden as long as there was nothing to show
            self.table.focus()
        self._colour_names()
        self.refresh_bindings()
        self._about_soon()

    def _why_none(self) -> Content:
        return Content.styled(with_keys(NO_SUCH if self.runs else EMPTY, self.app), "$quiet")

    # ---- the run under the cursor, and those that are ticked

    def _about_soon(self) -> None:
        wanted = self._wanted()
        if wanted[0] and wanted != self._drawn:
            self.set_timer(SETTLED_S, lambda: self._read(wanted) if wanted == self._wanted() != self._drawn else None)

    def _wanted(self) -> Wanted:
        """What is to be shown: of the run under the cursor, then of those that are ticked, the path and when it
        changed; the folders to compare, and the cells of a line for that."""
        ticked = [run for name in self.ticked if (run := self.summary(name))]
        current = self.current
        curves = [current, *(run for run in ticked if run is not current)] if current else []
        width = self.app.size.width - 4 if self.has_class("-narrow") else DETAILS[self.has_class("-wide")]
        return tuple((run.path, run.updated) for run in curves), tuple(Path(run.path) for run in ticked), width

    def _read(self, wanted: Wanted) -> None:
        """Reads what is wanted in a thread, and shows it if it still is."""
        curves, ticked, width = wanted

        def read() -> "tuple[dict[tuple[str, float], History], Content]":
            from nanogpt_tui.screens.runs import run_details
            from nanogpt_tui.session import history

            paths = {key: Path(key[0]) for key in curves}
            new = {key: path for key, path in paths.items() if key not in self._histories}
            histories = {key: history.load_history(path) for key, path in new.items()}
            compare = len(ticked) > 1
            return histories, run_details.compared(ticked, width) if compare else run_details.described(
                paths[curves[0]]
            )

        def show(found: "tuple[dict[tuple[str, float], History], Content] | None", error: str) -> None:
            if self._drawn == wanted and self.is_whole:
                self._problem(error)
                if found:
                    histories, text = found
                    self._histories = dict([*self._histories.items(), *histories.items()][-HISTORIES_KEPT:]) | histories
                    self._draw(curves, text)

        self._drawn = wanted
        self.session.fetch(read, show, "run")

    def settings_changed(self) -> None:
        for field in self.query("#filter").results(Input):
            field.placeholder = with_keys(FILTER, self.app)
            self.query_one("#none", Static).update(self._why_none())
        if self.chart is not None:
            self.chart.glyphs = self.lab.settings.glyphs

    def _draw(self, curves: Curves, text: Content) -> None:
        from nanogpt_tui.widgets.chart import LossChart

        self.query_one("#text", Static).update(text)
        if self.chart is None:
            self.chart = LossChart(glyphs=self.lab.settings.glyphs, id="losses")
            self.chart.can_focus = False
            self.query_one("#about").mount(self.chart, before=0)
        chart, columns = self.chart, ("step", "tokens", "elapsed_s", "loss")
        chart.clear()
        for name in chart.overlays:
            chart.remove_overlay(name)
        self._curves = tuple(Path(path).name for path, _ in curves)
        self._colour_names()
        for place, key in enumerate(curves):
            history = self._histories.get(key)
            if history is None:
                continue
            if place == 0:
                chart.append(*(history.column(name) for name in columns))
                if history.started is not None:
                    chart.uniform = math.log(history.started.vocab_size)
                points = history.evaluations
                chart.add_validation([each.step for each in points], [each.val_loss for each in points])
            else:
                chart.set_overlay(printable(history.run), *(history.column(name) for name in columns))

    def _colour_names(self) -> None:
        """Gives the name of each run that is drawn the colour of its curve."""
        if self.chart is None:
            return
        from nanogpt_tui.widgets.plot import OVERLAYS

        lines = ["line", *(f"overlay-{1 + number % OVERLAYS}" for number in range(len(self._curves) - 1))]
        style = self.chart.get_component_rich_style
        drawn = zip(self._curves, lines, strict=False)
        self.table.colour({name: style(f"losschart--{line}", partial=True) for name, line in drawn})

    def on_data_table_row_highlighted(self) -> None:
        self.refresh_bindings()
        self._about_soon()

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        name = event.column_key.value or self.by
        self.reverse = not self.reverse if name == self.by else False
        self.by = name
        self.repaint()

    # ---- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing now are neither shown nor obeyed."""
        if action == "other_panel":
            return self.has_class("-narrow") and bool(self.runs)
        if action in ("sort", "turn_round", "filter"):
            return bool(self.runs)
        if not self.is_whole or action not in NEEDS_A_RUN:
            return True
        run = self.current
        aside = action in ("look", "tick") and not self.table.has_focus
        if run is None or aside or (self.session.readonly and action in CHANGES_A_RUN):
            return False
        if action == "resume_run":
            return not self.session.is_training and not run.alive
        return action not in ("rename", "delete") or not run.alive

    def action_tick(self) -> None:
        run = self.current
        if run is not None:
            self.ticked = [name for name in self.ticked if name != run.name] + [run.name] * (
                run.name not in self.ticked
            )
            self.repaint()

    def action_sort(self) -> None:
        names = list(FIELDS)
        self.by, self.reverse = names[(names.index(self.by) + 1) % len(names)], False
        self.repaint()

    def action_turn_round(self) -> None:
        self.reverse = not self.reverse
        self.repaint()

    def action_filter(self) -> None:
        self.add_class("-filter")
        self.set_focus(self.query_one("#filter", Input))  # at once: the next key is for it

    def on_input_changed(self, event: Input.Changed) -> None:
        self.words = event.value
        self.repaint()

    def on_input_submitted(self) -> None:
        self.table.focus()

    def action_clear(self) -> None:
        field = self.query_one("#filter", Input)
        if not field.has_focus and not field.value:
            self.ticked = []
        field.value = self.words = ""
        self.remove_class("-filter")
        self.table.focus()
        self.repaint()

    def action_other_panel(self) -> None:
        self.toggle_class("-details")

    def action_chart(self, action: str) -> None:
        if self.chart is not None:
            getattr(self.chart, f"action_{action}")()

    def _try(self, act: Callable[[], object]) -> bool:
        """Does something to a run, and says in one line where that cannot be done."""
        try:
            act()
        except UserError as error:
            self._problem(str(error))
            return False
        self._list()
        return True

    async def action_look(self) -> None:
        run = self.current
        if run is None:
            return
        folder = Path(run.path)
        if folder == self.session.folder or self._try(lambda: self.session.show_run(folder)):
            await self.app.switch_mode("train")

    async def action_sample(self) -> None:
        run = self.current
        if run is None:
            return
        live = self.session.is_training and Path(run.path) == self.session.folder
        await self.lab.sample_from(Source(None, LIVE) if live else Source(run.name, "best"))

    async def action_resume_run(self) -> None:
        run = self.current
        if run is None:
            return
        if run.state == "finished" and run.step >= run.max_iters:
            self.app.push_screen(
                ask_longer_run(run.name, run.step, run.max_iters),
                lambda text: self._resume(run, {"max_iters": parse_steps(text)}) if text else None,
            )
        else:
            self._resume(run, {})

    def _resume(self, run: RunState, changes: dict[str, int]) -> None:
        if self._try(lambda: self.session.resume(Path(run.path), changes)):
            self.app.switch_mode("train")

    def action_rename(self) -> None:
        run = self.current
        if run is not None:
            from nanogpt.runs import manage

            question = AskValue(
                "Rename the run to:", run.name, problem_of(lambda name: manage.rename(Path(run.path), name))
            )
            self.app.push_screen(question, lambda name: self._renamed(Path(run.path), name))

    def _renamed(self, old: Path, new: str | None) -> None:
        if new is not None:
            self.ticked = [new if name == old.name else name for name in self.ticked]
            if self.session.folder == old:
                self.session.folder = old.with_name(new)
            self._list()

    def action_note(self) -> None:
        run = self.current
        if run is not None:
            from nanogpt.runs import manage

            folder = Path(run.path)
            known = manage.read_note(folder).replace("\n", " ")
            question = AskValue("A note on the run:", known, problem_of(lambda text: manage.write_note(folder, text)))
            self.app.push_screen(question, lambda _: self._reread())

    def _reread(self) -> None:
        self._drawn = None
        self._about_soon()

    def action_delete(self) -> None:
        run = self.current
        if run is not None:
            about = f"Delete {printable(run.name)}, step {run.step:,}, with all its checkpoints? This cannot be undone."
            self.app.push_screen(Ask(about, DELETE_ANSWERS), lambda answer: self._delete(run, answer))

    def _delete(self, run: RunState, answer: str | None) -> None:
        if answer == "delete":
            from nanogpt.runs import manage

            self._try(lambda: manage.delete(Path(run.path)))

    def action_copy(self) -> None:
        run = self.current
        if run is not None:
            copy_menu.offer_run(self.lab, Path(run.path))

    def action_export(self) -> None:
        run = self.current
        if run is None:
            return
        from nanogpt.runs import manage

        file = Path.cwd() / f"{run.name}-{time.strftime('%Y%m%d-%H%M%S')}.csv"
        check = problem_of(lambda text: manage.export_metrics(Path(run.path), paths.expanded(text)))
        self.app.push_screen(AskValue("Export the metrics to a CSV file:", str(file), check), self._exported)

    def _exported(self, file: str | None) -> None:
        if file is not None:
            self.notify(f"written to {file}", markup=False)


CHANGES_A_RUN = {"resume_run", "rename", "note", "delete"}
NEEDS_A_RUN = {"copy", "look", "tick", "sample", "resume_run", "rename", "note", "delete", "export", "chart"}
DELETE_ANSWERS = {"delete": ("d", "delete"), "keep": ("escape", "keep")}
