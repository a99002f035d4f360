"""Checks of TOML tables: every key known, every value of its type, no required key missing."""

from collections.abc import Collection, Mapping
from types import UnionType
from typing import Any, get_args

from nanogpt.errors import UserError, nearest

_TYPE_NAMES = {
    str: "a text",
    int: "a whole number",
    float: "a number",
    bool: "true or false",
    list: "a list",
    dict: "a table",
}


def check_table(
    table: Mapping[str, Any], types: Mapping[str, type], where: str, required: Collection[str] = ()
) -> dict[str, Any]:
    """Return a copy of the table. A whole number is accepted where a float is expected.

    Raise `UserError`, which begins with `where`, for an unknown key, a value of another type and a missing key.
    """
    for key, value in table.items():
        if key not in types:
            raise UserError(f"{where}: unknown key {key!r}; known keys: {', '.join(types)}.{nearest(key, list(types))}")
        expected = types[key]
        fits = type(value) in (int, float) if expected is float else type(value) is expected
        if not fits:
            raise UserError(f"{where}: {key} = {value!r} must be {_TYPE_NAMES[expected]}")
    for key in required:
        if key not in table:
            raise UserError(f"{where}: {key!r} is missing")
    return dict(table)


def without_none(hint: Any) -> Any:
    """Return the type of a field that is of this type or None."""
    return get_args(hint)[0] if isinstance(hint, UnionType) else hint
