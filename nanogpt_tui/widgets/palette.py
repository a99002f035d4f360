"""The palette: a list of all commands with their keys, and of runs, checkpoints and data sets, with a search field."""

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Click
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from nanogpt_tui.text import safe_content, short
from nanogpt_tui.widgets.dialog import Dialog

if TYPE_CHECKING:
    from nanogpt_tui.session.session import Session

MAX_ROWS = 200
HINT = "↑ and ↓ choose, enter runs, esc closes"


@dataclass(frozen=True, slots=True, kw_only=True)
class PaletteCommand:
    """One line of the palette.

    `about` describes it; `right` is its key or the kind of item that it opens; `keywords` are matched but not shown.
    `run` is called in the app's message loop, and may be a coroutine function.
    """

    title: str
    run: Callable[[], Any]
    about: str = ""
    right: str = ""
    is_key: bool = False
    keywords: str = ""


def matching(commands: Iterable[PaletteCommand], text: str) -> list[PaletteCommand]:
    """Return the commands that have every word of `text`, best first: those whose title starts with it, then those
    whose title has the words, then the others. Within each group the order is kept."""
    words = text.casefold().split()

    def rank(command: PaletteCommand) -> int | None:
        title = command.title.casefold()
        if title.startswith(" ".join(words)):
            return 0
        if all(word in title for word in words):
            return 1
        everything = f"{title} {command.about} {command.right} {command.keywords}".casefold()
        return 2 if all(word in everything for word in words) else None

    ranked = [(found, command) for command in commands if (found := rank(command)) is not None]
    return [command for _, command in sorted(ranked, key=lambda pair: pair[0])]


class Palette(Dialog[PaletteCommand | None]):
    """Dismisses with the chosen command, or None at escape. `commands` are listed at once; `read` is called in a thread
    and returns more."""

    DEFAULT_CSS = """
    Palette > Vertical { width: 95%; max-width: 100; height: 90%; max-height: 36; padding: 1 2; }
    Palette Input { margin-bottom: 1; }
    Palette OptionList { height: 1fr; border: none; padding: 0; background: $panel; text-wrap: nowrap; }
    Palette #hint { height: 1; margin-top: 1; color: $quiet; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "dismiss(None)", "close"),
        Binding("up", "move('cursor_up')", "up", priority=True, show=False),
        Binding("down", "move('cursor_down')", "down", priority=True, show=False),
        Binding("pageup", "move('page_up')", "page up", priority=True, show=False),
        Binding("pagedown", "move('page_down')", "page down", priority=True, show=False),
    ]

    def __init__(
        self, session: "Session", commands: Iterable[PaletteCommand], read: Callable[[], Iterable[PaletteCommand]]
    ) -> None:
        super().__init__()
        self._session, self._read = session, read
        self._commands, self._shown = [*commands], list[PaletteCommand]()
        self._reading = True
        self._submit_pending = False  # enter was pressed before the rows were read

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Input(compact=True, placeholder="part of a command, run, checkpoint, data set or setting")
            yield OptionList()
            yield Static(id="hint")

    def on_mount(self) -> None:
        self._session.fetch(lambda: [*self._read()], self._add, "palette")

    def _add(self, more: list[PaletteCommand] | None, error: str) -> None:
        if not self.is_whole:
            return
        if error:
            self.notify(error, severity="error", markup=False)
        self._reading = False
        self._commands += more or []
        moved = self.query_one(OptionList).highlighted  # the first is whatever matches best by then
        self._update_list(self._chosen if moved else None)
        if self._submit_pending:
            self._submit()

    def on_resize(self) -> None:
        self.call_after_refresh(lambda: self._update_list(self._chosen))

    @property
    def _chosen(self) -> PaletteCommand | None:
        """The highlighted command, None without one."""
        at = self.query_one(OptionList).highlighted
        return self._shown[at] if at is not None and self._shown else None

    def _update_list(self, chosen: PaletteCommand | None = None) -> None:
        """List what matches, and highlight `chosen` if it is in the list, else the first."""
        options, text = self.query_one(OptionList), self.query_one(Input).value
        found = matching(self._commands, text)
        self._shown = found[:MAX_ROWS]
        width = max(20, options.scrollable_content_region.width - 1)
        nothing = safe_content("" if self._reading else f"nothing matches {text.strip()!r}", "$quiet")
        rows = [Option(_row(command, width)) for command in self._shown]
        options.set_options(rows or [Option(nothing, disabled=True)])
        first = 0 if self._shown else None
        options.highlighted = self._shown.index(chosen) if chosen in self._shown else first
        hint = HINT
        if self._reading:
            hint = "reading runs and data sets …"
        elif len(found) > MAX_ROWS:
            hint = f"{len(found) - MAX_ROWS:,} more: type part of the name"
        self.query_one("#hint", Static).update(Content(hint))

    def on_input_changed(self) -> None:
        self._submit_pending = False
        self._update_list()

    def on_input_submitted(self) -> None:
        self._submit()

    def _submit(self) -> None:
        self._submit_pending = self._reading and not self._shown
        if self._chosen is not None:
            self.dismiss(self._chosen)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._shown[event.option_index])

    def on_click(self, event: Click) -> None:
        if event.widget is self:
            self.dismiss(None)

    def action_move(self, how: str) -> None:
        getattr(self.query_one(OptionList), f"action_{how}")()


def _row(command: PaletteCommand, width: int) -> Content:
    """Return a line of `width` cells: the title, the description cut to the room that is left, the key."""
    right = Content.styled(command.right, "bold $accent" if command.is_key else "$quiet")
    room = width - right.cell_length - 2
    title = Content(short(command.title, room))
    about = short(command.about, room - title.cell_length - 2) if room - title.cell_length > 6 else ""
    gap = " " * (room - title.cell_length - Content(about).cell_length)
    return Content.assemble(title, "  " if about else "", (about, "$quiet"), gap if about else gap + "  ", right)
