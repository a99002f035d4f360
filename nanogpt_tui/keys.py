"""The keys that a person can change: which there are, which are taken, how texts name them, what keymap can be used.

Knows nothing of the settings file. A keymap maps the id of a binding ("train.save") to its keys ("w", "w,ctrl+w").
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from functools import cache
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any

from textual.binding import Binding
from textual.keys import KEY_TO_UNICODE_NAME, REPLACED_KEYS, Keys, key_to_character

from nanogpt.errors import SettingError, nearest

if TYPE_CHECKING:
    from textual.app import App

# the first part of a binding's id, and the classes that have such bindings
HOMES = {
    "app": ("app:LabApp",),
    "data": ("screens.data.screen:DataScreen", "screens.data.screen:DatasetList"),
    "new_run": ("screens.new_run.screen:NewRunScreen",),
    "choice": ("widgets.choice:Choice",),
    "train": ("screens.train.screen:TrainScreen",),
    "figures": ("widgets.figures:Figures",),
    "sample": ("screens.sample.screen:SampleScreen",),
    "knob": ("screens.sample.knobs:KnobRow",),
    "prompt": ("screens.sample.prompt:Prompt",),
    "runs": ("screens.runs.screen:RunsScreen", "screens.runs.run_table:RunTable"),
}
ROOMS = {"choice": "new_run", "figures": "train", "knob": "sample", "prompt": "sample"}  # widgets, and where they are
FIXED = {
    "tab": "the next field",
    "shift+tab": "the field before",
    "ctrl+p": "the command palette",
    "ctrl+c": "how to quit",
}
HINT = re.compile(r"\{([a-z_]+\.[a-z_]+)\}")  # in a text: the key of the binding of that id
MODIFIERS = {"alt", "ctrl", "hyper", "meta", "shift", "super"}


@cache
def remappable() -> Mapping[str, Binding]:
    """Every binding with an id, by id; importing all screens."""
    found: dict[str, Binding] = {}
    for home in chain.from_iterable(HOMES.values()):
        found |= _bindings(home)
    return found


def _bindings(home: str) -> dict[str, Binding]:
    module, _, name = home.partition(":")
    bindings = getattr(import_module(f"nanogpt_tui.{module}"), name).BINDINGS
    return {each.id: each for each in bindings if isinstance(each, Binding) and each.id}


@cache
def _of_old(name: str) -> str:
    """The keys of a binding without a keymap, importing no other screens than its own."""
    homes = HOMES[name.partition(".")[0]]
    return next(bindings[name].key for home in homes if name in (bindings := _bindings(home)))


def with_keys(text: str, app: "App[Any]") -> str:
    """`text` with keys for the bindings that it names: "{sample.prompt} edits" becomes "i edits", or whatever key that
    is by now."""
    return HINT.sub(lambda found: shown(found[1], app), text)


def shown(name: str, app: "App[Any]", typing: bool = False) -> str:
    """The first key of a binding that the widget in focus does not take for text, as a text names it; while one is
    `typing` the first that is no character, if any."""
    settings = getattr(app, "settings", None)
    keys = list(_split((settings.keymap.get(name) if settings else None) or _of_old(name)))
    focus = app.focused if app.screen_stack else None
    typed = focus.check_consume_key if focus is not None else lambda key, character: False
    free = [key for key in keys if not typed(key, key_to_character(key))] or keys
    first = next((key for key in keys if typing and "+" in key), free[0])
    return app.get_key_display(Binding(first, "")).replace("⏎", "enter")


def room(name: str) -> str:
    """The screen where the binding called `name` works, or "app" for all of them."""
    prefix = name.partition(".")[0]
    return ROOMS.get(prefix, prefix)


def keys_of(name: str, keymap: Mapping[str, str]) -> list[str]:
    """The keys of a binding, in Textual's long names ("question_mark")."""
    return list(_split(keymap.get(name) or remappable()[name].key))


def complete(keymap: Mapping[str, str]) -> Mapping[str, str]:
    """`keymap` with the keys of all other bindings. Textual needs it where two bindings share a key (enter): to give
    one of them another key takes the shared key from both."""
    return {name: ",".join(keys_of(name, keymap)) for name in remappable()} if keymap else {}


def taken_by(name: str, key: str, keymap: Mapping[str, str]) -> str:
    """What `key` is already where the binding `name` works; empty where it is free, or its own by default."""
    if key in FIXED:
        return FIXED[key]
    if key in keys_of(name, {}):
        return ""
    for other in remappable():
        together = room(other) == room(name) or "app" in (room(other), room(name))
        if other != name and together and key in keys_of(other, keymap):
            return other
    return ""


def check(keymap: Mapping[str, str]) -> None:
    """Raises `SettingError` for an id or a key that is not one, and for a key that is taken."""
    for name, keys in keymap.items():
        if name not in remappable():
            raise SettingError("keymap", f"keymap: no key named {name!r}.{nearest(name, list(remappable()))}")
        for key in keys.split(","):
            if not _is_key(key.strip()):
                raise SettingError(
                    "keymap", f"keymap: {name}={keys}: {key!r} is not a key; write it as w, ctrl+w or f9"
                )
    for name in keymap:
        for key in keys_of(name, keymap):
            if taken := taken_by(name, key, keymap):
                raise SettingError("keymap", f"keymap: {name}={key}: that key is already {taken}; choose another")


def _split(keys: str) -> Iterator[str]:
    for binding in Binding.make_bindings([Binding(keys, "")]):
        yield binding.key


def _is_key(key: str) -> bool:
    *modifiers, last = key.split("+")
    if not MODIFIERS.issuperset(modifiers):
        return False
    if len(last) == 1 or last in {each.value for each in Keys}:
        return True
    last = REPLACED_KEYS.get(last, last)
    try:
        unicodedata.lookup(KEY_TO_UNICODE_NAME.get(last, last.replace("_", " ")))
    except KeyError:
        return False
    return bool(last)
