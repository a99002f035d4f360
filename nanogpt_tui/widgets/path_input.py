"""An input for a path that completes names from the disk, and a dialog that asks for a file."""

import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, NamedTuple, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Key
from textual.message import Message
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from nanogpt_tui.text import safe_content
from nanogpt_tui.widgets.dialog import Dialog, hint

if TYPE_CHECKING:
    from nanogpt_tui.app import LabApp

MAX_ENTRIES = 5000  # entries of a folder that are read
MAX_SUGGESTIONS = 60


def completions(text: str) -> list[str]:
    """Return the paths that begin with `text`, by name; folders end in /. Hidden ones only after a typed dot."""
    folder, _, prefix = text.rpartition("/")
    where = os.path.expanduser(folder + "/" if "/" in text else ".")  # noqa: PTH111 (pathlib's raises for ~name)
    start = text[: len(text) - len(prefix)]
    if text == "~":
        return ["~/"]
    found = []
    try:
        with os.scandir(where) as entries:
            for entry in islice(entries, MAX_ENTRIES):
                name = entry.name
                if name.startswith(prefix) and name.isprintable() and (prefix or not name.startswith(".")):
                    # `DirEntry.is_dir` raises for a link that leads to itself; a file needs no further look at the disk
                    is_folder = not entry.is_file(follow_symlinks=False) and os.path.isdir(entry.path)  # noqa: PTH112
                    found.append(f"{start}{name}{'/' if is_folder else ''}")
    except OSError:
        return []
    return sorted(found, key=str.casefold)[:MAX_SUGGESTIONS]


class Found(NamedTuple):
    """What the disk has for a typed text: whether it is an existing path, and the paths that begin with it."""

    exists: bool
    completions: list[str]


def look_up(text: str) -> Found:
    """Look for a typed path on the disk. For worker threads."""
    path = os.path.expanduser(text.strip())  # noqa: PTH111 (pathlib's raises for ~name)
    return Found(bool(path) and os.path.exists(path), completions(text) if text else [])  # noqa: PTH110 (never raises)


def common_prefix(texts: list[str]) -> str:
    """Return the longest common prefix."""
    low, high = min(texts), max(texts)
    return next((low[:at] for at, letter in enumerate(low) if letter != high[at]), low)


class PathInput(Vertical):
    """Tab completes a name, up and down choose a suggestion, enter inserts it, or else submits the path.

    A thread reads the disk after each change: one at a time, and always for the newest text.
    """

    class Changed(Message):
        """The typed path changed, and `exists` is not known yet."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

    class LookedUp(Changed):
        """`exists` and the suggestions are known."""

    class Submitted(Changed):
        """The path was submitted, and `exists` is known."""

    DEFAULT_CSS = """
    PathInput { height: auto; }
    PathInput > OptionList {
        height: auto; max-height: 6; border: none; padding: 0; background: transparent; color: $quiet;
    }
    PathInput > OptionList.-none { display: none; }
    """
    HELP = "A file or folder. Tab completes a name, up and down choose, enter selects."

    def __init__(self, value: str = "", placeholder: str = "", id: str | None = None) -> None:
        super().__init__(id=id)
        self._input = Input(value, placeholder=placeholder, compact=True, select_on_focus=False)
        self._list = OptionList(compact=True, classes="-none")
        self._list.can_focus = False
        self._suggestions: list[str] = []
        self._found: Found | None = Found(False, [])  # None after a change, until the disk has answered
        self._reading: str | None = None  # the text that a thread looks up
        self._is_new = False  # whether the text was changed since the disk answered
        self._then: tuple[str, Callable[[], object]] | None = None  # what is called once this text is looked up

    @property
    def exists(self) -> bool | None:
        """Whether the typed path exists; None until that is known."""
        return self._found.exists if self._found is not None else None

    @property
    def value(self) -> str:
        """The typed path."""
        return self._input.value

    @property
    def suggests(self) -> bool:
        """Whether the typed text is the beginning of a path."""
        return bool(self._suggestions)

    def compose(self) -> ComposeResult:
        yield self._input
        yield self._list

    def focus_input(self) -> None:
        """Focus the input, not the suggestions."""
        self._input.focus()

    def on_mount(self) -> None:
        if self.value:
            self._look_up()

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._found, self._is_new = None, True
        self._show([path for path in self._suggestions if path.startswith(self.value)])
        self._look_up()
        self.post_message(self.Changed(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._close()
        self.look_again(lambda: self.post_message(self.Submitted(self.value)))

    def look_again(self, then: Callable[[], object]) -> None:
        """Look the path up again, as it may exist by now, then call `then`; not if the text is changed meanwhile."""
        self._then = self.value, then
        self._look_up()

    def _look_up(self) -> None:
        if self._reading is None and self.is_attached:
            text = self._reading = self.value
            session = cast("LabApp", self.app).session
            session.fetch(lambda: look_up(text), self._take, "look up path")

    def _take(self, found: Found | None, error: str) -> None:
        text, self._reading = self._reading, None
        if not self.is_attached:
            return
        if text != self.value:
            self._look_up()
            return
        self._found = found or Found(False, [])
        if self._is_new:
            self._is_new = False
            is_shown = self._input.has_focus and self._found.completions != [text]
            self._show(self._found.completions if is_shown else [])
            self.post_message(self.LookedUp(self.value))
        then, self._then = self._then, None
        if then is not None and then[0] == text:
            then[1]()

    def on_key(self, event: Key) -> None:
        if event.key in ("down", "up") and self._suggestions:
            (self._list.action_cursor_down if event.key == "down" else self._list.action_cursor_up)()
        elif event.key == "tab" and self._found is None and self._then is None:
            self.look_again(self._complete_or_leave)  # a second tab does not wait
        elif event.key == "tab" and self._complete():
            pass
        elif event.key == "enter" and (chosen := self._chosen()):
            self._insert(chosen)
        else:
            return
        event.stop()
        event.prevent_default()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._insert(self._suggestions[event.option_index])
        self._input.focus()

    def on_descendant_blur(self) -> None:
        self._close()

    def _show(self, suggestions: list[str]) -> None:
        self._suggestions = suggestions
        names = [
            path.rstrip("/").rpartition("/")[2] + ("/" if path.endswith("/") else "") for path in self._suggestions
        ]
        self._list.set_options([Option(safe_content(name)) for name in names])
        self._list.set_class(not self._suggestions, "-none")
        self._list.highlighted = None

    def _close(self) -> None:
        self._suggestions = []
        self._list.add_class("-none")

    def _chosen(self) -> str | None:
        index = self._list.highlighted
        return self._suggestions[index] if self._suggestions and index is not None else None

    def _complete(self) -> bool:
        """Complete the path with the chosen suggestion, or the common prefix of all; return False if nothing is left
        to complete, as after a folder's name."""
        chosen = self._chosen()
        if not self._suggestions or (chosen is None and self.value.endswith("/")):
            return False
        further = chosen or common_prefix(self._suggestions)
        if len(further) > len(self.value):
            self._insert(further)
        elif self.exists:
            return False
        else:
            self._list.action_cursor_down()
        return True

    def _complete_or_leave(self) -> None:
        if self._input.has_focus and not self._complete():
            self.screen.focus_next()

    def _insert(self, path: str) -> None:
        self._input.value = path
        self._input.cursor_position = len(path)


class AskPath(Dialog[Path | None]):
    """Asks for a file. Escape dismisses with None.

    `check`, which is called in a thread, returns why the file cannot be used, or "".
    """

    DEFAULT_CSS = """
    AskPath > Vertical { width: 72; max-width: 90%; height: auto; }
    AskPath Static { height: auto; margin-bottom: 1; }
    AskPath .error { color: $error; margin: 0; }
    AskPath .hint { margin: 1 0 0 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "close")]

    def __init__(self, question: str, check: Callable[[Path], str]) -> None:
        super().__init__()
        self._question, self._check = question, check
        self._is_checking = False

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(self._question))
            yield PathInput(placeholder="path")
            yield Static("", classes="error")
            yield hint("tab completes, down chooses, enter selects, esc cancels")

    def on_path_input_submitted(self, message: PathInput.Submitted) -> None:
        path = Path(os.path.expanduser(message.path))  # noqa: PTH111 (pathlib's raises for ~name)
        if not self._is_checking:
            self._is_checking = True
            session = cast("LabApp", self.app).session
            session.fetch(
                lambda: self._check(path),
                lambda problem, error: self._end(path, problem or error),
                "check",
                answers_key=True,
            )

    def _end(self, path: Path, problem: str) -> None:
        """Dismiss with the path, or show the problem."""
        self._is_checking = False
        if not self.is_whole:  # it was closed meanwhile
            return
        if problem:
            self.query_one(".error", Static).update(safe_content(problem))
        else:
            self.dismiss(path)
