"""Dialogs: the base class with their common style, a question with answers, and a question for a value."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, cast

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from nanogpt.errors import UserError
from nanogpt_tui.text import safe_content
from nanogpt_tui.widgets.whole import is_whole

if TYPE_CHECKING:
    from nanogpt_tui.app import LabApp

T = TypeVar("T")


def hint(text: str) -> Static:
    """Return the last line of a dialog, which says what its keys do."""
    return Static(Content.styled(text, "$quiet"), classes="hint")


class Dialog(ModalScreen[T]):
    """A modal screen with one panel in the middle: a `Vertical` that the subclass composes and gives a size."""

    DEFAULT_CSS = """
    Dialog { align: center middle; background: $background 60%; }
    Dialog > Vertical { width: auto; height: auto; padding: 1 3; background: $panel; border: none; }
    Dialog .question { margin-bottom: 1; text-style: bold; }
    Dialog .hint { height: auto; }
    """

    @property
    def is_whole(self) -> bool:
        """Whether all widgets exist; see `whole.is_whole`."""
        return is_whole(self)


class Ask(Dialog[str | None]):
    """A question. Dismisses with the name of the chosen answer; escape gives None if no answer has that key.

    `answers` maps a name to (key, words). The key that opens the question must not be that of an answer that loses
    something: a key that is held repeats. Text is shown without markup.
    """

    DEFAULT_CSS = """
    Ask > Vertical { max-width: 72; }
    Ask Static { width: auto; max-width: 66; height: auto; }
    Ask.-tight > Vertical { width: 100%; padding: 1; }
    Ask.-tight Static { width: 100%; }
    Ask .answer:hover { background: $boost; }
    """

    HORIZONTAL_BREAKPOINTS = [(0, "-tight"), (80, "-roomy")]  # noqa: RUF012

    def __init__(self, question: Content | str, answers: dict[str, tuple[str, str]]) -> None:
        super().__init__()
        self._question = Content(question) if isinstance(question, str) else question
        self._answers = answers

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(self._question, classes="question")
            for name, (key, words) in self._answers.items():
                line = Content.assemble((f"{key:>5}", "bold $accent"), f"  {words}")
                yield Static(line, classes="answer", name=name)

    def on_key(self, event: Key) -> None:
        event.stop()
        names = {key: name for name, (key, _) in self._answers.items()}
        if event.key in names or event.key == "escape":
            self.dismiss(names.get(event.key))

    def on_click(self, event: object) -> None:
        widget = getattr(event, "widget", None)
        if widget is not None and widget.has_class("answer"):
            self.dismiss(widget.name)


class AskValue(Dialog[str | None]):
    """A question for one line of text. `check` returns why a text is invalid, or "". Escape gives None.

    `act` is then called in a thread with the text. If it raises `UserError`, the question stays, with the error.
    """

    DEFAULT_CSS = """
    AskValue > Vertical { max-width: 72; }
    AskValue Static { width: auto; max-width: 66; height: auto; }
    AskValue Input { width: 60; max-width: 100%; background: $surface; }
    AskValue .error { color: $error; display: none; }
    AskValue .error.-shown { display: block; }
    AskValue .hint { margin-top: 1; }
    """

    def __init__(
        self,
        question: str,
        value: str,
        check: Callable[[str], str] = lambda _: "",
        act: Callable[[str], object] | None = None,
    ) -> None:
        super().__init__()
        self._question, self._value, self._check, self._act = question, value, check, act
        self._is_acting = False

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(self._question), classes="question")
            yield Input(self._value, compact=True)
            yield Static("", classes="error")
            yield hint("enter selects, esc cancels")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        text, act = event.value, self._act
        problem = self._check(text)
        if problem or act is None:
            self._end(text, problem)
        elif not self._is_acting:
            self._is_acting = True
            session = cast("LabApp", self.app).session
            session.fetch(lambda: act(text), lambda _, error: self._end(text, error), "answer", answers_key=True)

    def _end(self, text: str, problem: str) -> None:
        """Dismiss with the text, or show the problem."""
        self._is_acting = False
        if not self.is_whole:  # it was closed meanwhile
            return
        if problem:
            line = self.query_one(".error", Static)
            line.update(safe_content(problem))
            line.add_class("-shown")
        else:
            self.dismiss(text)

    def key_escape(self) -> None:
        self.dismiss(None)


def in_current_folder(name: str) -> str:
    """Return the path of a file in the current folder, or its name alone if that folder has been removed."""
    try:
        return str(Path.cwd() / name)
    except OSError:
        return name


def problem_of(act: Callable[[str], object]) -> Callable[[str], str]:
    """Return a check for `AskValue` that calls `act` with the text, and returns the message of a `UserError`, or ""."""

    def check(text: str) -> str:
        try:
            act(text)
        except UserError as error:
            return str(error)
        return ""

    return check
