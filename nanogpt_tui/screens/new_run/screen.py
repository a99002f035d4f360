"""The screen of a new run: the form, an estimate of memory and time while it is filled in, and the start of the run.

The typed values are in a `Draft`. The disk is read and the speed is measured in threads.
"""

from collections.abc import Iterable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import ClassVar, cast

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.events import DescendantFocus, Resize
from textual.widget import Widget
from textual.widgets import Button, Input, Static

from nanogpt.config import KINDS, Config, loadable_names, preset_names
from nanogpt.config.components import owners
from nanogpt.data.catalog import DatasetInfo
from nanogpt.errors import UserError
from nanogpt_tui.screens.base import LabScreen
from nanogpt_tui.screens.new_run.estimate import Estimate
from nanogpt_tui.screens.new_run.fields import Field, field_help
from nanogpt_tui.screens.new_run.form import Form, preset_options
from nanogpt_tui.screens.new_run.form_options import FormOptions, read_options
from nanogpt_tui.session.draft import SCRATCH, Base, Draft, read_base
from nanogpt_tui.session.speed_measurement import SpeedMeasurement
from nanogpt_tui.text import safe_content
from nanogpt_tui.widgets.choice import Choice
from nanogpt_tui.widgets.whole import is_on_top

TALL = 34  # lines of a terminal that has room for the glossary text of a field
IN_BACKGROUND = "Start training in a background process"


class NewRunScreen(LabScreen):
    """A form at the left; at the right the estimate, and the help of the focused field."""

    CSS_PATH = "new_run.tcss"
    AUTO_FOCUS = "Choice"
    HELP = (
        "A new run. Tab or {new_run.next} and {new_run.previous} go from field to field; {choice.previous} "
        "and {choice.next} change a choice, {choice.list} lists all of them. The estimate on the right "
        "follows what you type. A dot marks a value that differs from the preset. {app.help} explains a "
        "field."
    )
    MOUSE = "A click chooses a field, turns a choice, or presses a button; the wheel scrolls the form"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+s", "start", "start", id="new_run.start", tooltip="Start training"),
        Binding("escape", "close", "back", id="new_run.close", tooltip="Back, without starting anything"),
        Binding("ctrl+t", "measure", "measure", id="new_run.measure", tooltip="Measure the speed on this machine now"),
        Binding("ctrl+o", "more", "more settings", id="new_run.more", tooltip="Show or hide the other settings"),
        Binding("ctrl+r", "reset", "reset", id="new_run.reset", tooltip="Back to the preset's values"),
        Binding(
            "ctrl+g", "start_in_background", "start in background", id="new_run.start_apart", tooltip=IN_BACKGROUND
        ),
        Binding("f7", "start_in_background", "start in background", show=False, id="new_run.start_apart_too"),
        Binding("f5", "start", "start", show=False, id="new_run.start_too"),
        Binding("f6", "measure", "measure", show=False, id="new_run.measure_too"),
        Binding("down", "app.focus_next", "next field", show=False, id="new_run.next"),
        Binding("up", "app.focus_previous", "previous field", show=False, id="new_run.previous"),
    ]

    def __init__(
        self, dataset: str = "", preset: str = "", start: str = SCRATCH, known: Iterable[DatasetInfo] = ()
    ) -> None:
        """`start` is "scratch", "weights NAME" or "resume NAME" of a run. `known` are the data sets that the form
        shows until it has read the disk."""
        super().__init__()
        self.draft = Draft(dataset=dataset)
        self._first = preset, start
        self._wanted: tuple[str, str] | None = self._first  # what a thread reads; the draft has it afterwards
        self.config: Config | None = None  # None while a field is wrong
        self.datasets = {info.name: info for info in known}
        self.is_reading = True
        self._starting = False
        self._starts_once_read = False
        self.in_background = False  # whether the run gets a process of its own

    def body(self) -> Iterator[Widget]:
        self.draft.runs_dir = self.session.runs_dir
        self.measuring = SpeedMeasurement(self.session, self.set_timer, self._show_measured)
        with Horizontal(id="new-run"):
            yield Form(self.draft, *self._first)
            with Vertical(id="side"):
                yield Static(Content("estimate"), classes="group")
                yield Estimate()
                yield Button("start", compact=True, id="start-button", variant="primary")
                yield Static(id="problems")
                yield Static(id="about")

    # ---- options from the disk

    def on_mount(self) -> None:
        self._changed()
        self.call_later(self._read_base, *self._first)  # when it is mounted: results before that would be dropped

    def _read_base(self, preset: str, start: str) -> None:
        """Read a preset, or a run to start from, and load the components. Until then the form has its values from
        before."""
        self._wanted, runs_dir = (preset, start), self.session.runs_dir

        def read() -> tuple[Base, tuple[str, ...], dict[str, tuple[str, ...]]]:
            components = {kind.name: loadable_names(kind) for kind in KINDS}
            return read_base(preset, start, runs_dir), preset_names(), components

        def show(found: tuple[Base, tuple[str, ...], dict[str, tuple[str, ...]]] | None, error: str) -> None:
            if not self.is_whole or self._wanted != (preset, start):
                return
            self._wanted = None
            base, names, components = found or (Base(preset, start, None, error), (), {})
            for kind, loadable in components.items():
                self.choice(kind).set_options([(name, name) for name in loadable])
            self.choice("preset").set_options(preset_options(names if preset in ("", *names) else (*names, preset)))
            self.draft.choose(base)
            self._changed(show_values=True)
            self._show_about()
            if self.is_reading:
                self._read_options()
            else:
                self._start_if_asked()

        self.session.fetch(read, show, "read preset or run", answers_key=True)

    def _read_options(self) -> None:
        runs_dir = self.session.runs_dir
        self.session.fetch(lambda: read_options(runs_dir), self._show_options, "list data sets and runs")

    def _show_options(self, found: FormOptions | None, error: str) -> None:
        if not self.is_whole:
            return
        self.is_reading = False
        if found is None:
            self.notify(error, severity="error", markup=False)
            self._start_if_asked()
            return
        self.datasets = {info.name: info for info in found.datasets}
        self.draft.tokenizers, self.draft.taken = found.tokenizers, found.taken
        if self.draft.has_base:
            self.draft.prefer_prepared(self.datasets)
            self.choice("dataset").show(self.draft.shown("dataset"))
        self._show_datasets()
        self.choice("start").set_options(list(found.starts))
        self._changed()
        self._start_if_asked()

    def _show_datasets(self) -> None:
        options = [
            (info.name, info.name if info.prepared else f"{info.name} (not prepared)")
            for info in self.datasets.values()
            if not info.problem
        ]
        shown = self.choice("dataset").value
        if shown not in self.datasets:
            options.append((shown, shown))
        self.choice("dataset").set_options(options)

    # ---- fields

    @property
    def form(self) -> Form:
        """The form with all fields."""
        return self.query_one(Form)

    def field(self, name: str) -> Field:
        """Return the field of a name; it must exist."""
        return self.form.field(name)

    async def focus_setting(self, name: str) -> None:
        """Focus the field of a setting, or if its component is not chosen, the field that chooses components of its
        kind."""
        if not self.draft.has_base:
            return
        known = self.draft.settings()
        if name not in known:
            kind, component = owners(name)[0]
            self.notify(f"{name} is a setting of {kind.name}={component}: choose that first", markup=False)
            name = kind.name
        if name != "dataset" and not known[name].common and not self.form.shows_more:
            await self.action_more()
        field = self.field(name)
        field.editor.focus()
        self.call_after_refresh(field.scroll_visible, animate=False)

    def choice(self, name: str) -> Choice:
        """Return the choice of a field that has one."""
        return cast(Choice, self.field(name).editor)

    def on_field_changed(self, message: Field.Changed) -> None:
        name, text = message.name, message.text
        if name in ("preset", "start"):
            preset, start = self._wanted or (self.draft.preset, self.draft.start)
            self._read_base(*((text, start) if name == "preset" else (preset, text)))
            return
        if name == "name":
            self.draft.name = text
        elif name == "place":
            self.in_background = text == "own"
        else:
            self.draft.edit(name, text)
        self._changed(show_values=any(name == kind.name for kind in KINDS))  # which replaces values that do not fit

    def _changed(self, show_values: bool = False) -> None:
        """Check the draft, show problems at their fields, and update the estimate."""
        has_base, form = self.draft.has_base, self.form
        dataset = self.datasets.get(self.draft.shown("dataset")) if has_base else None
        self.config, problems = self.draft.checked(dataset)
        known = form.update_fields() if has_base else {}
        fixed, changes = (self.draft.fixed, self.draft.changes()) if has_base else ((), {})
        fields = {field.name or "": field for field in form.fields}
        for name, field in fields.items():
            setting = name in known
            if setting and has_base:
                field.fix(name in fixed)
                if show_values or name in fixed:
                    field.show(self.draft.shown(name))
            field.mark(edited=setting and name in changes, problem=problems.get(name, ""))
        fields["preset"].fix(self.draft.resumes)
        fields["name"].fix(self.draft.resumes)
        self._show_name()
        hidden = [f"{name}: {problem}" for name, problem in problems.items() if name not in fields]
        self.query_one("#problems", Static).update(safe_content("\n".join(hidden), "$error"))
        self.query_one("#start-button", Button).disabled = self.config is None
        self.query_one("#start-button", Button).label = "resume" if self.draft.resumes else "start"
        self.measuring.request(self.config, self.datasets)
        self._show_estimate()
        self.refresh_bindings()

    def _show_name(self) -> None:
        editor = self.field("name").editor
        if isinstance(editor, Input):
            try:
                editor.placeholder = self.draft.suggested_name()
            except UserError:
                editor.placeholder = ""

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        self._show_about()

    def on_resize(self, event: Resize) -> None:
        self._show_about()

    def _show_about(self) -> None:
        above = self.focused.ancestors if self.focused is not None else ()
        field = next((node for node in above if isinstance(node, Field)), None)
        about = (
            field_help(field, self.draft.about_preset, self.app.size.height >= TALL) if field is not None else Content()
        )
        self.query_one("#about", Static).update(about)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.focus_next()

    # ---- estimate

    def _show_estimate(self) -> None:
        self.query_one(Estimate).set_class(self.config is None, "-stale")
        if self.config is not None:
            dataset = self.datasets.get(self.config.data.dataset)
            speed, measuring = self.measuring.speed, self.measuring.is_measuring
            self.query_one(Estimate).show(self.config, dataset, speed, measuring, self.draft.first_step)

    def _show_measured(self) -> None:
        if self.is_whole:
            self._show_estimate()

    def on_unmount(self) -> None:
        self.measuring.cancel()

    def action_measure(self) -> None:
        """Measure the speed now, without waiting for a pause in typing."""
        self.measuring.start()

    # ---- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether the action has an effect now; else its key is neither shown nor handled."""
        if action in ("start", "start_in_background", "measure"):
            return self.config is not None or self._wanted is not None
        if action == "reset":
            return bool(self.draft.edits)
        return True

    def action_close(self) -> None:
        self.dismiss()

    def action_reset(self) -> None:
        self.draft.edits.clear()
        self._changed(show_values=True)

    async def action_more(self) -> None:
        if not self.draft.has_base:  # the fields would have no values
            return
        await self.form.toggle_more()
        self._changed(show_values=True)

    async def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "more-button":
            await self.action_more()
        else:
            self.action_start()

    def action_start(self) -> None:
        """Start the run once the measurement has ended: the two would share torch's random numbers."""
        if self._wanted is not None or self.is_reading:  # what is read may choose another data set
            self._starts_once_read = True
            return
        if self.config is None or self._starting:
            return
        if self.session.is_training:
            self.notify("a run is training: stop it first", severity="error", markup=False)
            return
        self._starting = True
        self.query_one("#start-button", Button).label = "starting …"
        draft = replace(self.draft, edits=dict(self.draft.edits))
        self._start_after_measurement(self.config, draft, self.in_background)

    def _start_if_asked(self) -> None:
        if self._starts_once_read:
            self._starts_once_read = False
            self.action_start()

    def action_start_in_background(self) -> None:
        self.in_background = True
        self.choice("place").show("own")
        self.action_start()

    def _start_after_measurement(self, config: Config, draft: Draft, in_background: bool) -> None:
        """Start the run as it was at the time of the key, whatever is typed until the measurement has ended."""
        self.measuring.cancel()  # also what was typed meanwhile
        if self.session.is_measuring:
            self.set_timer(0.05, lambda: self._start_after_measurement(config, draft, in_background))
            return
        session = self.session

        def begin(folder: Path | None, error: str) -> None:
            if not self.is_whole:  # it was closed meanwhile
                return
            if folder is None:
                self._end_start(error)
            elif draft.resumes:
                resume = session.resume_detached if in_background else session.resume
                resume(folder, draft.changes(), self._end_start)
            else:
                start = session.start_detached if in_background else session.start_training
                try:
                    start(config, folder)
                except UserError as problem:
                    error = str(problem)
                self._end_start(error)

        session.fetch(draft.target, begin, "start", answers_key=True)

    def _end_start(self, error: str) -> None:
        """Show the run that was started, or why it could not be. The form may be below another screen or closed."""
        self._starting = False
        if error:
            self.notify(error, severity="error", markup=False)
        elif not is_on_top(self):  # another mode is shown, and the form may lie over Train
            self.app.switch_mode("train")
        if not error and is_on_top(self):
            self.dismiss()
            self.app.call_later(self.lab.show_train)
        elif self.is_whole:
            self._changed()
