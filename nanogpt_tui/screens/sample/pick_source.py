"""A dialog to choose weights: those in training, or any checkpoint of any run."""

from collections.abc import Iterator
from contextlib import suppress
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from nanogpt.errors import UserError
from nanogpt_tui.keys import with_keys
from nanogpt_tui.session.completions import LIVE, Source
from nanogpt_tui.text import safe_content, short
from nanogpt_tui.widgets.dialog import Dialog, hint

if TYPE_CHECKING:
    from nanogpt.runs.checkpoints import Checkpoint
    from nanogpt_tui.session.session import Session

NAME_WIDTH = 24
EMPTY = "No checkpoint yet: train a run first ({app.train}). The first is saved at the first evaluation after step 0."


class PickSource(Dialog[Source | None]):
    """Dismisses with the chosen source, or with None at escape."""

    DEFAULT_CSS = """
    PickSource > Vertical {
        width: 78; max-width: 98%; height: auto; max-height: 85%;
    }
    PickSource Static { height: auto; margin-bottom: 1; }
    PickSource OptionList { height: auto; max-height: 18; border: none; padding: 0; background: $panel; }
    PickSource OptionList { text-wrap: nowrap; text-overflow: ellipsis; }
    PickSource Input { margin-bottom: 1; }
    PickSource .hint { margin: 1 0 0 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "close"),
        Binding("up", "move('cursor_up')", "up", priority=True, show=False),
        Binding("down", "move('cursor_down')", "down", priority=True, show=False),
        Binding("pageup", "move('page_up')", "page up", priority=True, show=False),
        Binding("pagedown", "move('page_down')", "page down", priority=True, show=False),
    ]

    def __init__(self, session: "Session", question: str) -> None:
        super().__init__()
        self._session, self._question = session, question
        self._sources: list[tuple[Source, Content]] | None = None  # until they are read
        self._submitted = False  # enter was pressed before that

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(self._question), id="question")
            yield Input(compact=True, placeholder="part of a name or step")
            yield OptionList(id="sources")
            yield hint("↑ and ↓ choose, enter selects, esc cancels")

    def on_mount(self) -> None:
        self._session.fetch(lambda: list(sources(self._session)), self._show, "sources")

    def _show(self, found: list[tuple[Source, Content]] | None, error: str) -> None:
        if self.is_whole:
            self._sources = found or []
            problem = error or ("" if found else with_keys(EMPTY, self.app))
            if problem:
                self.query_one("#question", Static).update(safe_content(problem))
            self._filter()
            if self._submitted:
                self.query_one(OptionList).action_select()

    def _filter(self) -> None:
        options = self.query_one(OptionList)
        options.clear_options()
        words = self.query_one(Input).value.casefold().split()
        for number, (_, row) in enumerate(self._sources or []):
            if all(word in row.plain.casefold() for word in words):
                options.add_option(Option(row, id=str(number)))
        options.highlighted = 0 if options.option_count else None

    def on_input_changed(self) -> None:
        self._submitted = False
        self._filter()

    def on_input_submitted(self) -> None:
        self._submitted = True
        self.query_one(OptionList).action_select()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        if self._sources:
            self.dismiss(self._sources[int(event.option.id or 0)][0])

    def action_move(self, how: str) -> None:
        getattr(self.query_one(OptionList), f"action_{how}")()


def sources(session: "Session") -> Iterator[tuple[Source, Content]]:
    """Yield all weights that can be sampled, each with its line; the run that changed last comes first. Reads files."""
    from nanogpt import runs

    if session.can_send and session.folder is not None:
        name = short(session.folder.name, NAME_WIDTH)
        how = "current weights" if session.is_training else "saves a checkpoint first"
        yield Source(None, LIVE), row(name, f"live: training now, {how}", "$alive")
    for summary in session.list_runs():
        with suppress(UserError):  # of a folder that cannot be read; the Runs screen says why
            yield from checkpoint_sources(summary.name, runs.list_checkpoints(runs.find(summary.path)))


def checkpoint_sources(run: str, found: "list[Checkpoint]") -> Iterator[tuple[Source, Content]]:
    """Yield the checkpoints of a run, each with its line; the latest comes first."""
    from nanogpt.runs.checkpoints import best_of

    best = best_of(found)
    for place, each in enumerate(reversed(found)):
        loss = f"val loss {each.val_loss:.4f}" if each.val_loss is not None else "not evaluated "
        marks = ("best " if each is best else "") + ("latest" if place == 0 else "")
        yield (
            Source(run, str(each.step)),
            row(short(run, NAME_WIDTH), f"step {each.step:>9,}  {loss}  {marks}", "$quiet"),
        )


def row(name: str, about: str, style: str) -> Content:
    """Return a row of the list: the name of a run, and text about its weights."""
    shown = safe_content(name)
    return Content.assemble(shown, " " * max(1, NAME_WIDTH + 2 - shown.cell_length), (about, style))
