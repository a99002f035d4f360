"""The keys that can be changed: all there are, unlike each other, in the palette, and refused where they clash."""

import inspect
import re
from importlib import import_module
from pkgutil import iter_modules
from typing import Any

import pytest
from textual.binding import Binding
from textual.dom import DOMNode

from nanogpt.errors import SettingError
from nanogpt_tui import keys, main, settings


def bound() -> list[tuple[str, Binding]]:
    """The bindings of every class of the app."""
    found = []
    for room in ("", ".screens", ".widgets"):
        home = import_module(f"nanogpt_tui{room}")
        for each in iter_modules(home.__path__):
            if each.ispkg or each.name == "__main__":
                continue
            module = import_module(f"{home.__name__}.{each.name}")
            for _, cls in inspect.getmembers(module, inspect.isclass):
                if cls.__module__ == module.__name__ and issubclass(cls, DOMNode):
                    found += [(cls.__name__, binding) for binding in vars(cls).get("BINDINGS", ())]
    return found


def test_every_key_that_has_an_id_can_be_changed() -> None:
    ids = {binding.id for _, binding in bound() if binding.id}
    chart = {name for name in ids if name.startswith("chart.")}  # the app's charts leave their keys to the screens
    assert ids - chart == set(keys.remappable())


def test_every_key_of_a_screen_has_an_id() -> None:
    assert [(cls, each.key) for cls, each in bound() if cls.endswith("Screen") and not each.id] == []


@pytest.mark.parametrize("mode", ["data", "train", "sample", "runs"])
async def test_the_palette_lists_what_works_now(lab: Any, two_runs: Any, mode: str) -> None:
    async with lab() as at:
        at.app.switch_mode(mode)
        await at.until(lambda: sum(each.enabled for each in at.app.screen.active_bindings.values()) > 12)
        works = {
            each.binding.id: each.binding
            for each in at.app.screen.active_bindings.values()
            if each.enabled and each.binding.id and not each.binding.action.startswith("switch_mode")
        }
        listed = [command.title for command in at.app.get_system_commands(at.app.screen)]
        assert len(works) > 5
        for binding in works.values():
            titles = {title.lower() for title in listed}
            assert titles & {binding.description.lower(), binding.tooltip.lower()}
        assert len(set(listed)) == len(listed)  # two things are never called alike
        assert {"Data", "Train", "Sample", "Runs", "Settings", "Help", "Quit"} <= set(listed)


@pytest.mark.parametrize(
    ("keymap", "reason"),
    [
        ({"train.sav": "w"}, "there is no binding 'train.sav'. Did you mean train.save?"),
        ({"train.save": "ctlr+w"}, "'ctlr+w' is not a key"),
        ({"train.save": ""}, "'' is not a key"),
        ({"train.save": "x"}, "train.save=x: that key is train.stop already"),
        ({"train.save": "?"}, "that key is app.help already"),
        ({"app.quit": "x"}, "is train.stop already"),
        ({"runs.note": "ctrl+p"}, "is the command palette already"),
    ],
)
def test_a_keymap_that_cannot_be_used_is_refused_in_one_line(
    keymap: dict[str, str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SettingError, match=re.escape(reason)):
        keys.check(keymap)
    settings.save(settings.Settings(keymap=keymap))
    written = settings.path().read_bytes()
    assert main([]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1
    assert settings.path().read_bytes() == written


def test_two_keys_can_change_places() -> None:
    keys.check({"train.save": "x", "train.stop": "s"})


def test_screens_apart_may_use_the_same_key() -> None:
    keys.check({"train.save": "w", "runs.note": "w"})


async def test_a_key_shared_by_two_stays_with_the_other(lab: Any) -> None:
    """Enter writes, and branches where there is a cursor over the tokens: moved, it still writes."""
    async with lab() as at:
        at.app.change({"keymap": {"sample.branch": "ctrl+k"}})
        at.app.switch_mode("sample")
        await at.until(lambda: at.app.screen.active_bindings["enter"].binding.id == "sample.write")
