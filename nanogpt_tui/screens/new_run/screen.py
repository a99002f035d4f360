"""The form of a new run: every setting, what it comes to while it is typed, and starting it. Knows nothing of training.

What was typed is in a `Draft`; reading what there is and measuring the speed go on in threads, and never wait for keys.
"""

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.events import DescendantFocus, Resize
from textual.widget import Widget
from textual.widgets import Button, Input, Static

from nanogpt.config import Config, Setting, preset_names
from nanogpt.config.components import owners
from nanogpt.data.catalog import DatasetInfo
from nanogpt.errors import UserError
from nanogpt_tui.screens.base import LabScreen
from nanogpt_tui.screens.new_run.estimate import Estimate
from nanogpt_tui.screens.new_run.fields import Field, explained, field_of
from nanogpt_tui.session.draft import NOT_IN_FORM, SCRATCH, Draft
from nanogpt_tui.session.speed_measurement import SpeedMeasurement
from nanogpt_tui.text import safe_content
from nanogpt_tui.widgets.choice import Choice

if TYPE_CHECKING:
    pass

TALL = 34  # lines of a terminal that has room for what a word means
GROUPS = ("data", "model", "training")  # of what is shown at first; the last has what is of no section above
START = "the initial weights: random, those of another run, or everything of an interrupted run, to resume it"
PRESET = "supplies every value that is not changed here"
APART = "Start training in a background process"
PLACE = "a run in this app continues when the terminal closes; a background process does not need the app at all"
PLACES = [("app", "this app"), ("own", "a background process")]
NAME = "the run's name; leave it empty for the name shown"


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Offered:
    """The data sets that there are, what a run can start from: (value of the field, words), and the tokenizers of all
    of them: fingerprints of "run NAME" and "data set NAME"."""

    datasets: tuple[DatasetInfo, ...]
    starts: tuple[tuple[str, str], ...]
    tokenizers: dict[str, str]


def offered(runs_dir: str | None) -> Offered:
    """Return what there is on disk now."""
    from nanogpt import data, runs
    from nanogpt.tokenizers import fingerprint, load

    starts, tokenizers = [(SCRATCH, "random weights")], dict[str, str]()
    datasets = data.list_datasets()
    for info in datasets:
        if info.prepared and not info.problem:
            tokenizers[f"data set {info.name}"] = data.open_dataset(info.name).meta.tokenizer_fingerprint
    for run in runs.list_runs(runs_dir):
        if os.path.isdir(f"{run.path}/checkpoints"):  # noqa: PTH112 (unlike Path's it never raises)
            with suppress(UserError):  # what is wrong with it is said when it is chosen
                tokenizers[f"run {run.name}"] = fingerprint(load(Path(run.path) / "tokenizer.json"))
            starts.append((f"weights {run.name}", f"weights of {run.name}"))
            if not run.alive:
                starts.append((f"resume {run.name}", f"resume {run.name} at step {run.step:,}"))
    return Offered(datasets=tuple(datasets), starts=tuple(starts), tokenizers=tokenizers)


def common(known: Mapping[str, Setting], title: str) -> list[Setting]:
    """The settings that one group of the form shows at first."""
    return [
        setting
        for setting in known.values()
        if setting.common and (setting.section if setting.section in GROUPS else GROUPS[-1]) == title
    ]


def rare(known: Mapping[str, Setting]) -> dict[str, list[Setting]]:
    """The other settings of the form, by section."""
    sections: dict[str, list[Setting]] = {setting.section: [] for setting in known.values()}
    for name, setting in known.items():
        if not setting.common and name not in (*NOT_IN_FORM, "dataset"):
            sections[setting.section].append(setting)
    return sections


def fit(group: Vertical, members: list[Setting], made: Callable[[Iterable[Setting]], list[Field]]) -> None:
    """Brings the fields of a group to those of `members`, and keeps the ones that fit already."""
    there = {field.setting: field for field in group.query(Field)}
    for setting in there.keys() - set(members):
        there.pop(setting).remove()
    after: Field | None = None
    for setting in members:
        field = there.get(setting)
        if field is None:
            (field,) = made([setting])
            group.mount(field, after=after) if after else group.mount(field, before=0)
        after = field


class Form(VerticalScroll, inherit_bindings=False):
    """Up and down go from field to field."""


class NewRunScreen(LabScreen):
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
        Binding("ctrl+g", "start_apart", "start in background", id="new_run.start_apart", tooltip=APART),
        Binding("f7", "start_apart", "start in background", show=False, id="new_run.start_apart_too"),
        Binding("f5", "start", "start", show=False, id="new_run.start_too"),
        Binding("f6", "measure", "measure", show=False, id="new_run.measure_too"),
        Binding("down", "app.focus_next", "next field", show=False, id="new_run.next"),
        Binding("up", "app.focus_previous", "previous field", show=False, id="new_run.previous"),
    ]

    def __init__(
        self, dataset: str = "", preset: str = "", start: str = SCRATCH, known: Iterable[DatasetInfo] = ()
    ) -> None:
        """`start` is "scratch", "weights NAME" or "resume NAME" of a run; `known` are data sets that there are, so that
        the first picture is whole. All are read from disk later."""
        super().__init__()
        self.draft = Draft(preset=preset, start=start, dataset=dataset)
        self.config: Config | None = None  # what the form says, None while something is wrong
        self.datasets = {info.name: info for info in known}
        self.is_reading = True
        self._starting = False
        self.apart = False  # whether it is to train in a process of its own

    def body(self) -> Iterator[Widget]:
        self.draft.runs_dir = self.session.runs_dir
        self.measuring = SpeedMeasurement(self.session, self.set_timer, self._measured)
        presets = [("", "none (defaults)"), *((name, name) for name in preset_names())]
        starts = [(SCRATCH, "random weights")]
        if self.draft.source:
            starts.append((self.draft.start, self.draft.start))
        known = self.draft.settings()
        with Horizontal(id="new-run"):
            with Form(id="form"):
                yield Field("preset", "preset", self.draft.preset, PRESET, options=presets, classes="-first")
                start = self.draft.start
                yield Field("start", "start from", start, START, options=starts, term="checkpoint", classes="-first")
                dataset = self.draft.shown("dataset")
                about, datasets = known["dataset"].help, [(dataset, dataset)]
                yield Field("dataset", "dataset", dataset, about, options=datasets, term="data set", classes="-first")
                yield Field("name", "name", "", NAME, term="run", classes="-first")
                yield Field("place", "runs in", "app", PLACE, options=PLACES, term="run", classes="-first")
                for title in GROUPS:
                    yield Static(Content(title), classes="group")
                    yield Vertical(*self._made(common(known, title)), id=f"common-{title}", classes="fields")
                yield Vertical(id="more")
                yield Button("more settings", compact=True, id="more-button")
            with Vertical(id="side"):
                yield Static(Content("estimate"), classes="group")
                yield Estimate()
                yield Button("start", compact=True, id="start-button", variant="primary")
                yield Static(id="trouble")
                yield Static(id="about")

    # ---- what there is

    def on_mount(self) -> None:
        self._changed()
        self.call_later(self._read)  # when it is mounted: news before that would be dropped

    def _read(self) -> None:
        runs_dir = self.session.runs_dir
        self.session.fetch(lambda: offered(runs_dir), self._offered, "list data sets and runs")

    def _offered(self, found: Offered | None, error: str) -> None:
        if not self.is_whole:
            return
        self.is_reading = False
        if found is None:
            self.notify(error, severity="error", markup=False)
            return
        self.datasets = {info.name: info for info in found.datasets}
        self.draft.tokenizers = found.tokenizers
        self.draft.prefer_prepared(self.datasets)
        self.choice("dataset").show(self.draft.shown("dataset"))
        self._offer_datasets()
        self.choice("start").set_options(list(found.starts))
        self._changed()

    def _offer_datasets(self) -> None:
        options = [
            (info.name, info.name if info.prepared else f"{info.name} (not prepared)")
            for info in self.datasets.values()
            if not info.problem
        ]
        shown = self.draft.shown("dataset")
        if shown not in self.datasets:
            options.append((shown, shown))
        self.choice("dataset").set_options(options)

    # ---- what is typed

    def field(self, name: str) -> Field:
        return next(field for field in self.query(Field) if field.name == name)

    async def focus_setting(self, name: str) -> None:
        """Put the focus on the field of a setting; where it belongs to a component that is not chosen, on the choice of
        that component."""
        if not self._readable():
            return
        known = self.draft.settings()
        if name not in known:
            kind, component = owners(name)[0]
            self.notify(f"{name} is a setting of {kind.name}={component}: choose that first", markup=False)
            name = kind.name
        if name != "dataset" and not known[name].common and not self.query_one("#more", Vertical).display:
            await self.action_more()
        field = self.field(name)
        field.editor.focus()
        self.call_after_refresh(field.scroll_visible, animate=False)

    def choice(self, name: str) -> Choice:
        return cast(Choice, self.field(name).editor)

    def on_field_changed(self, message: Field.Changed) -> None:
        name, text = message.name, message.text
        if name == "preset":
            self.draft.preset = text
        elif name == "start":
            self.draft.start = text
        elif name == "name":
            self.draft.name = text
        elif name == "place":
            self.apart = text == "own"
        else:
            self.draft.edit(name, text)
        self._changed(show_values=name in ("preset", "start"))
        if name == "preset":
            self._show_about()

    def _changed(self, show_values: bool = False) -> None:
        """Checks everything, marks what is wrong where it stands, and shows what it comes to."""
        dataset = self.datasets.get(self.draft.shown("dataset")) if self._readable() else None
        self.config, problems = self.draft.checked(dataset)
        known = self._fit_fields()
        for field in self.query(Field):
            name = field.name or ""
            setting = name in known
            if setting and self._readable():
                field.fix(name in self.draft.fixed)
                if show_values or name in self.draft.fixed:
                    field.show(self.draft.shown(name))
            field.mark(edited=setting and name in self.draft.changes(), problem=problems.get(name, ""))
        self.field("preset").fix(self.draft.resumes)
        self.field("name").fix(self.draft.resumes)
        self._show_name()
        shown = {field.name for field in self.query(Field)}
        hidden = [f"{name}: {problem}" for name, problem in problems.items() if name not in shown]
        self.query_one("#trouble", Static).update(safe_content("\n".join(hidden), "$error"))
        self.query_one("#start-button", Button).disabled = self.config is None
        self.query_one("#start-button", Button).label = "resume" if self.draft.resumes else "start"
        self.measuring.request(self.config, self.datasets)
        self._show_outlook()
        self.refresh_bindings()

    def _made(self, members: Iterable[Setting]) -> list[Field]:
        return [field_of(setting, self.draft.shown(setting.name)) for setting in members]

    def _fit_fields(self) -> dict[str, Setting]:
        """Shows the fields of the components that are chosen, and no others. Returns the settings of these."""
        if not self._readable():
            return {}
        known = self.draft.settings()
        for title in GROUPS:
            fit(self.query_one(f"#common-{title}", Vertical), common(known, title), self._made)
        if (more := self.query_one("#more", Vertical)).children:
            for section, members in rare(known).items():
                fit(more.query_one(f"#rare-{section}", Vertical), members, self._made)
        return known

    def _readable(self) -> bool:
        try:
            self.draft.base()
        except UserError:
            return False
        return True

    def _show_name(self) -> None:
        editor = self.field("name").editor
        if isinstance(editor, Input):
            try:
                editor.placeholder = self.draft.target().name
            except UserError:
                editor.placeholder = ""

    def on_descendant_focus(self, event: DescendantFocus) -> None:
        self._show_about()

    def on_resize(self, event: Resize) -> None:
        self._show_about()

    def _show_about(self) -> None:
        above = self.focused.ancestors if self.focused is not None else ()
        field = next((node for node in above if isinstance(node, Field)), None)
        about = explained(field, self.draft.preset, self.app.size.height >= TALL) if field is not None else Content()
        self.query_one("#about", Static).update(about)

    def on_input_submitted(self, event: Input.Submitted) -> None:
        self.focus_next()

    # ---- what it comes to

    def _show_outlook(self) -> None:
        self.query_one(Estimate).set_class(self.config is None, "-stale")
        if self.config is not None:
            dataset = self.datasets.get(self.config.data.dataset)
            self.query_one(Estimate).show(self.config, dataset, self.measuring.speed, self.measuring.is_measuring)

    def _measured(self) -> None:
        if self.is_whole:
            self._show_outlook()

    def on_unmount(self) -> None:
        self.measuring.cancel()

    def action_measure(self) -> None:
        """Measures the speed now, without waiting for a pause in typing."""
        self.measuring.start()

    # ---- keys

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing now are neither shown nor obeyed."""
        if action in ("start", "start_apart", "measure"):
            return self.config is not None
        if action == "reset":
            return bool(self.draft.edits)
        return True

    def action_close(self) -> None:
        self.dismiss()

    def action_reset(self) -> None:
        self.draft.edits.clear()
        self._changed(show_values=True)

    async def action_more(self) -> None:
        """Shows or hides the settings that are seldom changed; they are made when first wanted."""
        more = self.query_one("#more", Vertical)
        if not more.children:
            await more.mount(*self._rare())
        more.display = not more.display
        self.query_one("#more-button", Button).label = "fewer settings" if more.display else "more settings"
        self._changed(show_values=True)

    def _rare(self) -> Iterator[Widget]:
        for section, members in rare(self.draft.settings()).items():
            yield Static(Content(section), classes="group")
            yield Vertical(*self._made(members), id=f"rare-{section}", classes="fields")

    async def on_button_pressed(self, event: Button.Pressed) -> None:
        if event.button.id == "more-button":
            await self.action_more()
        else:
            self.action_start()

    def action_start(self) -> None:
        """Starts when a measuring that goes on has ended: the two would share torch's random numbers."""
        if self.config is None or self._starting:
            return
        if self.session.is_training:
            self.notify("a run is training: stop it first", severity="error", markup=False)
            return
        self.measuring.cancel()
        self._starting = True
        self.query_one("#start-button", Button).label = "starting …"
        self._start_when_quiet()

    def action_start_apart(self) -> None:
        self.apart = True
        self.choice("place").show("own")
        self.action_start()

    def _start_when_quiet(self) -> None:
        if self.measuring.is_cancelling:
            self.set_timer(0.05, self._start_when_quiet)
            return
        self._starting = False
        try:
            session = self.session
            if self.draft.resumes:
                resume = session.resume_detached if self.apart else session.resume
                resume(self.draft.folder(), self.draft.changes())
            elif self.config is not None:
                start = session.start_detached if self.apart else session.start_training
                start(self.config, self.draft.target())
        except UserError as error:
            self.notify(str(error), severity="error", markup=False)
            self._changed()
            return
        self.dismiss()
        self.app.switch_mode("train")
