"""The app's own settings and keys, changed where they are listed, and written to the settings file at once.

Knows nothing of what obeys them: `LabApp.obey` puts new settings into force.
"""

from collections.abc import Iterator
from typing import TYPE_CHECKING, ClassVar, cast

from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.events import Key
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from nanogpt.errors import UserError
from nanogpt_tui import screens
from nanogpt_tui.settings import CHOICES, path, save, with_changes

if TYPE_CHECKING:
    from nanogpt_tui.app import LabApp
    from nanogpt_tui.screens.base import LabScreen

RATES = (0.5, 1.0, 2.0, 4.0)
HINT = "enter changes · escape closes · written to {path}"


class Preferences(ModalScreen[None]):
    DEFAULT_CSS = """
    Preferences { align: center middle; background: $background 60%; }
    Preferences > Vertical { width: 76; max-width: 95%; height: 90%; padding: 1 2; background: $panel; }
    Preferences OptionList { height: 1fr; border: none; background: $panel; padding: 0; text-wrap: nowrap; }
    Preferences OptionList { text-overflow: ellipsis; }
    Preferences OptionList:focus { border: none; background: $panel; background-tint: transparent 0%; }
    Preferences Static { height: auto; margin-bottom: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape", "close", "close")]

    def __init__(self) -> None:
        super().__init__()
        self._asking = ""  # the binding whose next key is awaited

    @property
    def lab(self) -> "LabApp":
        return cast("LabApp", self.app)

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(Content.styled(HINT.format(path=path()), "$quiet"), id="hint")
            yield OptionList(*self._options())

    def _options(self) -> Iterator[Option]:
        settings = self.lab.settings
        for name in CHOICES:
            yield Option(_line(name, getattr(settings, name), " · ".join(CHOICES[name])), id=name)
        rate = f"{settings.repaints_per_second:g}"
        yield Option(_line("repaints a second", rate, "of the Train screen; fewer over a slow line"), id="rate")
        for name, binding in remappable().items():
            keys = " ".join(map(self._shown, settings.keymap.get(name, binding.key).split(",")))
            yield Option(_line(name, keys, binding.tooltip or binding.description), id=f"key {name}")

    def _shown(self, key: str) -> str:
        return self.app.get_key_display(Binding(key, ""))

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        chosen, settings = event.option_id or "", self.lab.settings
        if chosen in CHOICES:
            values = CHOICES[chosen]
            self._change({chosen: values[(values.index(getattr(settings, chosen)) + 1) % len(values)]})
        elif chosen == "rate":
            self._change(
                {"repaints_per_second": next((r for r in RATES if r > settings.repaints_per_second), RATES[0])}
            )
        else:
            self._asking = chosen.removeprefix("key ")
            self.set_focus(None)  # so that the key comes here
            self._say(f"press the new key for {self._asking} (escape keeps the old one)")

    def on_key(self, event: Key) -> None:
        """The key that was asked for, before anything else takes it."""
        if not self._asking:
            return
        event.stop()
        event.prevent_default()
        name, self._asking = self._asking, ""
        self.query_one(OptionList).focus()
        if event.key == "escape":
            self._say(HINT.format(path=path()))
            return
        taken = taken_by(name, event.key, self.lab.settings.keymap)
        if taken:
            self._say(f"{event.key} is {taken} already: choose another key, or change that one first")
        else:
            self._change({"keymap": self.lab.settings.keymap | {name: event.key}})

    def action_close(self) -> None:
        self.dismiss()

    def _change(self, changes: dict[str, object]) -> None:
        settings = with_changes(self.lab.settings, changes)
        self.lab.obey(settings)
        try:
            save(settings)
            self._say(HINT.format(path=path()))
        except UserError as error:
            self._say(str(error))
        options = self.query_one(OptionList)
        at = options.highlighted
        options.set_options(self._options())
        options.highlighted = at

    def _say(self, text: str) -> None:
        self.query_one("#hint", Static).update(Content.styled(text, "$quiet"))


def remappable() -> dict[str, Binding]:
    """Every binding of the app and its modes that has an id, by id."""
    from nanogpt_tui.app import LabApp

    homes: list[type[App[int]] | type[LabScreen]] = [LabApp, *map(screens.screen_class, screens.MODES)]
    bindings = [each for home in homes for each in home.BINDINGS if isinstance(each, Binding)]
    return {each.id: each for each in bindings if each.id}


def taken_by(name: str, key: str, keymap: dict[str, str]) -> str:
    """The other binding of the same screen, or of the app, that `key` belongs to; empty where it is free."""
    rooms = {name.partition(".")[0], "app"}
    for other, binding in remappable().items():
        keys = keymap.get(other, binding.key).split(",")
        if other != name and (other.partition(".")[0] in rooms or name.partition(".")[0] == "app") and key in keys:
            return other
    return ""


def _line(name: str, value: str, words: str) -> Content:
    return Content.assemble(f"{name:<22} ", (f"{value:<14} ", "bold"), words)
