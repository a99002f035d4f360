"""The Data screen: lists the data sets, prepares them and shows what is in them. Disks are read in threads."""

import os
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, ClassVar

from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.content import Content
from textual.widget import Widget
from textual.widgets import Static
from textual.widgets.option_list import Option

from nanogpt import tokenizers
from nanogpt.events import Notice, Prepared
from nanogpt_tui.progress import Progress
from nanogpt_tui.screens.base import LabScreen
from nanogpt_tui.screens.data.dataset_details import DatasetDetails
from nanogpt_tui.screens.data.dataset_facts import Entry, list_entries, list_heading, list_row
from nanogpt_tui.screens.data.dataset_list import DatasetList
from nanogpt_tui.screens.data.preparation import Preparation
from nanogpt_tui.text import safe_content
from nanogpt_tui.widgets import copy_menu
from nanogpt_tui.widgets.dialog import Ask

if TYPE_CHECKING:
    from nanogpt.data.recipes import Recipe
    from nanogpt_tui.session.workers import Worker

WARNING_S = 20  # how long a warning is shown
OTHER_TOOLTIP = "Prepare the text again with another tokenizer or other splits, under another name"
CANCEL_TOOLTIP = "Cancel preparing; only a corpus keeps what it has, to continue later"
TOKENIZERS_TOOLTIP = "See a sentence cut by two tokenizers side by side, and train one"


class DataScreen(LabScreen):
    """A list of data sets, and the details of the highlighted one."""

    CSS_PATH = "data.tcss"
    AUTO_FOCUS = "DatasetList"
    HELP = (
        "The texts that a model can learn from. ● is ready, ○ can be prepared now, ‖ is paused or interrupted, ⊘ needs "
        "the network first. Preparing turns text into tokens on disk, once. The text on the right shades every other "
        "token."
    )
    MOUSE = "A click chooses a data set; the wheel scrolls the list and the text"
    WRITES = frozenset({"prepare", "prepare_other", "use_file", "add", "delete", "new_run"})
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter,n", "new_run", "train on it", id="data.new_run", tooltip="New run with this data set"),
        Binding("p", "prepare", "prepare", id="data.prepare", tooltip="Turn the text into tokens on disk"),
        Binding("space", "pause_preparing", "pause", id="data.pause", tooltip="Pause preparing, or continue"),
        Binding("escape", "cancel", "cancel", id="data.cancel", tooltip=CANCEL_TOOLTIP),
        Binding("a", "add", "add text", id="data.add", tooltip="Make a data set from your own file or folder"),
        Binding(
            "f",
            "use_file",
            "use local file",
            id="data.give",
            tooltip="Without a network: use a file that you downloaded elsewhere",
        ),
        Binding("v", "documents", "view text", id="data.documents", tooltip="Page through its documents or its text"),
        Binding("t", "tokenizers", "tokenizers", id="data.tokenizers", tooltip=TOKENIZERS_TOOLTIP),
        Binding("S", "prepare_other", "other settings", id="data.splits", show=False, tooltip=OTHER_TOOLTIP),
        Binding("d,delete", "delete", "delete", id="data.delete", tooltip="Delete the tokens; the recipe stays"),
        Binding("y", "copy", "copy", id="data.copy", show=False, tooltip="Copy its path or its command"),
        Binding("ctrl+r", "reload", "reload", id="data.reload", show=False, tooltip="Read the list from disk again"),
        Binding("pagedown", "scroll_details(1)", "scroll the text", id="data.scroll_down", show=False),
        Binding("pageup", "scroll_details(-1)", "scroll the text back", id="data.scroll_up", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self.entries: list[Entry] = []
        self.own_recipes: dict[str, Recipe] = {}  # of own texts that are being prepared, or could not be
        self.problems: dict[str, str] = {}  # why the last preparation failed, by data set
        self.preparation: Preparation | None = None  # None if no data set is being prepared
        self.is_reading = True
        self._kinds: list[str] = []  # of tokenizers
        self._highlight_next = ""  # name of the data set to highlight when the list is read
        self._list_job: Worker[None] | None = None

    def body(self) -> Iterator[Widget]:
        with Horizontal(id="data"):
            with Vertical(id="list"):
                yield Static(id="columns")
                yield DatasetList(compact=True)
            yield DatasetDetails(self.session)

    @property
    def details(self) -> DatasetDetails:
        """The right side of the screen."""
        return self.query_one(DatasetDetails)

    # ---- the list

    def on_screen_resume(self) -> None:
        self.action_reload()

    def on_unmount(self) -> None:
        self.action_cancel()

    def action_reload(self) -> None:
        def read() -> tuple[list[Entry], list[str]]:
            return list_entries(), tokenizers.loadable_names()  # which imports all kinds: not in the interface's thread

        def show(found: tuple[list[Entry], list[str]] | None, error: str) -> None:
            if job is self._list_job and self.is_whole:
                self._show_entries(found, error)

        job = self._list_job = self.session.fetch(read, show, "list data sets")

    def _show_entries(self, found: tuple[list[Entry], list[str]] | None, error: str) -> None:
        self.is_reading = False
        if found is None:
            self.notify(error, severity="error", markup=False)
            return
        entries, self._kinds = found
        name = self._highlight_next or self._highlighted_name
        self.entries, self._highlight_next = self._with_own(entries), ""
        self._show_list(name)

    def highlight(self, name: str) -> None:
        """Move the cursor to a data set, now or as soon as it is listed."""
        if any(entry.name == name for entry in self.entries):
            self._show_list(name)
        else:
            self._highlight_next = name

    def _with_own(self, entries: Iterable[Entry]) -> list[Entry]:
        """Return the entries with those of own texts that are not on disk yet, by name."""
        entries = list(entries)
        for entry in entries:
            if entry.info.prepared:  # also by another process
                self.own_recipes.pop(entry.name, None)
                self.problems.pop(entry.name, None)
            if entry.own_recipe is not None and (self.preparation is None or self.preparation.name != entry.name):
                self.own_recipes[entry.name] = entry.own_recipe  # not one that was refused in its place
        on_disk = {entry.name: self._as_own(entry) for entry in entries}
        own = [Entry.of_recipe(recipe) for name, recipe in self.own_recipes.items() if name not in on_disk]
        return sorted([*on_disk.values(), *own], key=lambda entry: entry.name)

    def _as_own(self, entry: Entry) -> Entry:
        """Return the entry of an own recipe whose preparation was interrupted with its recipe; others as they are."""
        recipe = self.own_recipes.get(entry.name)
        if recipe is None or not entry.info.unfinished:
            return entry
        return Entry.of_recipe(recipe).interrupted(entry.info.size_bytes)

    def _show_list(self, name: str) -> None:
        """Show all entries and highlight one; if it is gone, the one in its row."""
        names = [entry.name for entry in self.entries]
        rows = self.query_one(DatasetList)
        index = rows.highlighted or 0
        rows.set_options([Option(self._row(entry), id=entry.name) for entry in self.entries])
        if names:
            rows.highlighted = names.index(name) if name in names else min(index, len(names) - 1)
        self.query_one("#columns", Static).update(list_heading(rows.row_width))
        self._show_details()

    def _row(self, entry: Entry) -> Content:
        return list_row(entry, self.query_one(DatasetList).row_width, self._progress_of(entry.name))

    def _progress_of(self, name: str) -> Progress | None:
        """Return the progress of a data set, if it is being prepared."""
        return self.preparation.progress if self.preparation is not None and self.preparation.name == name else None

    def _show_row(self, name: str) -> None:
        """Repaint the row of a data set, if it is still listed."""
        for index, entry in enumerate(self.entries):
            if entry.name == name:
                self.query_one(DatasetList).replace_option_prompt_at_index(index, self._row(entry))

    @property
    def entry(self) -> Entry | None:
        """The highlighted data set."""
        index = self.query_one(DatasetList).highlighted
        return self.entries[index] if index is not None and index < len(self.entries) else None

    @property
    def _highlighted_name(self) -> str:
        return self.entry.name if self.entry is not None else ""

    def on_dataset_list_resized(self) -> None:
        self._show_list(self._highlighted_name)

    def on_option_list_option_highlighted(self) -> None:
        self._show_details()

    def settings_changed(self) -> None:
        if self.is_whole:
            self._show_list(self._highlighted_name)

    def _show_details(self) -> None:
        entry = self.entry
        self.refresh_bindings()
        if entry is not None:
            self.details.ascii_only = self.lab.settings.glyphs == "ascii"
            self.details.show(entry, self.problems.get(entry.name, ""), self._progress_of(entry.name))

    def action_scroll_details(self, pages: int) -> None:
        self.details.scroll_relative(y=pages * max(1, self.details.size.height - 2), animate=False)

    # ---- actions

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        """Return whether the action has an effect now; else its key is neither shown nor handled."""
        if not super().check_action(action, parameters):
            return False
        entry, busy = self.entry if self.is_whole else None, self.preparation is not None
        if action in ("pause_preparing", "cancel"):
            return busy
        if action in ("prepare", "use_file"):
            if entry is None or busy or not entry.recipe or entry.info.prepared:
                return False
            return action == "prepare" or entry.downloads or entry.corpus
        if action == "prepare_other":
            return entry is not None and not busy and entry.recipe and entry.name not in self.own_recipes
        if action == "documents":
            return entry is not None and (entry.info.prepared or (entry.recipe and entry.info.offline))
        if action == "add":
            return not busy
        if action == "copy":
            has_command = entry is not None and entry.recipe and entry.name not in self.own_recipes
            return entry is not None and (has_command or entry.info.prepared)
        if action == "delete":
            return (
                entry is not None
                and (entry.deletable or entry.name in self.own_recipes)
                and self._progress_of(entry.name) is None
            )
        if action == "new_run":
            usable = entry is not None and not entry.info.problem and (entry.info.prepared or entry.recipe)
            return usable and entry is not None and entry.name not in self.own_recipes and not busy
        return True

    def action_new_run(self) -> None:
        if self.entry is not None:
            self.lab.new_run(dataset=self.entry.name, known=[each.info for each in self.entries])

    def action_documents(self) -> None:
        from nanogpt_tui.screens.data.document_readers import DatasetReader, RecipeReader
        from nanogpt_tui.screens.data.documents import DocumentsScreen

        entry = self.entry
        if entry is not None:
            recipe = self.own_recipes.get(entry.name)
            reader = DatasetReader(entry.name) if entry.info.prepared else RecipeReader(entry.name, recipe)
            self.app.push_screen(DocumentsScreen(reader))

    def action_tokenizers(self) -> None:
        self.lab.tokenizers(self._highlighted_name)

    def action_prepare(self) -> None:
        entry = self.entry
        if entry is not None:
            self._prepare(entry)

    def _prepare(self, entry: Entry, **options: Any) -> None:
        recipe = self.own_recipes.get(entry.name) or entry.continued_recipe or entry.name
        self.prepare(entry.name, recipe, force=bool(entry.info.problem), **options)

    def action_prepare_other(self) -> None:
        """Ask for other settings of a recipe, which is read in a thread."""
        from nanogpt.data.recipes import load_recipe
        from nanogpt_tui.screens.data.other_settings import OtherSettings

        entry = self.entry
        if entry is None:
            return

        def ask(recipe: "Recipe | None", error: str) -> None:
            if recipe is None:
                self.notify(error, severity="error", markup=False)
            elif self.is_current:
                form = OtherSettings(self.session, recipe, self._taken_names(), self._kinds)
                self.app.push_screen(form, self._add)

        self.session.fetch(lambda: load_recipe(entry.name), ask, "recipe", answers_key=True)

    def action_use_file(self) -> None:
        from nanogpt_tui.widgets.path_input import AskPath

        entry = self.entry
        if entry is not None:
            what, is_there = ("file or folder", os.path.exists) if entry.corpus else ("file", os.path.isfile)
            question = f"The {what} of {entry.name}, which is otherwise downloaded from\n{entry.source}"
            self.app.push_screen(
                AskPath(question, lambda path: "" if is_there(path) else f"no such {what}: {path}"),
                lambda path: self._prepare(entry, source=path) if path else None,
            )

    def action_add(self) -> None:
        from nanogpt_tui.screens.data.add_text import AddText

        kinds = self._kinds or tokenizers.loadable_names()  # here if the list could not be read
        self.app.push_screen(AddText(self.session, self._taken_names(), kinds), self._add)

    def _taken_names(self) -> list[str]:
        return [
            entry.name for entry in self.entries if entry.name not in self.own_recipes and not entry.info.unfinished
        ]

    def _add(self, recipe: "Recipe | None") -> None:
        """Prepare a recipe that is not on disk; None if the form was left."""
        if recipe is None:
            return
        self.own_recipes[recipe.name] = recipe
        self.entries = self._with_own(entry for entry in self.entries if entry.name != recipe.name)
        self._show_list(recipe.name)
        self.prepare(recipe.name, recipe)

    def prepare(self, name: str, recipe: "Recipe | str", **options: Any) -> None:
        """Prepare a data set in a thread; `options` are those of `nanogpt.data.prepare`."""
        self.problems.pop(name, None)
        self.preparation = Preparation(self.session, name, recipe, self._show_events, **options)
        self._show_row(name)
        self._show_details()

    def _show_events(self, preparation: Preparation) -> None:
        if preparation is not self.preparation or not self.is_whole:
            return
        name = preparation.name
        ended = preparation.done  # read first: what it yields after this is taken the next time
        for event in preparation.drain():
            if isinstance(event, Notice):
                if event.level == "info":
                    self.notify(event.text, markup=False)
                else:
                    self.notify(event.text, severity=event.level, timeout=WARNING_S, markup=False)
            if isinstance(event, Prepared):
                self.details.forget(name)
        if ended:
            self._end_preparation(preparation)
        else:
            self._show_progress()

    def _end_preparation(self, preparation: Preparation) -> None:
        name, error, self.preparation = preparation.name, preparation.error, None
        if error:
            self.problems[name] = error
        elif not preparation.can_continue:
            self.own_recipes.pop(name, None)  # it is on disk now, or was cancelled
        here = self.is_current and self._highlighted_name == name
        self._show_details()
        if error and not here:
            self.notify(f"{name}: {error}", severity="error", timeout=WARNING_S, markup=False)
        if error and here:
            self.details.scroll_to_problem()
        self.action_reload()

    def _show_progress(self) -> None:
        """Repaint the progress in the row of the data set that is being prepared, and in the details if it is shown."""
        if self.preparation is not None:
            self._show_row(self.preparation.name)
            if self._highlighted_name == self.preparation.name:
                self.details.show_progress(self.preparation.progress)

    def action_pause_preparing(self) -> None:
        if self.preparation is not None:
            self.preparation.toggle_pause()
            self._show_row(self.preparation.name)
            self._show_details()

    def action_cancel(self) -> None:
        if self.preparation is not None:
            self.preparation.cancel()

    def action_copy(self) -> None:
        entry = self.entry
        if entry is not None:
            has_command = entry.recipe and entry.name not in self.own_recipes
            copy_menu.ask_copy(self.lab, copy_menu.dataset_items(entry.name, entry.info.path or "", has_command))

    def action_delete(self) -> None:
        entry = self.entry
        if entry is None:
            return
        if entry.name in self.own_recipes and not entry.info.unfinished:  # nothing of it is on disk
            del self.own_recipes[entry.name]
            self.problems.pop(entry.name, None)
            self.action_reload()
            return
        if entry.name in self.own_recipes:
            stays = "" if entry.downloads or entry.corpus else "  (only the text stays)"
        else:
            stays = "  (the recipe stays)" if entry.recipe else "  (the text file stays)"
        question = Content.assemble("Delete the tokens of ", safe_content(entry.name), f"?{stays}")
        answers = {"delete": ("y", "delete"), "keep": ("escape", "keep")}
        self.app.push_screen(Ask(question, answers), lambda answer: self._delete(entry.name, answer))

    def _delete(self, name: str, answer: str | None) -> None:
        from nanogpt import data

        def deleted(_: object, error: str) -> None:
            if error:
                self.notify(error, severity="error", markup=False)
            if not self.is_whole:
                return
            self.details.forget(name)
            self.problems.pop(name, None)
            self.own_recipes.pop(name, None)
            self._highlight_next = name
            self.action_reload()

        if answer == "delete":
            self.session.fetch(lambda: data.delete_dataset(name), deleted, "delete", answers_key=True)
