"""The editor of the prompt."""

from typing import ClassVar

from textual import events
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.widgets import TextArea

from nanogpt_tui.keys import with_keys
from nanogpt_tui.text import printable

PLACEHOLDER = "the beginning of a text: {sample.prompt} edits it, {sample.write} continues it"
PLACEHOLDER_IN_FOCUS = "the beginning of a text: {prompt.write} continues it, {prompt.new_line} adds a line"


class Prompt(TextArea):
    """Enter submits the prompt and leaves the editor, alt+enter adds a line, escape leaves.

    Control characters in pasted text are removed.
    """

    class Submitted(Message):
        """The user wants the model to continue the prompt."""

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
        self.update_placeholder()

    def update_placeholder(self) -> None:
        """Show the present keys in the placeholder: those of the editor while it has the focus."""
        self.placeholder = with_keys(PLACEHOLDER_IN_FOCUS if self.has_focus else PLACEHOLDER, self.app)

    def watch_has_focus(self, _has_focus: bool) -> None:
        super().watch_has_focus(_has_focus)
        self.update_placeholder()

    def replace_text(self, text: str) -> None:
        """Replace the whole prompt; undo brings the old one back."""
        if text != self.text:
            self.replace(text, (0, 0), self.document.end, maintain_selection_offset=False)

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
        event.text = without_control_characters(event.text)


def without_control_characters(text: str) -> str:
    """Return `text` without characters that control a terminal, or hide or reorder text."""
    return "".join(
        character for character in text.replace("\r\n", "\n").replace("\r", "\n") if printable(character) == character
    )
