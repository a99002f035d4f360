"""The form of a new run: the fields of a draft. Those of components that are not chosen are removed."""

from collections.abc import Iterable, Iterator, Mapping

from textual.app import ComposeResult
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Button, Static

from nanogpt.config import Setting
from nanogpt_tui.screens.new_run.fields import Field, setting_field
from nanogpt_tui.session.draft import NOT_IN_FORM, SCRATCH, Draft

GROUPS = ("data", "model", "training")  # of the common settings; the last has those of all other sections
START = "the initial weights: random, those of another run, or everything of an interrupted run, to resume it"
PRESET = "supplies every value that is not changed here"
PLACE = "a run in this app continues when the terminal closes; a background process does not need the app at all"
PLACES = [("app", "this app"), ("own", "a background process")]
NAME = "the run's name; leave it empty for the name shown"


class Form(VerticalScroll, inherit_bindings=False):
    """Without VerticalScroll's own keys: up and down go from field to field.

    `preset` and `start` are chosen at first: the draft has what they are once the disk has been read.
    """

    def __init__(self, draft: Draft, preset: str, start: str) -> None:
        super().__init__(id="form")
        self._draft, self._preset, self._start = draft, preset, start

    def compose(self) -> ComposeResult:
        draft = self._draft
        settings = draft.settings()
        preset, start = self._preset, self._start
        presets = preset_options([preset] if preset else [])
        starts = [(SCRATCH, "random weights"), *([(start, start)] if start != SCRATCH else [])]
        dataset = draft.shown("dataset")
        about, datasets = settings["dataset"].help, [(dataset, dataset)]
        yield Field("preset", "preset", preset, PRESET, options=presets, classes="-first")
        yield Field("start", "start from", start, START, options=starts, term="checkpoint", classes="-first")
        yield Field("dataset", "dataset", dataset, about, options=datasets, term="data set", classes="-first")
        yield Field("name", "name", "", NAME, term="run", classes="-first")
        yield Field("place", "runs in", "app", PLACE, options=PLACES, term="run", classes="-first")
        for title in GROUPS:
            yield Static(Content(title), classes="group")
            yield Vertical(*map(self._new_field, common(settings, title)), id=f"common-{title}", classes="fields")
        yield Vertical(id="more")
        yield Button("more settings", compact=True, id="more-button")

    def field(self, name: str) -> Field:
        """Return the field of a name; it must exist."""
        return next(field for field in self.fields if field.name == name)

    @property
    def fields(self) -> list[Field]:
        """All fields, from top to bottom. A query, which matches selectors all the way down, took longer than all else
        that a key in the form costs."""
        return list(_fields_in(self))

    @property
    def shows_more(self) -> bool:
        """Whether the settings that are seldom changed are shown."""
        return bool(self.query_one("#more", Vertical).display)

    async def toggle_more(self) -> None:
        """Show or hide the settings that are seldom changed; their fields are made when they are first shown."""
        more = self.query_one("#more", Vertical)
        if not more.children:
            await more.mount(*self._rare_fields())
        more.display = not more.display
        self.query_one("#more-button", Button).label = "fewer settings" if more.display else "more settings"

    def _rare_fields(self) -> Iterator[Widget]:
        for section, settings in rare(self._draft.settings()).items():
            yield Static(Content(section), classes="group")
            yield Vertical(*map(self._new_field, settings), id=f"rare-{section}", classes="fields")

    def update_fields(self) -> dict[str, Setting]:
        """Add and remove fields so that they are those of the chosen components; return the settings of these."""
        known = self._draft.settings()
        for title in GROUPS:
            self._update_group(self.query_one(f"#common-{title}", Vertical), common(known, title))
        if (more := self.query_one("#more", Vertical)).children:
            for section, settings in rare(known).items():
                self._update_group(more.query_one(f"#rare-{section}", Vertical), settings)
        return known

    def _update_group(self, group: Vertical, settings: list[Setting]) -> None:
        """Make the fields of a group those of `settings`; those that exist keep their state."""
        fields = {field.setting: field for field in _fields_in(group)}
        for setting in fields.keys() - set(settings):
            fields.pop(setting).remove()
        previous: Field | None = None
        for setting in settings:
            field = fields.get(setting)
            if field is None:
                field = self._new_field(setting)
                group.mount(field, after=previous) if previous else group.mount(field, before=0)
            previous = field

    def _new_field(self, setting: Setting) -> Field:
        return setting_field(setting, self._draft.shown(setting.name))


def preset_options(names: Iterable[str]) -> list[tuple[str, str]]:
    """Return (value, label) of the field "preset"."""
    return [("", "none (defaults)"), *((name, name) for name in names)]


def common(settings: Mapping[str, Setting], title: str) -> list[Setting]:
    """Return the settings that a group of the form shows at first."""
    return [
        setting
        for setting in settings.values()
        if setting.common and (setting.section if setting.section in GROUPS else GROUPS[-1]) == title
    ]


def rare(settings: Mapping[str, Setting]) -> dict[str, list[Setting]]:
    """Return the settings that are seldom changed, by section."""
    sections: dict[str, list[Setting]] = {setting.section: [] for setting in settings.values()}
    for name, setting in settings.items():
        if not setting.common and name not in (*NOT_IN_FORM, "dataset"):
            sections[setting.section].append(setting)
    return sections


def _fields_in(container: Widget) -> Iterator[Field]:
    for child in container.children:
        if isinstance(child, Field):
            yield child
        elif isinstance(child, Vertical):
            yield from _fields_in(child)
