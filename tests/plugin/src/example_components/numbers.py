"""The whole numbers from 1 on, one a line: a text that is made here."""

from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

from nanogpt import paths
from nanogpt.data.sources.base import Source as BaseSource
from nanogpt.errors import UserError
from nanogpt.events import Event, Notice


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(BaseSource):
    """The numbers from 1 to `last`."""

    name: ClassVar[str] = "numbers"

    last: int

    def validate(self) -> None:
        if self.last < 1:
            raise UserError(f"last = {self.last} must be at least 1")

    def files(self, encoding: str | None = None) -> Generator[Event, None, list[Path]]:
        yield Notice(level="info", text=f"counting to {self.last}")
        path = paths.cache_dir() / f"numbers-{self.last}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(f"{number}\n" for number in range(1, self.last + 1)))
        return [path]

    def available_offline(self) -> bool:
        return True

    def describe(self) -> str:
        return f"the numbers from 1 to {self.last}"
