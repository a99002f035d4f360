"""The editor of the prompt. Knows nothing of what is written from it."""

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.widgets import TextArea

from nanogpt_tui.keys import spelled
from nanogpt_tui.text import printable

PLACEHOLDER = "the beginning of a text: {sample.prompt} edits it, {sample.write} starts"
EDITED = "the beginning of a text: {prompt.write} starts, {prompt.leave} leaves the editor"


class Prompt(TextArea):
    """Escape leaves it, f5 or ctrl+j leaves it and asks the screen to write. What is pasted loses its control
    characters."""

    glossary = "autoregressive"
    HELP = "The text that the model goes on with. {prompt.write} starts from here, {prompt.leave} leaves the editor."
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave", id="prompt.leave", tooltip="Leave the editor"),
        Binding("ctrl+underscore,super+z", "undo", show=False),  # ctrl+z suspends
        Binding("f5,ctrl+j", "write", "write", id="prompt.write", tooltip="Write from this prompt"),
    ]

    def __init__(self) -> None:
        super().__init__(id="prompt", show_line_numbers=False, highlight_cursor_line=False)

    def on_mount(self) -> None:
        self.name_keys()

    def name_keys(self) -> None:
        """The hint, with the keys as they are now: those of the editor while it has the focus."""
        self.placeholder = spelled(EDITED if self.has_focus else PLACEHOLDER, self.app)

    def watch_has_focus(self, _has_focus: bool) -> None:
        super().watch_has_focus(_has_focus)
        self.name_keys()

    def action_leave(self) -> None:
        self.screen.set_focus(None)

    async def action_write(self) -> None:
        self.screen.set_focus(None)
        await self.screen.run_action("write")

    async def _on_paste(self, event: events.Paste) -> None:
        event.text = plain(event.text)
        await super()._on_paste(event)


def plain(text: str) -> str:
    """The text without characters that steer a terminal, or hide or reorder text."""
    return "".join(each for each in text.replace("\r\n", "\n").replace("\r", "\n") if printable(each) == each)
