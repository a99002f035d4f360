"""The keys that can be changed: all there are, unlike each other, in the palette, and refused where they clash."""

import inspect
import re
from importlib import import_module
from pkgutil import walk_packages
from typing import Any

import pytest
from textual.binding import Binding
from textual.dom import DOMNode

import nanogpt_tui
from nanogpt.errors import SettingError
from nanogpt_tui import keys, main, settings
from nanogpt_tui.palette_commands import screen_commands


def bound() -> list[tuple[str, Binding]]:
    """The bindings of every class of the app."""
    found = []
    for each in walk_packages(nanogpt_tui.__path__, "nanogpt_tui."):
        if each.name == "nanogpt_tui.__main__":
            continue
        module = import_module(each.name)
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


@pytest.mark.parametrize("mode", ["data", "train", "sample", "runs", "learn"])
async def test_the_palette_lists_what_works_now(lab: Any, two_runs: Any, mode: str) -> None:
    async with lab() as at:
        at.app.switch_mode(mode)
        await at.until(lambda: sum(each.enabled for each in at.app.screen.active_bindings.values()) > 12)
        works = {
            each.binding.id: each.binding
            for each in at.app.screen.active_bindings.values()
            if each.enabled and each.binding.id and not each.binding.action.startswith("switch_mode")
        }
        listed = [command.title for command in screen_commands(at.app, at.app.screen)]
        assert len(works) > 5
        for binding in works.values():
            titles = {title.lower() for title in listed}
            assert titles & {binding.description.lower(), binding.tooltip.lower()}
        assert len(set(listed)) == len(listed)  # two things are never called alike
        assert {"Data", "Train", "Sample", "Runs", "Learn", "Settings", "Help", "Quit"} <= set(listed)


@pytest.mark.parametrize(
    ("keymap", "reason"),
    [
        ({"train.sav": "w"}, "no key named 'train.sav'. Did you mean train.save?"),
        ({"train.save": "ctlr+w"}, "'ctlr+w' is not a key"),
        ({"train.save": "Space"}, "'Space' is not a key"),
        ({"train.save": "ctrl+W"}, "'ctrl+W' is not a key"),
        ({"train.save": ""}, "'' is not a key"),
        ({"train.save": "x"}, "train.save=x: that key is already train.stop"),
        ({"train.save": "?"}, "that key is already app.help"),
        ({"app.quit": "x"}, "is already train.stop"),
        ({"runs.note": "ctrl+p"}, "is already the command palette"),
    ],
)
def test_a_keymap_that_cannot_be_used_is_refused_in_one_line(
    keymap: dict[str, str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SettingError, match=re.escape(reason)):
        keys.check_keymap(keymap)
    settings.save(settings.Settings(keymap=keymap))
    written = settings.path().read_bytes()
    assert main([]) == 2
    said = capsys.readouterr().err
    assert reason in said
    assert said.count("\n") == 1
    assert settings.path().read_bytes() == written


def test_a_key_with_a_hyphen_in_its_name_is_one() -> None:
    keys.check_keymap({"train.save": "left_pointing_double_angle_quotation_mark"})  # « on a French keyboard


def test_two_keys_can_change_places() -> None:
    keys.check_keymap({"train.save": "x", "train.stop": "s"})


def test_screens_apart_may_use_the_same_key() -> None:
    keys.check_keymap({"train.save": "w", "runs.note": "w"})


async def test_a_key_shared_by_two_stays_with_the_other(lab: Any) -> None:
    """Enter writes, and branches where there is a cursor over the tokens: moved, it still writes."""
    async with lab() as at:
        at.app.change_settings({"keymap": {"sample.branch": "ctrl+k"}})
        at.app.switch_mode("sample")
        await at.until(lambda: at.app.screen.active_bindings["enter"].binding.id == "sample.write")


# a verb, the binding of each screen that does it, and its key
SAME_EVERYWHERE = {
    "pause": ({"train.pause", "data.pause", "learn.pause"}, "space"),
    "new run": ({"train.new_run", "data.new_run"}, "n"),
    "resume": ({"train.resume", "runs.resume"}, "r"),
    "delete": ({"data.delete", "runs.delete"}, "d"),
    "rename": ({"runs.rename"}, "R"),
    "edit": ({"sample.prompt", "look.prompt", "runs.note", "learn.type"}, "i"),
    "export": ({"sample.export", "runs.export"}, "e"),
    "filter": ({"runs.filter"}, "slash"),
    "copy": ({"data.copy", "train.copy", "sample.copy", "runs.copy"}, "y"),
    "log-y": ({"train.log_y", "runs.log_y"}, "l"),
    "x axis": ({"train.x_axis", "runs.x_axis"}, "a"),
    "loss unit": ({"train.loss_unit", "runs.loss_unit"}, "L"),
    "smoothing": ({"train.smoothing", "runs.smoothing"}, "z"),
    "down": ({"data.down", "runs.down"}, "j"),
    "up": ({"data.up", "runs.up"}, "k"),
    "first": ({"data.first", "runs.first"}, "g"),
    "last": ({"data.last", "runs.last"}, "G"),
}


@pytest.mark.parametrize("verb", SAME_EVERYWHERE)
def test_the_same_key_does_the_same_on_every_screen(verb: str) -> None:
    names, key = SAME_EVERYWHERE[verb]
    assert {name for name in names if key not in keys.keys_of(name, {})} == set()
    said = keys.remappable()[next(iter(names))].action
    same = {name for name, binding in keys.remappable().items() if binding.action == said}
    assert same <= names, "a screen has the action under another key"


def test_a_verb_has_its_key_to_itself() -> None:
    """No other screen does something else with it; the knobs of Sample have letters of their own."""
    claimed = {key: names for names, key in SAME_EVERYWHERE.values() if key in "derRiyn" or key == "slash"}
    for name, binding in keys.remappable().items():
        if binding.action.startswith("turn("):
            continue
        for key in keys.keys_of(name, {}):
            assert name in claimed.get(key, {name}), f"{key} is {name} too"


def test_an_old_key_can_be_had_back() -> None:
    keys.check_keymap({"runs.delete": "x", "runs.note": "n", "runs.rename": "e", "runs.export": "c"})
