"""A field for a path that completes what is typed from what is on disk. Knows nothing of what is in the files."""

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
from textual.screen import ModalScreen
from textual.widgets import Input, OptionList, Static
from textual.widgets.option_list import Option

from nanogpt_tui.text import safe_content
from nanogpt_tui.widgets.dialog import hint

SEEN = 5000  # entries of a folder that are looked at
SHOWN = 60


def completions(text: str) -> list[str]:
    """What the typed path may become: folders (ending in /) and files, by name; hidden ones where a dot was typed."""
    folder, _, prefix = text.rpartition("/")
    where = os.path.expanduser(folder + "/" if "/" in text else ".")  # noqa: PTH111 (pathlib's raises for ~name)
    start = text[: len(text) - len(prefix)]
    if text == "~":
        return ["~/"]
    found = []
    try:
        with os.scandir(where) as entries:
            for entry in islice(entries, SEEN):
                name = entry.name
                if name.startswith(prefix) and name.isprintable() and (prefix or not name.startswith(".")):
                    found.append(f"{start}{name}{'/' if entry.is_dir() else ''}")
    except OSError:
        return []
    return sorted(found, key=str.casefold)[:SHOWN]


def common_start(texts: list[str]) -> str:
    """The longest beginning that all have in common, letter by letter."""
    low, high = min(texts), max(texts)
    return next((low[:at] for at, letter in enumerate(low) if letter != high[at]), low)


class PathInput(Vertical):
    """Tab completes a name, up and down choose a suggestion, enter takes the chosen one or submits the path."""

    class Changed(Message):
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
        self._found: list[str] = []

    @property
    def value(self) -> str:
        return self._input.value

    @property
    def suggests(self) -> bool:
        """Whether what is typed is the beginning of something."""
        return bool(self._found)

    def compose(self) -> ComposeResult:
        yield self._input
        yield self._list

    def focus_input(self) -> None:
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
        if event.key in ("down", "up") and self._found:
            (self._list.action_cursor_down if event.key == "down" else self._list.action_cursor_up)()
        elif event.key == "tab" and self._completed():
            pass
        elif event.key == "enter" and (chosen := self._chosen()):
            self._take(chosen)
        else:
            return
        event.stop()
        event.prevent_default()

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        event.stop()
        self._take(self._found[event.option_index])
        self._input.focus()

    def on_descendant_blur(self) -> None:
        self._close()

    def _suggest(self) -> None:
        found = completions(self.value) if self.value else []
        self._found = [] if found == [self.value] else found
        names = [path.rstrip("/").rpartition("/")[2] + ("/" if path.endswith("/") else "") for path in self._found]
        self._list.set_options([Option(safe_content(name)) for name in names])
        self._list.set_class(not self._found, "-none")
        self._list.highlighted = None

    def _close(self) -> None:
        self._found = []
        self._list.add_class("-none")

    def _chosen(self) -> str | None:
        index = self._list.highlighted
        return self._found[index] if self._found and index is not None else None

    def _completed(self) -> bool:
        """Whether something was left to complete: the chosen suggestion, or what all of them have in common. A path
        that is whole already, as a folder is before what is in it, stays as it is."""
        chosen = self._chosen()
        if not self._found or (chosen is None and self.value.endswith("/")):
            return False
        further = chosen or common_start(self._found)
        if len(further) > len(self.value):
            self._take(further)
        elif os.path.exists(os.path.expanduser(self.value)):  # noqa: PTH110, PTH111 (pathlib's raise)
            return False
        else:
            self._list.action_cursor_down()
        return True

    def _take(self, path: str) -> None:
        self._input.value = path
        self._input.cursor_position = len(path)


class AskPath(ModalScreen[Path | None]):
    """Asks for a file; `check` returns the reason why it will not do, or nothing. Escape gives None."""

    DEFAULT_CSS = """
    AskPath { align: center middle; background: $background 60%; }
    AskPath > Vertical { width: 72; max-width: 90%; height: auto; padding: 1 3; background: $panel; }
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
