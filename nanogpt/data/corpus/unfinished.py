"""The folder of a preparation that is not finished, and what is committed in it.

<data_dir>/.<name>.unfinished/   corpus.json     what is prepared: its settings, and the shards in their order
                                 tokenizer.json
                                 progress.json   see `Progress`: replaced when everything it counts is on disk
                                 train-00000.bin, …, hashes.bin   may be longer than `progress.json` says
                                 shards/         downloads that are not read to their end
                                 lock            held by the process that writes here

A kill leaves the folder as it is. The next preparation cuts the files off where `progress.json` says, and continues.
"""

import json
import os
import shutil
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from filelock import Timeout
from numpy.typing import NDArray

from nanogpt.data import store
from nanogpt.data.corpus.blocks import HASH_BYTES
from nanogpt.data.names import unfinished_folder
from nanogpt.data.sources.base import Shard
from nanogpt.errors import UserError
from nanogpt.files import file_lock, read_json, remove, why, write_atomically
from nanogpt.records import from_values

CONTINUE_ADVICE = "run the same command again"  # in errors after which a preparation can be continued
LARGEST = 1 << 28  # bytes of corpus.json: a million shards
HASHES_AT_ONCE = 1 << 18
FORMAT = 1
LOCK_TIMEOUT_S = 5  # a process that was killed holds the lock for a moment


@dataclass(slots=True, kw_only=True)
class Progress:
    """What is committed. The dictionaries are by split, except `skipped`, which is by reason.

    `passed` documents of shard number `shard` are read, and `read` in all. `skipped` is of the shards before it, and so
    are `codecs`, of those that are not UTF-8. `complete`: all documents are written.
    """

    shard: int = 0
    passed: int = 0
    read: int = 0
    tokens: dict[str, int] = field(default_factory=dict)
    documents: dict[str, int] = field(default_factory=dict)
    characters: dict[str, int] = field(default_factory=dict)
    bytes: dict[str, int] = field(default_factory=dict)
    duplicates: int = 0
    skipped: dict[str, int] = field(default_factory=dict)
    codecs: list[str] = field(default_factory=list)
    hashes: int = 0
    complete: bool = False

    @property
    def total_tokens(self) -> int:
        """The tokens of all splits."""
        return sum(self.tokens.values())

    @property
    def total_documents(self) -> int:
        """The documents of all splits."""
        return sum(self.documents.values())


class Unfinished:
    """The folder, locked: no other process writes in it."""

    def __init__(self, folder: Path) -> None:
        """Create or open the folder of a data set at `folder`. Raise `UserError` if another process prepares it."""
        self.path = unfinished_folder(folder)
        self.progress = Progress()
        self._lock = file_lock(self.path / "lock")
        deadline = time.monotonic() + LOCK_TIMEOUT_S
        try:
            while not self._lock.is_locked:
                self.path.mkdir(parents=True, exist_ok=True)
                with suppress(FileNotFoundError):  # another process published the folder meanwhile
                    self._lock.acquire(timeout=max(0, deadline - time.monotonic()))
                if not (self.path / "lock").exists():  # its old place: nobody else sees this lock
                    self._lock.release()
        except Timeout:
            raise UserError(f"the data set {folder.name} is being prepared by another process") from None
        except OSError as error:
            raise UserError(f"cannot write in {self.path}: {why(error)}") from None

    @property
    def shards_folder(self) -> Path:
        """Where downloads are until they are read."""
        return self.path / "shards"

    @property
    def tokenizer_path(self) -> Path:
        """The file of the tokenizer."""
        return self.path / "tokenizer.json"

    def clear(self) -> None:
        """Remove everything but the lock."""
        for item in self.path.iterdir():
            if item.name != "lock":
                remove(item)
        self.progress = Progress()

    def load(self) -> tuple[dict[str, Any], list[Shard]] | None:
        """Return the settings and the shards, and set `progress`; None if it has not begun. Raise `UserError`."""
        if not (self.path / "corpus.json").exists():
            return None
        try:
            corpus = read_json(self.path / "corpus.json", LARGEST)
            if corpus["format"] != FORMAT:
                raise ValueError(f"format {corpus['format']}, here {FORMAT}")
            shards = [from_values(Shard, each) for each in corpus["shards"]]
            path = self.path / "progress.json"
            if path.exists():
                self.progress = from_values(Progress, read_json(path))
            return corpus["settings"], shards
        except (OSError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise UserError(f"{self.path} cannot be continued ({why(error)}): start over with --force") from error

    def start(self, settings: dict[str, Any], shards: Sequence[Shard]) -> None:
        """Record what is prepared."""
        corpus = {"format": FORMAT, "settings": settings, "shards": [asdict(shard) for shard in shards]}
        write_atomically(self.path / "corpus.json", json.dumps(corpus, indent=1))

    def open_hashes(self, count: int) -> "HashFile":
        """Return the file of the first `count` hashes."""
        return HashFile(self.path / "hashes.bin", count)

    def commit(self, progress: Progress) -> None:
        """Record what is on disk."""
        write_atomically(self.path / "progress.json", json.dumps(asdict(progress)))

    @property
    def is_complete(self) -> bool:
        """Whether the files of the data set are complete."""
        return (self.path / "meta.json").exists()

    def publish(self, folder: Path) -> None:
        """Rename the folder to `folder`, in the place of a data set that may be there, without what is not part of it.

        A kill leaves either the folder, with `corpus.json` or with that in its place, or the data set. The lock goes
        with the folder, so that a process that waits for it gets another folder. Raise OSError.
        """
        for name in ("shards", "hashes.bin", "progress.json"):
            if os.path.lexists(self.path / name):
                remove(self.path / name)
        store.publish(self.path, folder)
        for name in ("corpus.json", "lock"):
            (folder / name).unlink()

    def close(self) -> None:
        """Release the lock; remove the folder if nothing is in it."""
        empty = self.path.is_dir() and {item.name for item in self.path.iterdir()} <= {"lock"}
        if empty:  # before another process has the lock, and maybe fills it
            shutil.rmtree(self.path, ignore_errors=True)
        self._lock.release()


class HashFile:
    """The hashes of the documents that are written, 16 bytes each."""

    def __init__(self, path: Path, count: int) -> None:
        """Cut the file off after `count` hashes. Raise `UserError` if it is shorter."""
        self._path = path
        self._file = path.open("r+b" if path.exists() else "w+b")
        if os.fstat(self._file.fileno()).st_size < count * HASH_BYTES:
            self._file.close()
            raise UserError(f"{path} is too short to continue: start over with --force")
        self._file.truncate(count * HASH_BYTES)

    def __iter__(self) -> Iterator[NDArray[np.uint64]]:
        """Yield arrays of hashes (n, 2)."""
        self._file.seek(0)
        while content := self._file.read(HASHES_AT_ONCE * HASH_BYTES):
            yield np.frombuffer(content, np.uint64).reshape(-1, 2)

    def append(self, hashes: NDArray[np.uint64]) -> None:
        """Write hashes, and return when they are on disk."""
        self._file.seek(0, os.SEEK_END)
        self._file.write(hashes.tobytes())
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Close the file."""
        self._file.close()
