"""Whether a worker's result can be shown: whether all widgets of a screen exist."""

from typing import Any

from textual.screen import Screen


def is_whole(screen: Screen[Any]) -> bool:
    """Return whether all widgets of the screen exist.

    They do not before it is composed, nor while it is removed: then they go before it does, `is_mounted` is still true,
    and a worker may still call back.
    """
    return screen.is_mounted and screen.is_attached and screen.display
