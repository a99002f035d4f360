"""The standard library of the running Python interpreter."""

import sysconfig
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from nanogpt.data.sources import base
from nanogpt.data.sources._listing import shuffled, walk
from nanogpt.errors import UserError
from nanogpt.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(base.Source):
    """Its Python files, except files and folders whose names match a pattern of `exclude`.

    `ascii_only` skips files with other characters.
    """

    name: ClassVar[str] = "stdlib"

    ascii_only: bool = False
    exclude: tuple[str, ...] = ()

    def files(self, encoding: str | None = None) -> Generator[Event, None, list[Path]]:
        yield from ()
        root = Path(sysconfig.get_paths()["stdlib"])
        found = {
            path.relative_to(root).as_posix(): path
            for path in walk(root, self.exclude)
            if path.suffix == ".py" and (content := _content(path)) and (content.isascii() or not self.ascii_only)
        }
        if not found:
            raise UserError(f"this interpreter has no standard library files in {root}; use another data set")
        return shuffled(found)

    def available_offline(self) -> bool:
        return True

    def describe(self) -> str:
        return "the standard library of this Python interpreter"


def _content(path: Path) -> bytes:
    """Return the bytes of a file; empty if it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""
