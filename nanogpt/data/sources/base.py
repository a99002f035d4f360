"""The base class of all data sources: where the text of a recipe comes from."""

import os
from abc import ABC, abstractmethod
from collections.abc import Generator
from dataclasses import dataclass
from operator import attrgetter
from pathlib import Path
from typing import Any, ClassVar

from nanogpt.errors import UserError
from nanogpt.events import Event
from nanogpt.files import reason


@dataclass(frozen=True, slots=True, kw_only=True)
class Shard:
    """A file of a corpus: a local file at `path`, or one to download from the first of `urls` that has it.

    `name` identifies it among the others. `size` (bytes), `sha256` and `modified_ns` (ns since 1970) are None if they
    are not known.
    """

    name: str
    path: str = ""
    urls: tuple[str, ...] = ()
    size: int | None = None
    sha256: str | None = None
    modified_ns: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(ABC):
    """A subclass is a frozen dataclass whose fields are the keys of a recipe's table `[source]`.

    Their types are str, int, float, bool, Path, `tuple[str, ...]`, `tuple[Path, ...]`, or one of these or None; a field
    without a default is required. A path in a recipe is relative to the recipe's folder.

    `name` is the `kind` that chooses this source. `downloads`: the text is one file from the network, and
    `check_local_copy` accepts a copy of it. `is_corpus`: the text is documents in many files from the network, for
    recipes with a table `[documents]` only.
    """

    name: ClassVar[str]
    downloads: ClassVar[bool] = False
    is_corpus: ClassVar[bool] = False

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:  # noqa: B027 (most sources have nothing to check)
        """Raise `UserError` for unusable values. Their types are right."""

    def files(self, encoding: str | None = None) -> Generator[Event, None, list[Path]]:
        """Yield progress and notices, and return the files of the text in their order. A corpus has `shards` instead.

        encoding: what the files are read as, None if it is to be detected. Raise `UserError` if there is no text.
        """
        raise NotImplementedError

    def shards(self, encoding: str | None = None) -> Generator[Event, None, list[Shard]]:
        """Yield progress and notices, and return the files of a corpus, sorted by name. Download none of them.

        Raise `UserError` if there are none, or the network fails.
        """
        found = yield from self.files(encoding)
        return local_shards(found)

    def request_headers(self) -> dict[str, str]:
        """Return what a request for a shard needs, such as an access token: nothing of it is stored."""
        return {}

    @property
    def stall_s(self) -> float:
        """After how many seconds without a byte the connection of a shard's download is opened again."""
        return 20

    @abstractmethod
    def available_offline(self) -> bool:
        """Return whether `files` works without a network here and now. Read no text."""

    @abstractmethod
    def describe(self) -> str:
        """Return where the text is from, in a few words."""

    def selection(self) -> str:
        """Return which files of a corpus these are, as far as `describe` does not say it."""
        return ""

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


def local_shards(files: list[Path]) -> list[Shard]:
    """Return local files as shards, named by their paths below the folder that contains all. Raise `UserError`."""
    files = [path.absolute() for path in files]
    common = Path(os.path.commonpath([path.parent for path in files])) if files else Path()
    try:
        found = [(path.relative_to(common).as_posix(), path, path.stat()) for path in files]
    except OSError as error:
        raise UserError(f"{error.filename} cannot be read ({reason(error)})") from error
    shards = [
        Shard(name=name, path=str(path), size=about.st_size, modified_ns=about.st_mtime_ns)
        for name, path, about in found
    ]
    return sorted(shards, key=attrgetter("name"))
