"""Files of an installed Python distribution."""

import importlib.metadata
from collections.abc import Generator
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path
from typing import ClassVar

from nanogpt.data.sources import base
from nanogpt.data.sources._listing import shuffled
from nanogpt.errors import UserError
from nanogpt.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(base.Source):
    """The files of `distribution` whose paths match `glob`."""

    name: ClassVar[str] = "package"

    distribution: str
    glob: str

    def files(self, encoding: str | None = None) -> Generator[Event, None, list[Path]]:
        yield from ()
        try:
            listed = importlib.metadata.files(self.distribution) or []
        except importlib.metadata.PackageNotFoundError as error:
            raise UserError(
                f"the package {self.distribution} is not installed: run `{self.install_command}`"
            ) from error
        found = {str(file): Path(str(file.locate())) for file in listed if fnmatch(str(file), self.glob)}
        if not found:
            raise UserError(f"the installed package {self.distribution} has no files {self.glob}; try another version")
        return shuffled(found)

    def available_offline(self) -> bool:
        return any(importlib.metadata.distributions(name=self.distribution))

    def describe(self) -> str:
        return f"the installed package {self.distribution}: {self.glob}"

    @property
    def install_command(self) -> str:
        return f"pip install --no-deps {self.distribution}"
