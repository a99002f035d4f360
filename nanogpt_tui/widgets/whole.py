"""Whether a screen can show something: whether all its widgets exist, and whether it is on top."""

from typing import Any

from textual.screen import Screen


def is_whole(screen: Screen[Any]) -> bool:
    """Return whether all widgets of the screen exist.

    They do not before it is composed, nor while it is removed: then they go before it does, `is_mounted` is still true,
    and a worker may still call back.
    """
    return screen.is_mounted and screen.is_attached and screen.display


def is_on_top(screen: Screen[Any]) -> bool:
    """Return whether no other screen is above this one; False while the app ends, when it has no screens."""
    return bool(screen.app.screen_stack) and screen.app.screen is screen
