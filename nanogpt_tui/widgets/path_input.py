"""An input for a path that completes names from the disk, and a dialog that asks for a file."""

import os
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import ClassVar

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
                    found.append(f"{start}{name}{'/' if entry.is_dir() else ''}")
    except OSError:
        return []
    return sorted(found, key=str.casefold)[:MAX_SUGGESTIONS]


def common_prefix(texts: list[str]) -> str:
    """Return the longest common prefix."""
    low, high = min(texts), max(texts)
    return next((low[:at] for at, letter in enumerate(low) if letter != high[at]), low)


class PathInput(Vertical):
    """Tab completes a name, up and down choose a suggestion, enter inserts it, or else submits the path."""

    class Changed(Message):
        """The typed path changed."""

        def __init__(self, path: str) -> None:
            super().__init__()
            self.path = path

    class Submitted(Changed):
        pass

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

    def on_input_changed(self, event: Input.Changed) -> None:
        event.stop()
        self._suggest()
        self.post_message(self.Changed(event.value))

    def on_input_submitted(self, event: Input.Submitted) -> None:
        event.stop()
        self._close()
        self.post_message(self.Submitted(event.value))

    def on_key(self, event: Key) -> None:
        if event.key in ("down", "up") and self._suggestions:
            (self._list.action_cursor_down if event.key == "down" else self._list.action_cursor_up)()
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

    def _suggest(self) -> None:
        found = completions(self.value) if self.value else []
        self._suggestions = [] if found == [self.value] else found
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
        elif os.path.exists(os.path.expanduser(self.value)):  # noqa: PTH110, PTH111 (pathlib's raise)
            return False
        else:
            self._list.action_cursor_down()
        return True

    def _insert(self, path: str) -> None:
        self._input.value = path
        self._input.cursor_position = len(path)


class AskPath(Dialog[Path | None]):
    """Asks for a file. `check` returns why it cannot be used, or "". Escape dismisses with None."""

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

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(self._question))
            yield PathInput(placeholder="path")
            yield Static("", classes="error")
            yield hint("tab completes, down chooses, enter selects, esc cancels")

    def on_path_input_submitted(self, message: PathInput.Submitted) -> None:
        path = Path(os.path.expanduser(message.path))  # noqa: PTH111 (pathlib's raises for ~name)
        problem = self._check(path)
        if problem:
            self.query_one(".error", Static).update(safe_content(problem))
        else:
            self.dismiss(path)
