"""The Runs screen: a table of all runs, the curves and settings of some of them, and what can be done with a run."""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from textual.binding import Binding, BindingType
from textual.content import Content
from textual.events import Resize
from textual.widget import Widget
from textual.widgets import DataTable, Input, Static

from nanogpt import paths
from nanogpt.errors import UserError
from nanogpt.runs.state import RunState
from nanogpt_tui.keys import with_keys
from nanogpt_tui.screens.base import LabScreen
from nanogpt_tui.screens.runs.run_panel import RunPanel
from nanogpt_tui.screens.runs.run_table import FIELDS, RunTable, sorted_runs
from nanogpt_tui.session.completions import LIVE, Source
from nanogpt_tui.text import escaped, printable, safe_content, unescaped
from nanogpt_tui.widgets import copy_menu
from nanogpt_tui.widgets.dialog import Ask, AskValue, in_current_folder
from nanogpt_tui.widgets.step_dialogs import ask_longer_run, parse_steps
from nanogpt_tui.widgets.whole import is_on_top

if TYPE_CHECKING:
    from nanogpt_tui.session.workers import Worker
    from nanogpt_tui.widgets.chart import LossChart

LIST_INTERVAL_S = 2.0
AGE_INTERVAL_S = 30.0  # how often the ages in the table are brought up to date if nothing else changes, at most
AGE_SHARE = 0.005  # of the time that may take: a table of thousands of runs is drawn less often
DETAILS_WIDTHS = (52, 80)  # cells of the text beside the chart, on a medium and on a wide terminal
EMPTY = "No runs yet."
HOW_TO_TRAIN = " Train one: {app.train}, then {train.quick_start} for the quick start."
NO_MATCH = "No matching runs. {runs.clear} shows all runs again."
UNIT_TOOLTIP = "The loss in nats per token, as perplexity, bits per character or bits per byte"
FILTER = "name, state or data set; {runs.clear} shows all"


class RunsScreen(LabScreen):
    """A table of all runs; below it, the curves of some and the details of one."""

    CSS_PATH = "runs.tcss"
    AUTO_FOCUS = "RunTable"
    HELP = (
        "All runs in the runs folder. The chart shows the run under the cursor and the ticked runs; next to "
        "it are the details of the run, or the settings in which the ticked runs differ."
    )
    MOUSE = "A click on a run chooses it, on a column sorts by it; the wheel zooms into the chart"
    WRITES = frozenset({"resume_run", "rename", "note", "delete", "export"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "show_run", "look", id="runs.look", tooltip="Open the run in Train", priority=True),
        Binding("space", "tick", "tick", id="runs.tick", tooltip="Tick it for the chart and the comparison"),
        Binding("o", "sort", "sort", id="runs.sort", tooltip="Sort by the next column"),
        Binding("O", "reverse_order", "reverse the order", id="runs.reverse", show=False),
        Binding("slash", "filter", "filter", id="runs.filter", tooltip="Show only matching runs"),
        Binding("s", "sample", "sample", id="runs.sample", tooltip="Sample from the run's best checkpoint"),
        Binding("r", "resume_run", "resume", id="runs.resume", tooltip="Resume from the latest checkpoint"),
        Binding("R", "rename", "rename", id="runs.rename", tooltip="Rename the run"),
        Binding("i", "note", "note", id="runs.note", tooltip="Edit the note of the run"),
        Binding("e", "export", "export", id="runs.export", tooltip="Export its record: CSV, Parquet or a page"),
        Binding("y", "copy", "copy", id="runs.copy", tooltip="Copy its path or its command"),
        Binding("d,delete", "delete", "delete", id="runs.delete", tooltip="Delete the run; asks first"),
        Binding(
            "v", "other_panel", "details", id="runs.panel", tooltip="Chart or details, where there is room for one"
        ),
        Binding("l", "chart('toggle_log_y')", "log-y", id="runs.log_y", show=False),
        Binding("a", "chart('next_x_axis')", "x by step, tokens, time or FLOPs", id="runs.x_axis", show=False),
        Binding("L", "loss_unit", "loss unit", id="runs.loss_unit", show=False, tooltip=UNIT_TOOLTIP),
        Binding("z", "chart('next_smoothing')", "smoothing", id="runs.smoothing", show=False),
        Binding("escape", "clear", "no filter, no ticks", id="runs.clear", show=False, priority=True),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.is_reading = True
        self.runs: list[RunState] = []
        self.by, self.reverse, self.words = "age", False, ""
        self.ticked: list[str] = []
        self._list_job: Worker[None] | None = None
        self._list_error = ""  # why the folder of runs cannot be read
        self._highlight_next = ""  # name of the run to highlight when the runs are read
        self._next_repaint = 0.0  # time.monotonic()

    def body(self) -> Iterator[Widget]:
        yield Input(id="filter", compact=True, placeholder=with_keys(FILTER, self.app))
        yield RunTable()
        yield Static(self._empty_text(), id="none")
        yield RunPanel(self.session, self.lab.settings.glyphs, self.lab.settings.loss_unit)

    def on_mount(self) -> None:
        self.set_interval(LIST_INTERVAL_S, self._list)

    def on_screen_resume(self) -> None:
        self._list()

    def on_resize(self, event: Resize) -> None:
        self.call_after_refresh(self.repaint)

    # ---- listing

    def _list(self) -> None:
        """Read the folder of runs in a thread, unless it is being read."""
        if not is_on_top(self) or (self._list_job is not None and not self._list_job.done):
            return

        def show(found: list[RunState] | None, error: str) -> None:
            began = time.monotonic()
            if not self.is_whole:
                return
            is_news, self._list_error, self.is_reading = error != self._list_error, error, False
            if found is None:  # the rows and the ticks stay
                if is_news:
                    self._notify_error(error)
                    self.repaint()
            elif found is not self.runs or is_news or began > self._next_repaint or self._highlight_next:
                self.runs = found
                name, self._highlight_next = self._highlight_next, ""
                self.ticked = [name for name in self.ticked if self.summary(name)]
                self.repaint()
                if name:
                    self.table.highlight(name)
                took = time.monotonic() - began
                self._next_repaint = began + max(AGE_INTERVAL_S, took / AGE_SHARE)

        self._list_job = self.session.fetch(self.session.list_runs, show, "runs")

    def highlight(self, name: str) -> None:
        """Move the cursor to a run, now or as soon as it is listed; clear a filter that hides it."""
        if self.words and self.summary(name) not in sorted_runs(self.runs, self.by, self.reverse, self.words):
            self.action_clear()
        if self.summary(name):
            self.table.highlight(name)
        else:
            self._highlight_next = name

    def _notify_error(self, text: str) -> None:
        if text:
            self.notify(text, severity="error", markup=False)

    def summary(self, name: str | None) -> RunState | None:
        """Return the state of a run, None if there is none of that name."""
        return next((run for run in self.runs if run.name == name), None)

    @property
    def table(self) -> RunTable:
        """The table of runs."""
        return self.query_one(RunTable)

    @property
    def current(self) -> RunState | None:
        """The run under the cursor."""
        return self.summary(self.table.current)

    @property
    def panel(self) -> RunPanel:
        """The lower half of the screen."""
        return self.query_one(RunPanel)

    @property
    def chart(self) -> "LossChart | None":
        """The chart of the panel, None before the first run is drawn."""
        return self.panel.chart

    def repaint(self) -> None:
        """Sort and filter the table, and show the run under the cursor."""
        shown = sorted_runs(self.runs, self.by, self.reverse, self.words)
        self.set_class(not shown, "-none")
        self.query_one("#none", Static).update(self._empty_text())
        self.table.show(shown, self.ticked, self.by, self.reverse)
        if self.focused is None and shown:  # an empty table is hidden
            self.table.focus()
        self._show_current()

    def _show_current(self) -> None:
        self.refresh_bindings()
        width = self.app.size.width - 4 if self.has_class("-narrow") else DETAILS_WIDTHS[self.has_class("-wide")]
        self.panel.show(self.current, [run for name in self.ticked if (run := self.summary(name))], width)

    def _empty_text(self) -> Content:
        if self._list_error and not self.runs:
            return safe_content(self._list_error, "$error")
        empty = EMPTY if self.session.readonly else EMPTY + HOW_TO_TRAIN
        return Content.styled(with_keys(NO_MATCH if self.runs else empty, self.app), "$quiet")

    def on_run_panel_curves_drawn(self, message: RunPanel.CurvesDrawn) -> None:
        self.table.set_mark_styles(message.styles)

    def settings_changed(self) -> None:
        for field in self.query("#filter").results(Input):
            field.placeholder = with_keys(FILTER, self.app)
            self.query_one("#none", Static).update(self._empty_text())
        for panel in self.query(RunPanel):
            panel.use_glyphs(self.lab.settings.glyphs)
            panel.use_unit(self.lab.settings.loss_unit)

    def on_data_table_row_highlighted(self) -> None:
        self._show_current()

    def on_data_table_header_selected(self, event: DataTable.HeaderSelected) -> None:
        name = event.column_key.value or self.by
        self.reverse = not self.reverse if name == self.by else False
        self.by = name
        self.repaint()

    # ---- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether the action has an effect now; else its key is neither shown nor handled."""
        if not super().check_action(action, parameters):
            return False
        if action == "other_panel":
            return self.has_class("-narrow") and bool(self.runs)
        if action in ("sort", "reverse_order", "filter"):
            return bool(self.runs)
        if not self.is_whole or action not in NEEDS_A_RUN:
            return True
        run = self.current
        is_elsewhere = action in ("show_run", "tick") and not self.table.has_focus
        if run is None or is_elsewhere:
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

    def action_reverse_order(self) -> None:
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

    def action_loss_unit(self) -> None:
        """Show the losses in the next unit, also in later sessions."""
        if self.chart is not None:
            self.lab.set_preference("loss_unit", self.panel.next_unit())

    def _try(self, act: Callable[[], object]) -> bool:
        """Call `act` and list the runs again; notify and return False if it raises `UserError`."""
        try:
            act()
        except UserError as error:
            self._notify_error(str(error))
            return False
        self._list()
        return True

    async def action_show_run(self) -> None:
        run = self.current
        if run is None:
            return
        folder = Path(run.path)
        is_shown = folder == self.session.folder and not self.session.has_lost_run
        if is_shown:
            self.session.keep_shown()
        if is_shown or self._try(lambda: self.session.show_run(folder, answers_key=True)):
            await self.lab.show_train()

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
        def show(error: str) -> None:
            self._notify_error(error)
            if not error:
                self.app.call_later(self.lab.show_train)

        self.session.resume(Path(run.path), changes, show)

    def action_rename(self) -> None:
        run = self.current
        if run is not None:
            from nanogpt.runs import manage

            question = AskValue("Rename the run to:", run.name, act=lambda name: manage.rename(Path(run.path), name))
            self.app.push_screen(question, lambda name: self._renamed(Path(run.path), name))

    def _renamed(self, old: Path, new: str | None) -> None:
        if new is not None:
            self.ticked = [new if name == old.name else name for name in self.ticked]
            if self.session.folder == old:
                self.session.rename_shown(new)
            self._highlight_next = new  # it may be at another place of the table now
            self._list()

    def action_note(self) -> None:
        run = self.current
        if run is not None:
            from nanogpt.runs import manage

            folder = Path(run.path)

            def ask(known: str | None, error: str) -> None:
                if known is not None and is_on_top(self):
                    shown = escaped(known)

                    def write(text: str) -> None:
                        if text != shown:
                            manage.write_note(folder, unescaped(text))

                    question = AskValue("A note on the run (\\n is a line break, \\\\ a backslash):", shown, act=write)
                    self.app.push_screen(question, lambda _: self.panel.reload())

            self.session.fetch(lambda: manage.read_note(folder), ask, "note", answers_key=True)

    def action_delete(self) -> None:
        run = self.current
        if run is not None:
            about = f"Delete {printable(run.name)}, step {run.step:,}, with all its checkpoints? This cannot be undone."
            self.app.push_screen(Ask(about, DELETE_ANSWERS), lambda answer: self._delete(run, answer))

    def _delete(self, run: RunState, answer: str | None) -> None:
        if answer == "delete":
            from nanogpt.runs import manage

            def show(_: object, error: str) -> None:
                self._notify_error(error)
                self._list()

            self.session.fetch(lambda: manage.delete(Path(run.path)), show, "delete", answers_key=True)

    def action_copy(self) -> None:
        run = self.current
        if run is not None:
            copy_menu.ask_copy_run(self.lab, Path(run.path))

    def action_export(self) -> None:
        run = self.current
        if run is None:
            return
        from nanogpt.reports.export import export_metrics

        file = in_current_folder(f"{run.name}-{time.strftime('%Y%m%d-%H%M%S')}.csv")
        question = AskValue(
            "Export what the run recorded, to a file that ends in .csv, .parquet or .html:",
            file,
            act=lambda text: export_metrics(Path(run.path), paths.expanded(text)),
        )
        self.app.push_screen(question, self._exported)

    def _exported(self, file: str | None) -> None:
        if file is not None:
            self.notify(f"written to {file}", markup=False)


NEEDS_A_RUN = {"copy", "show_run", "tick", "sample", "resume_run", "rename", "note", "delete", "export", "chart"}
DELETE_ANSWERS = {"delete": ("y", "delete"), "keep": ("escape", "keep")}
