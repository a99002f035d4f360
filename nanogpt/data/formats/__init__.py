"""Formats of files with documents: one module for each, found by `nanogpt.registry`.

Each module has a class `Format`, a subclass of the one in `base.py`, which declares the suffixes it is for. Installed
packages add formats through entry points of the group `nanogpt.formats`.
"""

from collections import Counter
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from nanogpt.data.formats.base import Format
from nanogpt.data.streams import SUFFIXES, open_stream
from nanogpt.registry import Registry

__all__ = ["Format", "documents", "find", "names"]

REGISTRY = Registry("format", "nanogpt.data.formats", "nanogpt.formats", "Format", frozenset({"base"}))


def names() -> tuple[str, ...]:
    """Return every format, sorted. Import none of them."""
    return REGISTRY.names()


def find(path: Path) -> Format:
    """Return the format of a file by the end of its name: `txt` if no other one has it."""
    name = path.name.lower()
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return _by_suffix().get(Path(name).suffix) or _by_suffix()[".txt"]


def documents(
    path: Path, *, text_column: str | None = None, encoding: str | None = None, skipped: Counter[str] | None = None
) -> Iterator[str]:
    """Yield the documents of a file, as `Format.documents` does."""
    counts: Counter[str] = Counter() if skipped is None else skipped
    with open_stream(path) as stream:
        yield from find(path).documents(stream, text_column=text_column, encoding=encoding, skipped=counts)


@cache
def _by_suffix() -> dict[str, Format]:
    formats: list[Format] = [kind() for kind in REGISTRY.load_all(Format).values()]
    return {suffix: each for each in formats for suffix in each.suffixes}
