"""Remappable keys: the list of bindings, conflicts, keymap validation, and key names in texts.

A keymap maps the id of a binding ("train.save") to its keys ("w", "w,ctrl+w").
"""

import re
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import cache
from importlib import import_module
from itertools import chain
from typing import TYPE_CHECKING, Any

from textual.binding import Binding
from textual.keys import KEY_TO_UNICODE_NAME, REPLACED_KEYS, Keys, key_to_character

from nanogpt.errors import SettingError, UserError, nearest

if TYPE_CHECKING:
    from textual.app import App

# by the first part of a binding's id: the classes with these bindings
BINDING_CLASSES = {
    "app": ("app:LabApp",),
    "data": ("screens.data.screen:DataScreen", "screens.data.screen:DatasetList"),
    "new_run": ("screens.new_run.screen:NewRunScreen",),
    "documents": ("screens.data.documents:DocumentsScreen", "screens.data.documents:DocumentText"),
    "health": ("screens.health.screen:HealthScreen",),
    "look": ("screens.look.screen:LookScreen",),
    "tokenizers": ("screens.tokenizers.screen:TokenizersScreen", "screens.tokenizers.cut_view:CutView"),
    "choice": ("widgets.choice:Choice",),
    "train": ("screens.train.screen:TrainScreen",),
    "figures": ("screens.train.figures:Figures",),
    "sample": ("screens.sample.screen:SampleScreen",),
    "knob": ("screens.sample.knobs:KnobRow",),
    "prompt": ("screens.sample.prompt:Prompt",),
    "learn": ("screens.learn.screen:LearnScreen",),
    "runs": ("screens.runs.screen:RunsScreen", "screens.runs.run_table:RunTable"),
}
WIDGET_SCOPES = {"choice": "new_run", "figures": "train", "knob": "sample", "prompt": "sample"}  # their screens
RESERVED = {
    "tab": "the next field",
    "shift+tab": "the previous field",
    "ctrl+p": "the command palette",
    "ctrl+c": "how to quit",
}
KEY_REFERENCE = re.compile(r"\{([a-z_]+\.[a-z_]+)\}")  # in a text: the id of a binding
MODIFIERS = {"alt", "ctrl", "hyper", "meta", "shift", "super"}


@cache
def remappable() -> Mapping[str, Binding]:
    """Return every binding with an id, by id. Imports all screens."""
    found: dict[str, Binding] = {}
    for home in chain.from_iterable(BINDING_CLASSES.values()):
        found |= _bindings(home)
    return found


def _bindings(home: str) -> dict[str, Binding]:
    module, _, name = home.partition(":")
    bindings = getattr(import_module(f"nanogpt_tui.{module}"), name).BINDINGS
    return {each.id: each for each in bindings if isinstance(each, Binding) and each.id}


@cache
def _default_keys(name: str) -> str:
    """Return the keys of a binding without a keymap. Imports only the binding's own screen."""
    homes = BINDING_CLASSES[name.partition(".")[0]]
    return next(bindings[name].key for home in homes if name in (bindings := _bindings(home)))


def with_keys(text: str, app: "App[Any]") -> str:
    """Replace each binding id in `text` by its present key: "{sample.prompt} edits" becomes "i edits"."""
    return KEY_REFERENCE.sub(lambda found: key_label(found[1], app), text)


def key_label(name: str, app: "App[Any]", typing: bool = False) -> str:
    """Return the name of the first key of a binding that the focused widget does not take as text.

    With `typing`, prefer a key with a modifier.
    """
    settings = getattr(app, "settings", None)
    keys = list(_split((settings.keymap.get(name) if settings else None) or _default_keys(name)))
    focus = app.focused if app.screen_stack else None
    typed = focus.check_consume_key if focus is not None else lambda key, character: False
    free = [key for key in keys if not typed(key, key_to_character(key))] or keys
    first = next((key for key in keys if typing and "+" in key), free[0])
    return app.get_key_display(Binding(first, "")).replace("⏎", "enter")


def scope(name: str) -> str:
    """Return the screen on which the binding `name` works, or "app" for all screens."""
    prefix = name.partition(".")[0]
    return WIDGET_SCOPES.get(prefix, prefix)


def keys_of(name: str, keymap: Mapping[str, str]) -> list[str]:
    """Return the keys of a binding in Textual's long names ("question_mark")."""
    return list(_split(keymap.get(name) or remappable()[name].key))


def complete_keymap(keymap: Mapping[str, str]) -> Mapping[str, str]:
    """Return `keymap` with the default keys of all other bindings.

    Textual needs it if two bindings share a key (enter): else remapping one of them would remove the key from both.
    """
    return {name: ",".join(keys_of(name, keymap)) for name in remappable()} if keymap else {}


def conflict(name: str, key: str, keymap: Mapping[str, str]) -> str:
    """Return what `key` does in the scope of the binding `name`, or "" if it is free or the binding's own default."""
    if key in RESERVED:
        return RESERVED[key]
    if key in keys_of(name, {}):
        return ""
    for other in remappable():
        overlap = scope(other) == scope(name) or "app" in (scope(other), scope(name))
        if other != name and overlap and key in keys_of(other, keymap):
            return other
    return ""


def check_keymap(keymap: Mapping[str, str]) -> None:
    """Raise `SettingError` for an unknown binding id, an invalid key, or a key that is already used."""
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
            if taken := conflict(name, key, keymap):
                raise SettingError("keymap", f"keymap: {name}={key}: that key is already {taken}; choose another")


def merged_keymap(stored: Mapping[str, str], before: Mapping[str, str], after: Mapping[str, str]) -> dict[str, str]:
    """Return the keymap `stored` with what changed from `before` to `after`.

    Raise `UserError` if the result has a key for two bindings.
    """
    changed = {name for name, _ in before.items() ^ after.items()}
    merged = {name: keys for name, keys in stored.items() if name not in changed}
    merged |= {name: keys for name, keys in after.items() if name in changed}
    try:
        check_keymap(merged)
    except SettingError as error:
        raise UserError(f"keys not saved: {error}") from None
    return merged


def _split(keys: str) -> Iterator[str]:
    for binding in Binding.make_bindings([Binding(keys, "")]):
        yield binding.key


def _is_key(key: str) -> bool:
    *modifiers, last = key.split("+")
    if not MODIFIERS.issuperset(modifiers):
        return False
    if last != last.lower() and ("ctrl" in modifiers or len(last) > 1):  # Textual names keys in lower case
        return False
    if len(last) == 1 or last in {each.value for each in Keys}:
        return True
    last = REPLACED_KEYS.get(last, last)
    words = KEY_TO_UNICODE_NAME.get(last, last.replace("_", " "))
    for name in (words, words.replace(" ", "-", 1)):  # Textual writes "LEFT-POINTING …" without the hyphen
        with suppress(KeyError):
            return bool(unicodedata.lookup(name))
    return False
