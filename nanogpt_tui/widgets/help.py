"""`?`: what the focused thing is, the keys that work here, and the glossary. Knows nothing of what the words mean."""

from typing import Any, ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.screen import ModalScreen
from textual.widget import Widget
from textual.widgets import Input, Static

from nanogpt_tui.keys import spelled
from nanogpt_tui.text import printable


class Help(ModalScreen[None]):
    """`about` is plain text on the focused widget or screen; `term` a word to look up at once."""

    DEFAULT_CSS = """
    Help { align: center middle; background: $background 60%; }
    Help > Vertical { width: 90%; max-width: 100; height: 90%; padding: 1 2; background: $panel; }
    Help Input { margin-bottom: 1; }
    Help VerticalScroll { scrollbar-gutter: stable; scrollbar-size-vertical: 1; }
    Help Static { height: auto; }
    Help #found { margin-bottom: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,f1", "dismiss", "close"),
        Binding("up", "scroll('up')", "up", priority=True, show=False),
        Binding("down", "scroll('down')", "down", priority=True, show=False),
        Binding("pageup", "scroll('page_up')", "page up", priority=True, show=False),
        Binding("pagedown", "scroll('page_down')", "page down", priority=True, show=False),
        Binding("home", "scroll('home')", "to the top", priority=True, show=False),
        Binding("end", "scroll('end')", "to the end", priority=True, show=False),
    ]

    def __init__(self, about: str, keys: list[tuple[str, str]], term: str = "") -> None:
        super().__init__()
        self._about, self._keys, self._term = about, keys, term

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Input(
                self._term, compact=True, placeholder="a word to explain: perplexity, warm-up, MFU … (esc closes)"
            )
            with VerticalScroll():
                yield Static(id="found")
                yield Static(id="keys")

    def on_mount(self) -> None:
        self._show(self._term)

    def on_resize(self) -> None:
        self.call_after_refresh(self._show_keys)

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.value == "?":  # the key that opened it, pressed again
            self.dismiss()
        else:
            self._show(event.value)

    def action_scroll(self, how: str) -> None:
        """The help's text, while the field above it has the focus too."""
        getattr(self.query_one(VerticalScroll), f"scroll_{how}")(animate=False)

    def _show(self, text: str) -> None:
        self.query_one("#found", Static).update(explained(text.strip()))

    def _show_keys(self) -> None:
        keys = self.query_one("#keys", Static)
        keys.update(self._keys_and_about(keys.size.width))

    def _keys_and_about(self, width: int) -> Content:
        """In lines of `width` cells, which what is said of a key does not leave its column for."""
        lines = [Content(spelled(self._about, self.app)), Content()] if self._about else []
        column = max([12, *(cell_len(key) for key, _ in self._keys)])
        for key, words in self._keys:
            first, *rest = Content(words).wrap(max(1, width - column - 2))
            lines.append(Content.assemble((" " * (column - cell_len(key)) + key, "bold $accent"), "  ", first))
            lines += [Content.assemble(" " * (column + 2), more) for more in rest]
        return Content("\n").join(lines)


def explained(text: str) -> Content:
    """What the glossary says: the term itself with all it has, or the first words of whatever a search finds."""
    from nanogpt_tui.glossary import lookup, search

    if not text:
        return Content()
    term = lookup(text)
    if term is None:
        found = search(text)[:12]
        lines = [Content.assemble((each.name, "bold $accent"), (f"  {each.text}", "$foreground")) for each in found]
        return Content("\n").join(lines) if lines else Content.styled(f"nothing about {printable(text)!r}", "$quiet")
    parts = [
        Content.assemble((term.name, "bold $accent"), (f"  {', '.join(term.aliases)}", "$quiet")),
        Content(term.text),
    ]
    if term.formula:
        parts += [Content(), Content.styled(term.formula, "$accent")]
    if term.settings:
        parts += [Content(), Content.styled(f"settings: {', '.join(term.settings)}", "$quiet")]
    if term.see:
        parts += [Content.styled(f"see also: {', '.join(term.see)}", "$quiet")]
    return Content("\n").join(parts)


def help_for(screen: Any, widget: Widget | None) -> Help:
    """The help for `widget` on `screen`: the nearest `glossary` (a term) and HELP (plain text) at or above it."""
    line: list[Any] = [*widget.ancestors_with_self] if widget is not None else []
    if screen not in line:
        line.append(screen)
    term = next((found for node in line if (found := getattr(node, "glossary", ""))), "")
    about = next((found for node in line if isinstance(found := getattr(node, "HELP", None), str) and found), "")
    keys: dict[str, list[str]] = {}
    for active in screen.active_bindings.values():
        if active.enabled and active.binding.id:  # ours, each with an id
            words = active.binding.tooltip or active.binding.description
            keys.setdefault(words[:1].upper() + words[1:], []).append(screen.app.get_key_display(active.binding))
    return Help(about, [(" ".join(each), words) for words, each in keys.items()], term)
