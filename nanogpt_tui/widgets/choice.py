"""A field of one row with one of several values: arrows change it, enter opens a list if there are many values."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Click
from textual.message import Message
from textual.reactive import reactive
from textual.style import Style
from textual.widget import Widget
from textual.widgets import OptionList
from textual.widgets.option_list import Option

from nanogpt_tui.text import printable, short
from nanogpt_tui.widgets.dialog import Dialog, hint

FEW = 4  # up to this many options, enter selects the next one and opens no list


class Choice(Widget, can_focus=True):
    """`options` are (value, text); `value` is one of the values."""

    class Changed(Message):
        def __init__(self, choice: "Choice", value: str) -> None:
            super().__init__()
            self.choice, self.value = choice, value

        @property
        def control(self) -> "Choice":
            return self.choice

    DEFAULT_CSS = """
    Choice { height: 1; width: 1fr; background: $surface; color: $foreground; pointer: pointer; }
    Choice:focus { background: $panel; text-style: bold; }
    Choice:disabled { color: $quiet; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("right,space", "turn(1)", "next", show=False, id="choice.next"),
        Binding("left", "turn(-1)", "previous", show=False, id="choice.previous"),
        Binding("enter", "list", "list", show=False, id="choice.list"),
    ]
    value: reactive[str] = reactive("", layout=False, init=False)

    def __init__(
        self, options: list[tuple[str, str]], value: str = "", id: str | None = None, classes: str | None = None
    ) -> None:
        super().__init__(id=id, classes=classes)
        self.options = options
        self.set_reactive(Choice.value, value if value or not options else options[0][0])

    def set_options(self, options: list[tuple[str, str]]) -> None:
        """Replace the options; keep the value if it is still one of them."""
        self.options = options
        if self.value not in [value for value, _ in options] and options:
            self.value = options[0][0]
        self.refresh()

    def show(self, value: str) -> None:
        """Show a value without posting `Changed`."""
        if value != self.value:
            self.set_reactive(Choice.value, value)
            self.refresh()

    def watch_value(self, value: str) -> None:
        self.post_message(self.Changed(self, value))

    def render(self) -> Content:
        words = dict(self.options).get(self.value, self.value)
        arrow = "$quiet" if self.disabled or len(self.options) < 2 else "$accent"
        back, forth = (
            Content.styled(mark, arrow).stylize(Style.from_meta({"turn": by})) for mark, by in (("‹ ", -1), (" ›", 1))
        )
        return Content.assemble(back, short(printable(words), max(1, self.size.width - 4)), forth)

    def action_turn(self, by: int) -> None:
        values = [value for value, _ in self.options]
        if values:
            at = values.index(self.value) if self.value in values else 0
            self.value = values[(at + by) % len(values)]

    def action_list(self) -> None:
        if len(self.options) <= FEW:
            self.action_turn(1)
        else:
            self.app.push_screen(Pick(self.options, self.value), self._picked)

    def _picked(self, value: str | None) -> None:
        if value is not None:
            self.value = value

    def on_click(self, event: Click) -> None:
        self.focus()
        by = event.style.meta.get("turn")
        if by is not None:
            self.action_turn(by)
        else:
            self.action_list()


class Pick(Dialog[str | None]):
    """A list of all options; dismisses with the chosen value, or None at escape."""

    DEFAULT_CSS = """
    Pick .hint { width: auto; }
    Pick > Vertical { width: auto; max-width: 80%; height: auto; max-height: 80%; }
    Pick OptionList, Pick OptionList:focus {
        width: auto; min-width: 30; height: auto; border: none; padding: 0; margin-bottom: 1; background: $panel;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "dismiss(None)", "close")]

    def __init__(self, options: list[tuple[str, str]], value: str) -> None:
        super().__init__()
        self._options, self._value = options, value

    def compose(self) -> ComposeResult:
        rows = [Option(Content(printable(words))) for _, words in self._options]
        with Vertical():
            yield OptionList(*rows)
            yield hint("enter selects, esc cancels")

    def on_mount(self) -> None:
        values = [value for value, _ in self._options]
        if self._value in values:
            self.query_one(OptionList).highlighted = values.index(self._value)

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.dismiss(self._options[event.option_index][0])
