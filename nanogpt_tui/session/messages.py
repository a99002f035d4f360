"""Messages that worker threads post to the app."""

from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from nanogpt_tui.session.workers import Throttle


class ThrottledUpdate(Message):
    """A worker thread has new items. They are in the buffer that the throttle's listener reads."""

    def __init__(self, throttle: "Throttle") -> None:
        super().__init__()
        self.throttle = throttle

    def can_replace(self, message: Message) -> bool:
        """Return True for an update of the same throttle: one of them is enough."""
        return isinstance(message, ThrottledUpdate) and message.throttle is self.throttle
