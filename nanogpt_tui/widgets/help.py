"""`?`: what the focused thing is, the keys that work here, and the glossary. Knows nothing of what the words mean."""

from typing import Any, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, Static


class Help(ModalScreen[None]):
    """`about` is plain text on the focused widget or screen; `term` a word to look up at once."""

    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help > Vertical { width: 90%; max-width: 100; height: 90%; padding: 1 2; background: $panel; }
    Help Input { margin-bottom: 1; }
    Help Static { height: auto; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,f1", "dismiss", "close")]

    def __init__(self, about: str, keys: list[tuple[str, str]], term: str = "") -> None:
        super().__init__()
        self._about, self._keys, self._term = about, keys, term

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Input(self._term, placeholder="a word to explain: perplexity, warm-up, MFU … (esc closes)")
            with VerticalScroll():
                yield Static(id="found")
                yield Static(self._keys_and_about(), id="keys")

    def on_mount(self) -> None:
        self._show(self._term)

    def on_input_changed(self, event: Input.Changed) -> None:
        self._show(event.value)

    def _show(self, text: str) -> None:
        self.query_one("#found", Static).update(explained(text.strip()))

    def _keys_and_about(self) -> Content:
        lines = [Content(self._about), Content()] if self._about else []
        lines += [Content.assemble((f"{key:>12}", "bold $accent"), f"  {words}") for key, words in self._keys]
        return Content("\n").join(lines)


def explained(text: str) -> Content:
    """What the glossary says: the term itself, or all that the search finds."""
    return Content()


def help_for(screen: Any, widget: Widget | None) -> Help:
    """The help for `widget` on `screen`: the nearest `glossary` (a term) and HELP (plain text) at or above it."""
    line: list[Any] = [*widget.ancestors_with_self] if widget is not None else []
    if screen not in line:
        line.append(screen)
    term = next((found for node in line if (found := getattr(node, "glossary", ""))), "")
    about = next((found for node in line if isinstance(found := getattr(node, "HELP", None), str) and found), "")
    keys = [
        (screen.app.get_key_display(active.binding), active.binding.tooltip or active.binding.description)
        for active in screen.active_bindings.values()
        if active.enabled and active.binding.description
    ]
    return Help(about, keys, term)
