"""A question with a few answers, each on its own key, over whatever screen asks. Knows nothing of what is asked."""

from collections.abc import Callable

from textual.app import ComposeResult
from textual.containers import Vertical
from textual.content import Content
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import Input, Static


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
    .question { margin-bottom: 1; text-style: bold; }
    .answer:hover { background: $boost; }
    AskValue Input { width: 50; }
    AskValue .error { color: $error; }
    """

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
            yield Input(self._value)
            yield Static("", classes="error")

    def on_input_submitted(self, event: Input.Submitted) -> None:
        problem = self._check(event.value)
        if problem:
            self.query_one(".error", Static).update(Content(problem))
        else:
            self.dismiss(event.value)

    def key_escape(self) -> None:
        self.dismiss(None)
