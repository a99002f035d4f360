"""The screens, one folder each, loaded when first shown. To add one: a line here and a folder beside this file."""

from collections.abc import Callable
from importlib import import_module
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nanogpt_tui.screens.base import LabScreen

# mode: (key, title); the class is nanogpt_tui.screens.<mode>.screen.<Mode>Screen
MODES = {"data": ("1", "Data"), "train": ("2", "Train"), "sample": ("3", "Sample"), "runs": ("4", "Runs")}
QUICK_START = "Train a small model for a minute, as a new run"  # a key of Train, a command on every screen


def make(mode: str) -> "Callable[[], LabScreen]":
    """Makes the screen of a mode, importing it only then."""

    return lambda: screen_class(mode)()


def screen_class(mode: str) -> "type[LabScreen]":
    home = import_module(f"nanogpt_tui.screens.{mode}.screen")
    found: type[LabScreen] = getattr(home, f"{mode.capitalize()}Screen")
    return found
