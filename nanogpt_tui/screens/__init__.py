"""The screens, one folder each, imported when they are first shown. To add one: a folder here and a line in MODES."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nanogpt_tui.screens.base import LabScreen

# mode: (key, title); the class is nanogpt_tui.screens.<mode>.screen.<Mode>Screen
MODES = {
    "data": ("1", "Data"),
    "train": ("2", "Train"),
    "sample": ("3", "Sample"),
    "runs": ("4", "Runs"),
    "learn": ("5", "Learn"),
}
QUICK_START = "Train a small model for a minute, as a new run"  # a key of Train, a command on every screen


def make(mode: str) -> "Callable[[], LabScreen]":
    """Return a function that imports and makes the screen of a mode."""
    return lambda: screen_class(mode)()


def screen_class(mode: str) -> "type[LabScreen]":
    """Import the screen of a mode and return its class."""
    module = import_module(f"nanogpt_tui.screens.{mode}.screen")
    screen: type[LabScreen] = getattr(module, f"{mode.capitalize()}Screen")
    return screen
