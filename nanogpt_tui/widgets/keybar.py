"""The last line of every screen: the keys that have an effect now, as many as fit. A click on one runs its action."""

from textual.content import Content
from textual.events import Click
from textual.screen import Screen
from textual.style import Style
from textual.widget import Widget

from nanogpt_tui.keys import key_label
from nanogpt_tui.widgets.whole import is_on_top


class KeyBar(Widget):
    """Shows the active bindings with `show=True`, one key per action, and the key of the help at the right, with an
    ellipsis before it if not all keys fit. Empty below a dialog, which shows its own keys."""

    DEFAULT_CSS = """
    KeyBar { dock: bottom; height: 1; background: $surface; }
    """

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._changed)

    def _changed(self, screen: "Screen[object]") -> None:
        if screen is self.screen:
            self.refresh()

    async def on_click(self, event: Click) -> None:
        action = event.style.meta.get("press")
        if action is not None:
            active = self.screen.active_bindings.values()
            node = next((each.node for each in active if each.binding.action == action), self.screen)
            await self.app.run_action(action, node)

    def render(self) -> Content:
        if not is_on_top(self.screen):
            return Content()
        shown: dict[str, dict[str, str]] = {}  # by description, the first key of each action
        for active in self.screen.active_bindings.values():
            if active.binding.show and active.enabled:
                keys = shown.setdefault(active.binding.description, {})
                keys.setdefault(active.binding.action, self.app.get_key_display(active.binding))
        helps = self.app.check_action("help", ())
        more = _item(key_label("app.help", self.app), "help", "app.help") if helps else Content()
        traffic = getattr(self.app, "traffic", None)  # bytes per second, if the setting `traffic` is on
        if traffic is not None:
            more = Content.assemble((f"{traffic / 1e3:7.2f} kB/s  ", "$quiet"), more)
        items = [_item(" ".join(keys.values()), words, next(iter(keys))) for words, keys in shown.items()]
        room = self.size.width - more.cell_length - 2
        used = sum(item.cell_length for item in items)
        if used > room:
            more = Content.assemble(("… ", "$quiet"), more)
            room -= 1  # the last key has only one space after it then
            while items and used > room:
                used -= items.pop().cell_length
            return Content.assemble(Content.assemble(" ", *items)[:-1], " " * (room - used), more)
        return Content.assemble(" ", *items, " " * (room - used), more)


def _item(keys: str, description: str, action: str) -> Content:
    click = Style.from_meta({"press": action})
    return Content.assemble((keys, "bold $accent"), (f" {description}  ", "$quiet")).stylize(click)
