"""Where texts come from: one module for each kind of source, found by `nanogpt.registry`.

Each module has a class `Source`, a subclass of the one in `base.py`. Installed packages add kinds through entry points
of the group `nanogpt.sources`. A recipe chooses one by the key `kind` of its table `[source]`.
"""

from collections.abc import Mapping
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Any, get_args, get_origin, get_type_hints

from nanogpt.data.sources.base import Source
from nanogpt.data.toml_tables import check_table, without_none
from nanogpt.errors import UserError, nearest
from nanogpt.paths import expanded
from nanogpt.registry import Registry

__all__ = ["OWN_TEXT", "Source", "create", "from_table", "names", "source_class"]

REGISTRY = Registry("source", "nanogpt.data.sources", "nanogpt.sources", "Source", frozenset({"base"}))
OWN_TEXT = "files"  # the kind of a text that a person names on the command line or in the app; its key is `paths`


def names() -> tuple[str, ...]:
    """Return every kind of source, sorted. Import none of them."""
    return REGISTRY.names()


def source_class(name: str) -> type[Source]:
    """Return the class of a kind of source. Raise `UserError` for an unknown name."""
    if name not in names():
        raise UserError(f"no source {name!r}; known sources: {', '.join(names())}.{nearest(name, names())}")
    loaded: type[Source] = REGISTRY.load(name, Source)
    return loaded


def create(name: str, **values: Any) -> Source:
    """Return a source of the named kind with these fields. Raise `UserError` for an unknown kind or unusable values."""
    return source_class(name)(**values)


def from_table(table: Mapping[str, Any], where: str, folder: Path) -> Source:
    """Return the source that a recipe's table `[source]` describes.

    folder: the recipe's own, which relative paths are resolved in. Raise `UserError`, which begins with `where`.
    """
    name, values = table.get("kind"), {key: value for key, value in table.items() if key != "kind"}
    if not isinstance(name, str):
        stated = "'kind' is missing" if name is None else f"kind = {name!r} must be a text"
        raise UserError(f"{where}: {stated}; known sources: {', '.join(names())}")
    try:
        source = source_class(name)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    annotations = get_type_hints(source)
    hints = {field.name: without_none(annotations[field.name]) for field in fields(source)}
    required = [field.name for field in fields(source) if field.default is field.default_factory is MISSING]
    values = check_table(values, {key: _toml_type(hint) for key, hint in hints.items()}, where, required)
    for key, value in values.items():
        if isinstance(value, list):
            if not all(isinstance(item, str) for item in value):
                raise UserError(f"{where}: {key} must be a list of texts; it is {value!r}")
            values[key] = tuple(folder / expanded(item) if Path in get_args(hints[key]) else item for item in value)
        elif hints[key] is Path:
            values[key] = folder / expanded(value)
    try:
        return source(**values)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error


def _toml_type(hint: Any) -> type:
    """Return the type that TOML has for a field of this type."""
    if get_origin(hint) is tuple:
        return list
    return str if hint is Path else hint
