"""The help dialog: the focused widget, the glossary, and the keys and the mouse of the current screen."""

from typing import Any, ClassVar

from rich.cells import cell_len
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.content import Content
from textual.events import Click
from textual.widget import Widget
from textual.widgets import Input, Static

from nanogpt_tui.keys import with_keys
from nanogpt_tui.widgets.dialog import Dialog
from nanogpt_tui.widgets.glossary_page import links, page, topics

MOUSE = "Click a screen's name at the top, or a key in the bottom line"
# heading: its actions, in the order of the help; any other action of a screen is listed below "actions"
GROUPS = {
    "actions": "",
    "steer the training": "pause save stop sample sample_prompt scale eval_interval max_iters",
    "knobs": "turn type_knob ask",
    "view": """chart full back overlay earlier_sample other_panel other_pane tick sort reverse_order filter clear shades
        no_cursor side_by_side history view figure compare text more""",
    "move": """turn_page jump go_to next_split page_down page_up scroll_down scroll_up
        cursor_down cursor_up first last scroll_top scroll_bottom scroll scroll_details scroll_sample move_cursor
        choose choose_by token head layer checkpoint time app.focus_next app.focus_previous list leave lesson""",
}
APP = "app"
Keys = dict[str, list[tuple[str, str]]]  # by group: keys and descriptions


class Help(Dialog[None]):
    """`about` describes the focused widget or screen, `mouse` what the mouse does there; both are plain text. `term` is
    looked up in the glossary first. Tab chooses a link of the glossary, enter opens it, escape goes back."""

    DEFAULT_CSS = """
    Help > Vertical { width: 90%; max-width: 100; height: 90%; padding: 1 2; }
    Help Input { margin-bottom: 1; }
    Help VerticalScroll { height: 1fr; scrollbar-gutter: stable; scrollbar-size-vertical: 1; }
    Help Static { height: auto; }
    Help #found { margin-bottom: 1; }
    Help #hint { height: 1; color: $quiet; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "back", "back"),
        Binding("f1", "dismiss", "close"),
        Binding("tab", "choose(1)", "next link", priority=True, show=False),
        Binding("shift+tab", "choose(-1)", "link before", priority=True, show=False),
        Binding("up", "scroll('up')", "up", priority=True, show=False),
        Binding("down", "scroll('down')", "down", priority=True, show=False),
        Binding("pageup", "scroll('page_up')", "page up", priority=True, show=False),
        Binding("pagedown", "scroll('page_down')", "page down", priority=True, show=False),
        Binding("home", "scroll('home')", "to the top", priority=True, show=False),
        Binding("end", "scroll('end')", "to the end", priority=True, show=False),
    ]

    def __init__(self, about: str, keys: Keys, term: str = "", mouse: str = MOUSE) -> None:
        super().__init__()
        self._about, self._keys, self._term, self._mouse = about, keys, term, mouse
        self._page = Content()
        self._chosen: int | None = None  # index into the links of the page
        self._back_stack: list[tuple[str, int]] = []  # of earlier pages: search text, index of the link

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Input(self._term, compact=True, placeholder="a word to explain: perplexity, warm-up, MFU …")
            with VerticalScroll():
                yield Static(id="found")
                yield Static(id="keys")
            yield Static(id="hint")

    def on_mount(self) -> None:
        self._show(self._term)

    def on_resize(self) -> None:
        self.call_after_refresh(self._show_keys)

    # ---- the glossary

    def on_input_changed(self, event: Input.Changed) -> None:
        if event.value == "?":  # the key that opened it, pressed again
            self.dismiss()
        else:
            self._back_stack.clear()
            self._show(event.value)

    def on_input_submitted(self) -> None:
        found = links(self._page)
        if found:
            self._follow(found[self._chosen or 0][1])

    def on_click(self, event: Click) -> None:
        if "open" in event.style.meta:
            self._follow(event.style.meta["open"])

    def _follow(self, name: str) -> None:
        at = [to for _, to in links(self._page)].index(name)
        self._back_stack.append((self.query_one(Input).value, at))
        self._open(name)

    def _open(self, text: str, chosen: int | None = None) -> None:
        field = self.query_one(Input)
        with self.prevent(Input.Changed):
            field.value = text
        field.cursor_position = len(text)
        self._show(text, chosen)

    def action_back(self) -> None:
        if self._back_stack:
            self._open(*self._back_stack.pop())
        else:
            self.dismiss()

    def action_choose(self, by: int) -> None:
        count = len(links(self._page))
        if count:
            first = 0 if by > 0 else count - 1
            self._chosen = first if self._chosen is None else (self._chosen + by) % count
            self._repaint()

    def _show(self, text: str, chosen: int | None = None) -> None:
        self._page, self._chosen = page(text.strip()) if text.strip() else topics(), chosen
        self.query_one(VerticalScroll).scroll_home(animate=False)
        self._repaint()

    def _repaint(self) -> None:
        """Show the page, with the chosen link in reverse, and scroll to it."""
        found, shown = self.query_one("#found", Static), self._page
        if self._chosen is not None:
            span, _ = links(self._page)[self._chosen]
            shown = shown.stylize("reverse", span.start, span.end)
            above = len(self._page[: span.start + 1].wrap(max(1, found.size.width))) - 1
            text = self.query_one(VerticalScroll)
            if not text.scroll_offset.y <= above < text.scroll_offset.y + text.size.height:
                text.scroll_to(y=max(0, above - text.size.height // 2), animate=False)
        found.update(shown)
        back = "back" if self._back_stack else "closes"
        self.query_one("#hint", Static).update(Content(f"tab chooses a word, enter opens it, esc {back}"))

    def action_scroll(self, how: str) -> None:
        """Scroll the text; the search field keeps the focus."""
        getattr(self.query_one(VerticalScroll), f"scroll_{how}")(animate=False)

    # ---- the keys

    def _show_keys(self) -> None:
        keys = self.query_one("#keys", Static)
        keys.update(self._keys_and_about(keys.size.width))

    def _keys_and_about(self, width: int) -> Content:
        """Return lines of `width` cells; a long description is wrapped within its column."""
        lines = [Content(with_keys(self._about, self.app)), Content()] if self._about else []
        column = max([8, *(cell_len(key) for keys in self._keys.values() for key, _ in keys)])
        groups = {group: self._keys[group] for group in (*GROUPS, APP) if group in self._keys}
        if self._mouse:
            groups["mouse"] = [("", self._mouse)]
        for group, keys in groups.items():
            lines.append(Content.styled(group, "bold"))
            for key, words in keys:
                first, *rest = Content(words).wrap(max(1, width - column - 2))
                lines.append(Content.assemble((" " * (column - cell_len(key)) + key, "bold $accent"), "  ", first))
                lines += [Content.assemble(" " * (column + 2), more) for more in rest]
            lines.append(Content())
        return Content("\n").join(lines[:-1])


def group_of(binding: Binding) -> str:
    """Return the heading under which the help has a key."""
    if (binding.id or "").startswith("app."):
        return APP
    action = binding.action.partition("(")[0]
    return next((group for group, actions in GROUPS.items() if action in actions.split()), "actions")


def help_for(screen: Any, widget: Widget | None) -> Help:
    """Return the help for `widget` on `screen`.

    `glossary` (a term) and HELP (plain text) are those of the widget or of its nearest ancestor that has them; MOUSE is
    of the screen.
    """
    line: list[Any] = [*widget.ancestors_with_self] if widget is not None else []
    if screen not in line:
        line.append(screen)
    term = next((found for node in line if (found := getattr(node, "glossary", ""))), "")
    about = next((found for node in line if isinstance(found := getattr(node, "HELP", None), str) and found), "")
    keys: dict[str, dict[str, list[str]]] = {}
    for active in screen.active_bindings.values():
        if active.enabled and active.binding.id:  # the bindings of Textual have no id
            words = active.binding.tooltip or active.binding.description
            group = keys.setdefault(group_of(active.binding), {})
            group.setdefault(words[:1].upper() + words[1:], []).append(screen.app.get_key_display(active.binding))
    listed = {group: [(" ".join(each), words) for words, each in found.items()] for group, found in keys.items()}
    mouse = " ".join(f"{each}." for each in (getattr(screen, "MOUSE", ""), MOUSE) if each)
    return Help(about, listed, term, mouse)
