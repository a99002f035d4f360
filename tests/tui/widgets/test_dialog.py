"""Dialogs have one style."""

import pkgutil
from collections.abc import Iterator
from importlib import import_module

from textual.screen import ModalScreen

import nanogpt_tui
from nanogpt_tui.widgets.dialog import Dialog


def subclasses(cls: type) -> Iterator[type]:
    children: list[type] = cls.__subclasses__()
    for each in children:
        yield each
        yield from subclasses(each)


def test_every_modal_screen_is_a_dialog_and_takes_position_and_colours_from_it() -> None:
    for module in pkgutil.walk_packages(nanogpt_tui.__path__, "nanogpt_tui."):
        if not module.name.endswith("__main__"):
            import_module(module.name)
    modal = {each for each in subclasses(ModalScreen) if each.__module__.startswith("nanogpt_tui.")} - {Dialog}
    assert {"Ask", "AskValue", "Help", "Palette", "Preferences", "Pick"} <= {each.__name__ for each in modal}
    for each in modal:
        assert issubclass(each, Dialog), each
        own = each.__dict__.get("DEFAULT_CSS", "")
        assert "align: center middle" not in own, each
        assert "background: $background" not in own, each
