"""Check of the table of a `Precompiled` normalizer of a `tokenizer.json`.

The library does not check it: a damaged one makes it panic, when it is loaded or at some text, and a panic writes on
the terminal. The table has a double-array trie (Darts-clone, https://github.com/s-yata/darts-clone) of UTF-8 texts,
after its size in bytes, and the texts that replace them, each with a zero byte after it.
"""

import base64
from typing import Any

import numpy as np
from numpy.typing import NDArray

BLOCK = 256  # the units of a trie, 4 bytes each, are in whole blocks


def check_charsmap(encoded: object) -> None:
    """Raise ValueError unless the table, in base64, is one that the library can read and use for any text."""
    content = base64.b64decode(encoded, validate=True) if isinstance(encoded, str) else b""
    if not content or base64.b64encode(content).decode() != encoded:
        raise ValueError("it is not in base64")
    size = int.from_bytes(content[:4], "little")
    if not size or size % (4 * BLOCK) or 4 + size > len(content):
        raise ValueError("it is cut off")
    texts = content[4 + size :].decode().encode()  # a UnicodeDecodeError is a ValueError
    starts = _values(np.frombuffer(content, "<u4", size // 4, 4))
    bytes_ = np.frombuffer(texts + b"\0", np.uint8)
    if len(starts) and (starts.max() >= len(bytes_) or (bytes_[starts] & 0xC0 == 0x80).any()):
        raise ValueError("a character's replacement is not in it")


def _values(units: NDArray[np.uint32]) -> NDArray[np.uint32]:
    """Return the values of all texts of a trie. Raise ValueError if a text leads out of it."""
    places = np.arange(len(units), dtype=np.uint32)
    targets = places ^ ((units >> 10) << ((units & 0x200) >> 6))  # where the units after each one are, by their label
    labels = units & 0xFF
    parents = np.where((units >> 31 == 0) & (labels > 0), places ^ labels, len(units))  # their targets
    has_value = (units & 0x100) > 0
    reached = np.zeros(len(units), np.bool_)
    found = targets[:1]
    values: list[NDArray[np.integer[Any]]] = []
    while len(found):
        if (found >= len(units)).any():
            raise ValueError("its trie is damaged")
        nodes = np.flatnonzero(np.isin(parents, found) & ~reached)
        reached[nodes] = True
        found = targets[nodes]
        values.append(found[has_value[nodes]])
    ends = np.concatenate(values)
    if (ends >= len(units)).any():
        raise ValueError("its trie is damaged")
    starts: NDArray[np.uint32] = units[ends] & np.uint32(0x7FFFFFFF)
    return starts
