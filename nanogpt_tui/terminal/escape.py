"""Escape followed at once by a key: terminals without the kitty protocol send the same bytes for Alt and that key.

If the app has a binding for the key with Alt, the bytes mean that binding. Otherwise they mean Escape and then the key,
so that a macro or a slow connection, which delivers both at once, loses neither.
"""

from collections.abc import MutableMapping
from types import SimpleNamespace
from typing import Any, cast

from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual.app import App
from textual.events import Key
from textual.keys import Keys, _character_to_key, key_to_character

ESCAPE = "\x1b"
SEQUENCE_STARTS = "[O"  # the characters after Escape that begin a longer sequence
# as in readline; macOS terminals send these for Option and an arrow
WORD_KEYS = {"alt+b": "ctrl+left", "alt+f": "ctrl+right"}


def extend_parser() -> None:
    """Make Textual's parser read Escape and a character as Alt and a key, Escape and a control character as both.

    Textual's own table maps the digits to characters of a Mac keyboard, and loses one of the two keys for a sequence
    that it does not have.
    """
    table = cast(MutableMapping[str, Any], ANSI_SEQUENCES_KEYS)
    for code in range(32):
        if ESCAPE + chr(code) not in table and chr(code) in table:
            table[ESCAPE + chr(code)] = (Keys.Escape, *table[chr(code)])
    for code in range(32, 127):
        if chr(code) not in SEQUENCE_STARTS:
            key = _character_to_key(chr(code))
            table[ESCAPE + chr(code)] = (SimpleNamespace(value=f"alt+{key}"),)
    table[ESCAPE + "\r"] = (SimpleNamespace(value="alt+enter"),)


def resolve_alt(app: App[Any], event: Key) -> tuple[Key, ...]:
    """Return the keys that an event means: itself, or Escape and the key without Alt.

    It means itself if the screen asks for a new key.
    """
    modifier, _, key = event.key.partition("+")
    if modifier != "alt" or event.key in app.screen.active_bindings or getattr(app.screen, "awaits_a_key", False):
        return (event,)
    is_typing = app.focused is not None and app.focused.check_consume_key("a", "a")
    if is_typing and event.key in WORD_KEYS:
        return (Key(WORD_KEYS[event.key], None),)
    if key.startswith("shift+") and len(key) == len("shift+") + 1:  # a capital letter in the kitty protocol
        key = key[-1].upper()
    return Key("escape", ESCAPE), Key(key, "\r" if key == "enter" else key_to_character(key))
