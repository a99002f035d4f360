"""A question with a few answers, each on its own key, over whatever screen asks. Knows nothing of what is asked."""

from collections.abc import Callable

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Input, Static

from nanogpt.errors import UserError


def hint(text: str) -> Static:
    """The quiet last line of a dialog: which keys answer it."""
    return Static(Content.styled(text, "$quiet"), classes="hint")


class Ask(ModalScreen[str | None]):
    """Dismisses with the chosen answer's name; escape is None where no answer is on it.

    `answers` maps a name to (key, words). Text is shown as it is, without markup.
    """

    DEFAULT_CSS = """
    Ask, AskValue { align: center middle; background: $background 60%; }
    Ask > Vertical, AskValue > Vertical {
        width: auto; max-width: 72; height: auto; padding: 1 3; background: $panel; border: none;
    }
    Ask Static, AskValue Static { width: auto; max-width: 66; height: auto; }
    Ask.-tight > Vertical { width: 100%; padding: 1; }
    Ask.-tight Static { width: 100%; }
    .question { margin-bottom: 1; text-style: bold; }
    .answer:hover { background: $boost; }
    AskValue Input { width: 60; max-width: 100%; background: $surface; }
    AskValue .error { color: $error; display: none; }
    AskValue .error.-shown { display: block; }
    .hint { height: auto; }
    AskValue .hint { margin-top: 1; }
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
                shown = Content.assemble((f"{key:>5}", "bold $accent"), f"  {words}")
                yield Static(shown, classes="answer", name=name)

    def on_key(self, event: Key) -> None:
        event.stop()
        names = {key: name for name, (key, _) in self._answers.items()}
        if event.key in names or event.key == "escape":
            self.dismiss(names.get(event.key))

    def on_click(self, event: object) -> None:
        widget = getattr(event, "widget", None)
        if widget is not None and widget.has_class("answer"):
            self.dismiss(widget.name)


class AskValue(ModalScreen[str | None]):
    """Asks for one line of text; `check` returns the reason why it will not do, or nothing. Escape gives None."""

    def __init__(self, question: str, value: str, check: Callable[[str], str]) -> None:
        super().__init__()
        self._question, self._value, self._check = question, value, check

    DEFAULT_CSS = Ask.DEFAULT_CSS

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content(self._question), classes="question")
            yield Input(self._value, compact=True)
            yield Static("", classes="error")
            yield hint("enter selects, esc cancels")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        problem = self._check(event.value)
        if problem:
            shown = self.query_one(".error", Static)
            shown.update(Content(problem))
            shown.add_class("-shown")
        else:
            self.dismiss(event.value)

    def key_escape(self) -> None:
        self.dismiss(None)


def problem_of(act: Callable[[str], object]) -> Callable[[str], str]:
    """Return a check for `AskValue` that calls `act` with the text, and returns the message of a `UserError`, or ""."""

    def check(text: str) -> str:
        try:
            act(text)
        except UserError as error:
            return str(error)
        return ""

    return check
