"""The editor of the prompt. Knows nothing of what is written from it."""

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from nanogpt_tui.keys import with_keys
from nanogpt_tui.text import printable

PLACEHOLDER = "the beginning of a text: {sample.prompt} edits it, {sample.write} writes on from it"
EDITED = "the beginning of a text: {prompt.write} writes on from it, {prompt.new_line} adds a line"


class Prompt(TextArea):
    """Enter leaves it and submits it, alt+enter adds a line, escape leaves it. What is pasted loses its control
    characters."""

    class Submitted(Message):
        """The model is to write on from this prompt."""

    glossary = "autoregressive"
    HELP = (
        "The text that the model continues. {prompt.write} writes from here, {prompt.new_line} adds a line, "
        "{prompt.leave} leaves the editor."
    )
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "leave", id="prompt.leave", tooltip="Leave the editor"),
        Binding("ctrl+underscore,super+z", "undo", show=False),  # ctrl+z suspends
        Binding("enter", "write", "write", id="prompt.write", tooltip="Write from this prompt"),
        Binding("f5,ctrl+j", "write", "write", id="prompt.write_too", tooltip="Write from this prompt", show=False),
        Binding(
            "alt+enter,shift+enter", "new_line", "new line", id="prompt.new_line", tooltip="Add a line to the prompt"
        ),
        Binding("ctrl+k", "delete_to_end_of_line", show=False),  # TextArea's own deletes whole lines too
    ]

    def __init__(self) -> None:
        super().__init__(id="prompt", show_line_numbers=False, highlight_cursor_line=False)

    def on_mount(self) -> None:
        self.name_keys()

    def name_keys(self) -> None:
        """The hint, with the keys as they are now: those of the editor while it has the focus."""
        self.placeholder = with_keys(EDITED if self.has_focus else PLACEHOLDER, self.app)

    def watch_has_focus(self, _has_focus: bool) -> None:
        super().watch_has_focus(_has_focus)
        self.name_keys()

    def action_leave(self) -> None:
        self.screen.set_focus(None)

    def action_write(self) -> None:
        self.screen.set_focus(None)
        self.post_message(self.Submitted())

    def action_new_line(self) -> None:
        self.replace("\n", *self.selection, maintain_selection_offset=False)

    # Textual calls the handlers of TextArea itself after these.

    async def _on_key(self, event: events.Key) -> None:
        if event.key in self._bindings.key_to_bindings:  # enter: no line break
            event.prevent_default()

    async def _on_paste(self, event: events.Paste) -> None:
        event.text = plain(event.text)


def plain(text: str) -> str:
    """The text without characters that steer a terminal, or hide or reorder text."""
    return "".join(each for each in text.replace("\r\n", "\n").replace("\r", "\n") if printable(each) == each)
