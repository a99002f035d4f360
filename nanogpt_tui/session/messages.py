"""What the worker threads and the widgets tell the app. Knows nothing of who answers."""

from typing import TYPE_CHECKING

from textual.message import Message

if TYPE_CHECKING:
    from nanogpt_tui.session.workers import Throttle


class ThrottledUpdate(Message):
    """Something changed in a worker thread; what, is in the buffer that the bell's listener reads."""

    def __init__(self, throttle: "Throttle") -> None:
        super().__init__()
        self.throttle = throttle

    def can_replace(self, message: Message) -> bool:
        return isinstance(message, ThrottledUpdate) and message.throttle is self.throttle
