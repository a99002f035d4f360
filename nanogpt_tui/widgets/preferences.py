"""The dialog for the app's settings and keys. A change is saved to the settings file at once.

`LabApp.change_settings` applies and saves them.
"""

import shlex
from collections.abc import Collection, Iterator
from typing import TYPE_CHECKING, Any, ClassVar, cast

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Click, Key
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from nanogpt.errors import UserError
from nanogpt_tui.keys import conflict, keys_of, remappable, scope
from nanogpt_tui.settings import CHOICES, Settings, path
from nanogpt_tui.text import escaped, safe_content, unescaped
from nanogpt_tui.widgets.dialog import AskValue, Dialog

if TYPE_CHECKING:
    from nanogpt_tui.app import LabApp

RATES = (0.5, 1.0, 2.0, 4.0)
DESCRIPTIONS = {
    "ssh_mode": ": one repaint per second, 256 colours, no animation",
    "traffic": ": bytes per second sent to the terminal, in the bottom line",
    "notifications": ": when a run ends, improves or has a problem",
    "loss_unit": ": of the charts; bits per byte compare models with different tokenizers",
}
HINT = "enter changes, backspace resets, esc closes"
QUICKSTART = "Settings to change in the quick start, such as: max_iters=500 sample_start='To be' (empty: none)"


class Preferences(Dialog[None]):
    DEFAULT_CSS = """
    Preferences > Vertical { width: 95%; max-width: 100; height: 90%; }
    Preferences OptionList { height: 1fr; border: none; background: $panel; padding: 0; text-wrap: nowrap; }
    Preferences OptionList { text-overflow: ellipsis; }
    Preferences OptionList:focus { border: none; background: $panel; background-tint: transparent 0%; }
    Preferences Static { height: auto; }
    Preferences .question { margin-bottom: 0; text-style: bold; }
    Preferences #where { color: $quiet; margin-bottom: 1; }
    Preferences #about { height: 2; margin-top: 1; }
    """
    HELP = "The settings of the app, and every key: its name, the key now, what it does."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "close", "close"),
        Binding("backspace,delete", "reset", "reset"),
    ]

    def __init__(self, at: str = "") -> None:
        """`at` is the setting to highlight first."""
        super().__init__()
        self._at = at
        self._awaited_binding = ""  # the id of the binding that the next key is for
        self._descriptions: dict[str, str] = {}  # by id of the option

    @property
    def awaits_a_key(self) -> bool:
        """Whether the next key becomes the key of a binding and must not run a command."""
        return bool(self._awaited_binding)

    @property
    def lab(self) -> "LabApp":
        return cast("LabApp", self.app)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content("settings and keys"), classes="question")
            where = "for this session only: it is read-only" if self.lab.session.readonly else f"written to {path()}"
            yield Static(safe_content(where), id="where")
            yield OptionList(*self._options())
            yield Static(id="about")
            yield Static(id="hint")

    def on_mount(self) -> None:
        self._show_hint(HINT)
        if self._at:
            self.highlight(self._at)

    def highlight(self, setting: str) -> None:
        """Put the cursor on a setting."""
        options = self.query_one(OptionList)
        options.highlighted = options.get_option_index(setting)

    def _options(self) -> Iterator[Option]:
        settings = self.lab.settings
        for name in CHOICES:
            words = " · ".join(CHOICES[name]) + DESCRIPTIONS.get(name, "")
            yield self._option(name, name.replace("_", " "), getattr(settings, name), words)
        rate = f"{settings.repaints_per_second:g}"
        words = "of the Train screen; fewer over a slow line"
        yield self._option("repaints_per_second", "repaints per second", rate, words)
        words = _format_quickstart(settings.quickstart) or "settings to change in the quick start"
        yield self._option("quickstart", "quick start", str(len(settings.quickstart) or "none"), words)
        last = ""
        for name, binding in remappable().items():
            if scope(name) != last:
                last = scope(name)
                yield Option("", disabled=True)
                title = "everywhere" if last == "app" else last.replace("_", " ").capitalize()
                yield Option(Content.styled(f"Keys: {title}", "bold $accent"), disabled=True)
            keys = " ".join(self.app.get_key_display(Binding(key, "")) for key in keys_of(name, settings.keymap))
            words = binding.tooltip or binding.description
            yield self._option(f"key {name}", name, keys, words, name in settings.keymap)

    def _option(self, id: str, name: str, value: str, words: str, changed: bool = False) -> Option:
        self._descriptions[id] = words
        return Option(_line(name, value, words, changed), id=id)

    def on_option_list_option_highlighted(self, event: OptionList.OptionHighlighted) -> None:
        """Show the full description, which the list may cut off."""
        self.query_one("#about", Static).update(Content(self._descriptions.get(event.option_id or "", "")))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        chosen, settings = event.option_id or "", self.lab.settings
        self._awaited_binding = ""
        self._show_hint(HINT)
        if chosen in CHOICES:
            values = CHOICES[chosen]
            self._change({chosen: values[(values.index(getattr(settings, chosen)) + 1) % len(values)]})
        elif chosen == "repaints_per_second":
            self._change({chosen: next((rate for rate in RATES if rate > settings.repaints_per_second), RATES[0])})
        elif chosen == "quickstart":
            self.app.push_screen(
                AskValue(QUICKSTART, _format_quickstart(settings.quickstart), _quickstart_error), self._set_quickstart
            )
        else:
            self._awaited_binding = chosen.removeprefix("key ")
            self.set_focus(None)  # so that `on_key` gets the key
            self._show_hint(f"Press the new key for {self._awaited_binding}; escape keeps the old one.", "bold $accent")

    def on_key(self, event: Key) -> None:
        """Remap the awaited binding to this key."""
        if not self._awaited_binding:
            return
        event.stop()
        event.prevent_default()
        name, self._awaited_binding = self._awaited_binding, ""
        self.query_one(OptionList).focus()
        self._show_hint(HINT)
        keymap = self.lab.settings.keymap
        if event.key == "escape":
            return
        if taken := conflict(name, event.key, keymap):
            shown = self.app.get_key_display(Binding(event.key, ""))
            self._show_hint(f"{shown} is already {taken}: choose another key, or change that one first.", "$warning")
        else:
            self._change({"keymap": keymap | {name: event.key}})

    def on_click(self, event: Click) -> None:
        if event.widget is self:
            self.action_close()

    def action_close(self) -> None:
        self.dismiss()

    def action_reset(self) -> None:
        """Reset the highlighted setting or key to its default."""
        options, keymap = self.query_one(OptionList), self.lab.settings.keymap
        chosen = "" if options.highlighted is None else options.get_option_at_index(options.highlighted).id or ""
        if chosen.startswith("key "):
            own = chosen.removeprefix("key ")
            self._change({"keymap": {name: keys for name, keys in keymap.items() if name != own}})
        elif chosen:
            self._change({chosen: getattr(Settings(), chosen)}, forget=(chosen,))

    def _set_quickstart(self, text: str | None) -> None:
        if text is not None:
            self._change({"quickstart": _parse_quickstart(text)})

    def _change(self, changes: dict[str, Any], forget: Collection[str] = ()) -> None:
        try:
            self.lab.change_settings(changes, forget)
            self._show_hint(HINT)
        except UserError as error:
            self._show_hint(str(error), "$warning")
        options = self.query_one(OptionList)
        at = options.highlighted
        options.set_options(self._options())
        options.highlighted = at

    def _show_hint(self, text: str, style: str = "$quiet") -> None:
        self.query_one("#hint", Static).update(Content.styled(text, style))


def _line(name: str, value: str, words: str, changed: bool = False) -> Content:
    style = "bold underline" if changed else "bold"
    gap = " " * max(14 - len(value), 1)
    return Content.assemble((f"{name:<23} ", "$quiet"), (value, style), gap, (words, "$quiet"))


def _format_quickstart(quickstart: dict[str, Any]) -> str:
    return shlex.join(f"{name}={escaped(str(value))}" for name, value in quickstart.items())


def _parse_quickstart(text: str) -> dict[str, Any]:
    """Parse the output of `_format_quickstart`.

    Raise `UserError` for an open quotation, an unknown setting or an invalid value.
    """
    from nanogpt.config import resolve

    words = shlex.shlex(text, posix=True)
    words.whitespace_split, words.commenters, words.escape = True, "", ""  # `unescaped` handles the backslashes
    try:
        typed = [word.partition("=") for word in words]
    except ValueError:
        raise UserError("a quotation mark has no second one") from None
    pairs = {name: unescaped(value) for name, _, value in typed}
    known = resolve(preset="quickstart", flags=pairs).config.settings()
    parsed = {name: known[name].parse(value) for name, value in pairs.items()}
    return {name: value if isinstance(value, int | float) else pairs[name] for name, value in parsed.items()}


def _quickstart_error(text: str) -> str:
    try:
        _parse_quickstart(text)
    except UserError as error:
        return str(error)
    return ""
