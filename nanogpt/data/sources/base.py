"""The base class of all data sources: where the text of a recipe comes from."""

from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from nanogpt.errors import UserError
from nanogpt.events import Event


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(ABC):
    """A subclass is a frozen dataclass whose fields are the keys of a recipe's table `[source]`.

    Their types are str, int, float, bool, Path, `tuple[str, ...]`, `tuple[Path, ...]`, or one of these or None; a field
    without a default is required. A path in a recipe is relative to the recipe's folder.

    `name` is the `kind` that chooses this source. `downloads`: the text is one file from the network, and
    `check_local_copy` accepts a copy of it.
    """

    name: ClassVar[str]
    downloads: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:  # noqa: B027 (most sources have nothing to check)
        """Raise `UserError` for unusable values. Their types are right."""

    @abstractmethod
    def files(self, encoding: str | None = None) -> Generator[Event, None, list[Path]]:
        """Yield progress and notices, and return the files of the text in their order.

        encoding: what the files are read as, None if it is to be detected. Raise `UserError` if there is no text.
        """

    @abstractmethod
    def available_offline(self) -> bool:
        """Return whether `files` works without a network here and now. Read no text."""

    @abstractmethod
    def describe(self) -> str:
        """Return where the text is from, in a few words."""

    def check_local_copy(self, path: Path) -> Path:
        """Return `path`, a copy of the file that this source downloads. Raise `UserError` if it is another file."""
        raise UserError("--source replaces a download, and this data set downloads nothing; leave it out")

    def origin(self) -> dict[str, Any]:
        """Return what `meta.json` records of the source besides its kind; empty: the path of a single file."""
        return {}

    @property
    def text_column(self) -> str | None:
        """The column with the texts, if the files are tables and it is known."""
        return None

    @property
    def expected_sha256(self) -> str | None:
        """The SHA-256 of the text in hexadecimal digits, if it is known before the text is read."""
        return None

    @property
    def download_bytes(self) -> int | None:
        """The size of the download, if it is known."""
        return None

    @property
    def install_command(self) -> str:
        """The shell command that installs what the text is part of; empty if nothing has to be installed."""
        return ""
