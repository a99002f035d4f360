"""The Data screen: what texts there are, what is in them, and making tokens of them. Knows nothing of models.

The list and the looks into data sets are read in threads; nothing on the screen waits for a disk.
"""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal, Vertical, VerticalScroll
from textual.content import Content
from textual.message import Message
from textual.timer import Timer
from textual.widget import Widget
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from nanogpt.errors import UserError
from nanogpt.events import Event, Notice, Prepared
from nanogpt.formatting import counted
from nanogpt_tui.keys import with_keys
from nanogpt_tui.screens.base import LabScreen
from nanogpt_tui.screens.data import token_views
from nanogpt_tui.screens.data.dataset_facts import Entry, facts, heading, listed, row, way
from nanogpt_tui.screens.data.progress import Progress
from nanogpt_tui.text import safe_content
from nanogpt_tui.widgets import copy_menu
from nanogpt_tui.widgets.dialog import Ask

if TYPE_CHECKING:
    from nanogpt.data.inspection import DatasetPreview
    from nanogpt.data.recipes import Recipe
    from nanogpt_tui.session.workers import Worker

PREVIEW_CHARACTERS = 1500
LOOK_AFTER_S = 0.12  # on one row, before its tokens are read: running through the list reads nothing
WARNING_S = 20  # that what went wrong is shown while the person is elsewhere
CHANGES = ("prepare", "give", "add", "delete", "new_run")  # what a session that only looks does not do


class DatasetList(OptionList, inherit_bindings=False):
    """Enter is the screen's."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("down,j", "cursor_down", "down", show=False, id="data.down"),
        Binding("up,k", "cursor_up", "up", show=False, id="data.up"),
        Binding("home,g", "first", "first", show=False, id="data.first"),
        Binding("end,G", "last", "last", show=False, id="data.last"),
    ]
    HELP = (
        "The data sets: ● is ready, ○ can be prepared now, ⊘ needs the network first. {data.new_run} starts a run "
        "on one."
    )
    glossary = "data set"

    class Resized(Message):
        """The rows have another width."""

    def on_resize(self) -> None:
        self.post_message(self.Resized())


class DataScreen(LabScreen):
    CSS_PATH = "data.tcss"
    AUTO_FOCUS = "DatasetList"
    HELP = (
        "The texts that a model can learn from. ● is ready, ○ can be prepared now, ⊘ needs the network "
        "first. Preparing turns text into tokens on disk, once. The text on the right shades every other "
        "token."
    )
    MOUSE = "A click chooses a data set; the wheel scrolls the list and the text"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,n", "new_run", "train on it", id="data.new_run", tooltip="New run with this data set"),
        Binding("p", "prepare", "prepare", id="data.prepare", tooltip="Turn the text into tokens on disk"),
        Binding("escape", "cancel", "cancel", id="data.cancel", tooltip="Cancel preparing; no partial data is kept"),
        Binding("a", "add", "add text", id="data.add", tooltip="Make a data set from your own file or folder"),
        Binding(
            "f",
            "give",
            "use local file",
            id="data.give",
            tooltip="Without a network: use a file that you downloaded elsewhere",
        ),
        Binding("d,delete", "delete", "delete", id="data.delete", tooltip="Delete the tokens; the recipe stays"),
        Binding(
            "y",
            "copy",
            "copy",
            id="data.copy",
            show=False,
            tooltip="Copy its path or its command",
        ),
        Binding("ctrl+r", "reload", "reload", id="data.reload", show=False, tooltip="Read the list from disk again"),
        Binding("pagedown", "scroll_details(1)", "scroll the text", id="data.scroll_down", show=False),
        Binding("pageup", "scroll_details(-1)", "scroll the text back", id="data.scroll_up", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Entry] = []
        self.own: dict[str, Recipe] = {}  # own texts that are being prepared, or could not be
        self.looks: dict[str, DatasetPreview] = {}
        self.problems: dict[str, str] = {}  # the last failure, by data set
        self.preparing = ""  # the data set that is being prepared
        self.progress = Progress()
        self.is_reading = True
        self._wanted = ""  # the one to stand on once the list is read
        self._list_job: Worker[None] | None = None
        self._prepare_job: Worker[Event] | None = None
        self._look_timer: Timer | None = None

    def body(self) -> Iterator[Widget]:
        with Horizontal(id="data"):
            with Vertical(id="list"):
                yield Static(id="columns")
                yield DatasetList(compact=True)
            with VerticalScroll(id="details"):
                yield Static(id="facts")
                yield Static(id="way")
                yield Static(id="progress")
                yield Static(id="problem")
                with Container(id="look"):
                    with Vertical(id="text"):
                        yield Static(Content.styled("the text, token by token", "$quiet"))
                        yield Static(id="preview")
                    with Vertical(id="tokens"):
                        yield Static(id="counted")
                        yield Static(id="common")

    # ---- the list

    def on_screen_resume(self) -> None:
        self.action_reload()

    def on_unmount(self) -> None:
        if self._prepare_job is not None:
            self._prepare_job.cancel()

    def action_reload(self) -> None:
        def show(entries: list[Entry] | None, error: str) -> None:
            if job is self._list_job and self.is_whole:
                self._listed(entries, error)

        job = self._list_job = self.session.fetch(listed, show, "list data sets")

    def _listed(self, entries: list[Entry] | None, error: str) -> None:
        self.is_reading = False
        if entries is None:
            self.notify(error, severity="error", markup=False)
            return
        wanted = self._wanted or (self.entry.name if self.entry else "")
        self.entries, self._wanted = self._with_own(entries), ""
        self._show_list(wanted)

    def highlight(self, name: str) -> None:
        self._wanted = name
        if any(entry.name == name for entry in self.entries):
            self._show_list(name)

    def _with_own(self, entries: Iterable[Entry]) -> list[Entry]:
        """The list with the own texts that are not on disk yet."""
        there = {entry.name: entry for entry in entries}
        own = {name: Entry.of_recipe(recipe) for name, recipe in self.own.items() if name not in there}
        return sorted([*there.values(), *own.values()], key=lambda entry: entry.name)

    def _show_list(self, wanted: str = "") -> None:
        names = [entry.name for entry in self.entries]
        rows = self.query_one(DatasetList)
        at = rows.highlighted or 0
        rows.set_options([Option(self._row(entry), id=entry.name) for entry in self.entries])
        if names:
            rows.highlighted = names.index(wanted) if wanted in names else min(at, len(names) - 1)
        self.query_one("#columns", Static).update(heading(self._list_width))
        self._show_details()

    @property
    def _list_width(self) -> int:
        return max(20, self.query_one(DatasetList).scrollable_content_region.width)

    @property
    def _details_width(self) -> int:
        return max(30, self.query_one("#details").scrollable_content_region.width)

    @property
    def _ascii(self) -> bool:
        return self.lab.settings.glyphs == "ascii"

    def _row(self, entry: Entry) -> Content:
        share = self.progress.share if entry.name == self.preparing else None
        return row(entry, self._list_width, share)

    def _show_row(self, name: str) -> None:
        """Repaints one row, where it is still there."""
        for index, entry in enumerate(self.entries):
            if entry.name == name:
                self.query_one(DatasetList).replace_option_prompt_at_index(index, self._row(entry))

    @property
    def entry(self) -> Entry | None:
        """The data set that the cursor is on."""
        index = self.query_one(DatasetList).highlighted
        return self.entries[index] if index is not None and index < len(self.entries) else None

    def on_dataset_list_resized(self) -> None:
        self._show_list(self.entry.name if self.entry else "")

    def on_option_list_option_highlighted(self) -> None:
        self._show_details()

    def settings_changed(self) -> None:
        if self.is_whole:
            self._show_list(self.entry.name if self.entry else "")

    # ---- the details

    def _show_details(self) -> None:
        entry = self.entry
        self.refresh_bindings()
        if entry is None:
            return
        width = self._details_width
        busy = entry.name == self.preparing
        problem = self.problems.get(entry.name) or entry.info.problem
        self.query_one("#facts", Static).update(facts(entry, width))
        to_press = "" if busy else with_keys(way(entry), self.app)
        self._show("#way", Content.styled(to_press, "$accent") if to_press else None)
        self._show("#progress", self.progress.line(width, self._ascii) if busy else None)
        self._show("#problem", safe_content(problem, "$error") if problem and not busy else None)
        look = self.looks.get(entry.name) if entry.info.prepared else None
        self.query_one("#look").display = look is not None
        if look is not None:
            plain = bool(self.app.current_theme.ansi)
            text = token_views.shaded(look.beginning, PREVIEW_CHARACTERS, plain, self._ascii)
            self.query_one("#preview", Static).update(text)
            self.query_one("#counted", Static).update(
                Content.styled(f"most common of {counted(look.counted, 'token')}", "$quiet")
            )
            self.query_one("#common", Static).update(token_views.bars(look.common, 34, self._ascii))
        elif entry.info.prepared:
            if self._look_timer is not None:
                self._look_timer.stop()
            self._look_timer = self.set_timer(LOOK_AFTER_S, lambda: self._look_into(entry.name))

    def _show(self, selector: str, content: Content | None) -> None:
        widget = self.query_one(selector, Static)
        widget.display = content is not None
        if content is not None:
            widget.update(content)

    def _look_into(self, name: str) -> None:
        def read() -> "DatasetPreview":
            from nanogpt.data.inspection import preview_dataset

            return preview_dataset(name)

        self.session.fetch(read, lambda found, error: self._looked(name, found, error), "look")

    def _looked(self, name: str, found: "DatasetPreview | None", error: str) -> None:
        if not self.is_whole:
            return
        if found is None:
            self.problems[name] = error
        else:
            self.looks[name] = found
        if self.entry is not None and self.entry.name == name:
            self._show_details() if found is not None else self._show("#problem", safe_content(error, "$error"))

    def action_scroll_details(self, pages: int) -> None:
        details = self.query_one("#details", VerticalScroll)
        details.scroll_relative(y=pages * max(1, details.size.height - 2), animate=False)

    # ---- what can be done

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Keys that would do nothing now are neither shown nor obeyed."""
        entry, busy = self.entry if self.is_whole else None, bool(self.preparing)
        if self.session.readonly and action in CHANGES:
            return False
        if action == "cancel":
            return busy
        if action in ("prepare", "give"):
            if entry is None or busy or not entry.recipe or entry.info.prepared:
                return False
            return action == "prepare" or entry.downloads
        if action == "add":
            return not busy
        if action == "copy":
            return entry is not None and (bool(entry.recipe) or entry.info.prepared)
        if action == "delete":
            return entry is not None and (entry.deletable or entry.name in self.own) and entry.name != self.preparing
        if action == "new_run":
            return entry is not None and not entry.info.problem and entry.name not in self.own and not busy
        return True

    def action_new_run(self) -> None:
        if self.entry is not None:
            self.lab.new_run(dataset=self.entry.name, known=[each.info for each in self.entries])

    def action_prepare(self) -> None:
        entry = self.entry
        if entry is not None:
            self.prepare(entry.name, self.own.get(entry.name, entry.name), force=bool(entry.info.problem))

    def action_give(self) -> None:
        from nanogpt_tui.screens.data.path_input import AskPath

        entry = self.entry
        if entry is not None:
            question = f"The file of {entry.name}, which is otherwise downloaded from\n{entry.source}"
            self.app.push_screen(
                AskPath(question, lambda path: "" if path.is_file() else f"no such file: {path}"),
                lambda path: self.prepare(entry.name, entry.name, source=path) if path else None,
            )

    def action_add(self) -> None:
        from nanogpt_tui.screens.data.add_text import AddText

        taken = [entry.name for entry in self.entries if entry.name not in self.own]
        self.app.push_screen(AddText(self.session, taken), lambda recipe: self._add(recipe) if recipe else None)

    def _add(self, recipe: "Recipe") -> None:
        self.own[recipe.name] = recipe
        self.entries = self._with_own(entry for entry in self.entries if entry.name != recipe.name)
        self._show_list(recipe.name)
        self.prepare(recipe.name, recipe)

    def prepare(self, name: str, recipe: "Recipe | str", **options: Any) -> None:
        """Prepares in a thread; the row and the details show how far it is."""
        self.problems.pop(name, None)
        self.preparing, self.progress = name, Progress()
        job = self._prepare_job = self.session.prepare(recipe, lambda: self._prepared(job, name), **options)
        self._show_row(name)
        self._show_details()

    def _prepared(self, job: "Worker[Event]", name: str) -> None:
        if job is not self._prepare_job or not self.is_whole:
            return
        for event in job.drain():
            self.progress.add(event)
            if isinstance(event, Notice):
                if event.level == "info":
                    self.notify(event.text, markup=False)
                else:
                    self.notify(event.text, severity=event.level, timeout=WARNING_S, markup=False)
            if isinstance(event, Prepared):
                self.looks.pop(name, None)
        if job.done:
            self.preparing = ""
            if job.error:
                self.problems[name] = job.error
            else:
                self.own.pop(name, None)  # it is on disk now, or was cancelled
            here = self.is_current and self.entry is not None and self.entry.name == name
            self._show_details()
            if job.error and not here:  # where the person is now
                self.notify(f"{name}: {job.error}", severity="error", timeout=WARNING_S, markup=False)
            if job.error and here:
                self.call_after_refresh(self.query_one("#problem").scroll_visible, animate=False)
            self.action_reload()
        else:
            self._show_row(name)
            if self.entry is not None and self.entry.name == name:
                self._show("#progress", self.progress.line(self._details_width, self._ascii))

    def action_cancel(self) -> None:
        if self._prepare_job is not None:
            self._prepare_job.cancel()

    def action_copy(self) -> None:
        entry = self.entry
        if entry is not None:
            copy_menu.offer(self.lab, copy_menu.of_dataset(entry.name, entry.info.path or "", bool(entry.recipe)))

    def action_delete(self) -> None:
        entry = self.entry
        if entry is None:
            return
        if entry.name in self.own:  # nothing of it is on disk
            del self.own[entry.name]
            self.action_reload()
            return
        again = "the recipe stays" if entry.recipe else "the text file stays"
        question = Content.assemble("Delete the tokens of ", safe_content(entry.name), f"?  ({again})")
        answers = {"delete": ("d", "delete"), "keep": ("escape", "keep")}
        self.app.push_screen(Ask(question, answers), lambda answer: self._delete(entry.name, answer))

    def _delete(self, name: str, answer: str | None) -> None:
        from nanogpt import data

        if answer != "delete":
            return
        try:
            data.delete_dataset(name)
        except UserError as error:
            self.notify(str(error), severity="error", markup=False)
        self.looks.pop(name, None)
        self.problems.pop(name, None)
        self._wanted = name
        self.action_reload()
