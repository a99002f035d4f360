"""What the worker threads and the widgets tell the app. Knows nothing of who answers."""

from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from nanogpt_tui.jobs import Bell


class Rung(Message):
    """Something changed in a worker thread; what, is in the buffer that the bell's listener reads."""

    def __init__(self, bell: "Bell") -> None:
        super().__init__()
        self.bell = bell

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, Rung) and message.bell is self.bell
