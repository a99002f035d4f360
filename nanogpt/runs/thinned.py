"""Some of the items of a long series, such as the measurements of layers: one of a small model takes 13 kB."""

from collections.abc import Callable
from typing import Generic, TypeVar

MAX_ITEMS = 1000

Item = TypeVar("Item")


class Thinned(Generic[Item]):
    """Every n-th item and the newest, in `items`; n doubles when these would be more than MAX_ITEMS + 1."""

    def __init__(self) -> None:
        self.items: list[Item] = []
        self._interval = 1
        self._skipped = 0  # since the last n-th one

    def add(self, item: Item) -> None:
        """Add the next item of the series."""
        if not self.items:
            self.items.append(item)
            return
        if self._skipped:
            self.items[-1] = item
        else:
            self.items.append(item)
        self._skipped = (self._skipped + 1) % self._interval
        count = len(self.items)
        if not self._skipped and count > MAX_ITEMS and count % 2:
            self.items = self.items[::2]
            self._interval *= 2

    def keep(self, is_kept: Callable[[Item], bool]) -> None:
        """Remove the other items."""
        self.items = [item for item in self.items if is_kept(item)]
        self._skipped = 0
