"""Dataclasses of plain values as lines of JSON, and back.

`encode` and `decode` are each other's inverse, also for NaN and infinity, which are written as strings because JSON has
no numbers for them. The JSON key of a field is its name, or the `key` in its metadata.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from functools import cache
from types import NoneType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints

from nanogpt.errors import UserError

Record = TypeVar("Record")
MOST_BITS = 1000  # of a whole number: a larger one is no float any more


def encode(tag: str, record: Any) -> str:
    """Return a dataclass as one line of JSON, which has the name of its class under the key `tag`."""
    kind: type = type(record)
    plain = {tag: kind.__name__, **dataclasses.asdict(record)}
    for key, (name, _) in _fields(kind).items():
        if key != name:
            plain[key] = plain.pop(name)
    return json.dumps(_without_nonfinite(plain), allow_nan=False, separators=(",", ":"))


def decode(tag: str, line: str | bytes, kinds: Mapping[str, type[Record]], noun: str = "") -> Record:
    """Return the record that `encode` wrote, of one of `kinds`, which are by class name. Ignore unknown fields.

    Raise `UserError` for anything else; its text calls the record `noun`, or `tag` if that is empty.
    """
    noun = noun or tag
    article = "an" if noun[0] in "aeiou" else "a"
    shown = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
    shown = shown.strip("\0\n")
    if not shown:
        raise UserError(f"not {article} {noun}: empty, or only zero bytes")
    try:
        values = json.loads(line)
        kind = values.pop(tag)
        if isinstance(kind, str) and kind not in kinds:
            raise UserError(f"not {article} {noun} that this version knows: {kind[:80]!r}")
        return from_values(kinds[kind], values)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"not {article} {noun}: {shown[:80]!r} ({error})") from error


def from_values(kind: type[Record], values: Mapping[str, Any]) -> Record:
    """Return a dataclass with the plain values that JSON has for it, by key. Ignore unknown keys.

    Raise TypeError or ValueError for values of other types.
    """
    known = _fields(kind)  # type: ignore[arg-type]
    return kind(**{known[key][0]: _convert(value, known[key][1]) for key, value in values.items() if key in known})


@cache
def _fields(kind: type) -> dict[str, tuple[str, Any]]:
    """Return the name and the type of each field of a dataclass, by its key in JSON."""
    hints = get_type_hints(kind)
    return {each.metadata.get("key", each.name): (each.name, hints[each.name]) for each in dataclasses.fields(kind)}


def _without_nonfinite(value: Any) -> Any:
    """Replace non-finite floats by "nan", "inf" and "-inf", also inside lists and tables."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _without_nonfinite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_without_nonfinite(inner) for inner in value]
    return value


def _convert(value: Any, hint: Any) -> Any:
    """Return the value of a field of this type for a plain JSON value."""
    if type(value) is int and value.bit_length() > MOST_BITS:
        raise ValueError("a number of more than 300 digits")
    if NoneType in get_args(hint):
        return None if value is None else _convert(value, next(each for each in get_args(hint) if each is not NoneType))
    if hint is float:
        return float(value)
    if hint in (int, str, bool) and type(value) is not hint:
        raise TypeError(f"{type(value).__name__} where {hint.__name__} is expected")
    if get_origin(hint) is dict:
        return {name: _convert(inner, get_args(hint)[1]) for name, inner in value.items()}
    if get_origin(hint) is tuple:
        return tuple(_convert(inner, get_args(hint)[0]) for inner in value)
    if dataclasses.is_dataclass(hint):
        return from_values(hint, value)  # type: ignore[arg-type]
    return value
