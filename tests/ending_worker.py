"""A worker that ends at the worst moment for the screen that reads it."""

from typing import Any


class EndingWorker:
    """Yields `last` and ends just after its items were read for the first time."""

    cancelled = paused = False
    error: str | None = None
    setting = ""

    def __init__(self, last: Any) -> None:
        self._last, self.done = last, False

    def drain(self) -> list[Any]:
        """Return the items since the previous call: none, then the last one."""
        items = [self._last] if self.done else []
        self.done = True
        return items
