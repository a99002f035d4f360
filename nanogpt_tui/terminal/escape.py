"""Escape and a key that arrive together, which terminals without the kitty protocol also send for Alt and that key.

Where the app has a use for the key with Alt, it is that. Everywhere else it is Escape and then the key, so that a macro
or a slow line, which brings both at once, loses neither.
"""

from collections.abc import MutableMapping
from types import SimpleNamespace
from typing import Any, cast

from textual._ansi_sequences import ANSI_SEQUENCES_KEYS
from textual.app import App
from textual.events import Key
from textual.keys import Keys, _character_to_key, key_to_character

ESCAPE = "\x1b"
SEQUENCES = "[O"  # what they begin with, after Escape
# as in readline, and what terminals of macOS send for Option and an arrow
WORDS = {"alt+b": "ctrl+left", "alt+f": "ctrl+right"}


def teach_parser() -> None:
    """Has Textual's parser read Escape and a character as the key with Alt, Escape and a control character as both.

    Its own table has signs of a Mac's keyboard for the digits, and where it has nothing, one of the two is lost.
    """
    table = cast(MutableMapping[str, Any], ANSI_SEQUENCES_KEYS)
    for code in range(32):
        if ESCAPE + chr(code) not in table and chr(code) in table:
            table[ESCAPE + chr(code)] = (Keys.Escape, *table[chr(code)])
    for code in range(32, 127):
        if chr(code) not in SEQUENCES:
            key = _character_to_key(chr(code))
            table[ESCAPE + chr(code)] = (SimpleNamespace(value=f"alt+{key}"),)
    table[ESCAPE + "\r"] = (SimpleNamespace(value="alt+enter"),)


def resolved(app: App[Any], event: Key) -> tuple[Key, ...]:
    """The keys that an event stands for: itself, or Escape and the key without Alt."""
    modifier, _, key = event.key.partition("+")
    if modifier != "alt" or event.key in app.screen.active_bindings:
        return (event,)
    typed = app.focused is not None and app.focused.check_consume_key("a", "a")
    if typed and event.key in WORDS:
        return (Key(WORDS[event.key], None),)
    if key.startswith("shift+") and len(key) == len("shift+") + 1:  # as the kitty protocol has a capital letter
        key = key[-1].upper()
    return Key("escape", ESCAPE), Key(key, "\r" if key == "enter" else key_to_character(key))
