"""One file from the network, checked by its SHA-256."""

import os
import re
import time
from collections.abc import Generator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import urlsplit

from nanogpt import paths
from nanogpt.data.download import download
from nanogpt.data.sources import base
from nanogpt.errors import UserError
from nanogpt.events import Downloading, Event, Notice
from nanogpt.files import file_lock, reason, sha256

if TYPE_CHECKING:
    from filelock import FileLock

POLL_S = 0.1


@dataclass(frozen=True, slots=True, kw_only=True)
class Source(base.Source):
    """`sha256` has 64 hexadecimal digits in lower case; `bytes` is the file's size, if it is known."""

    name: ClassVar[str] = "url"
    downloads: ClassVar[bool] = True

    url: str
    sha256: str
    bytes: int | None = None

    def validate(self) -> None:
        if not re.match(r"https?://", self.url):
            raise UserError(f"url = {self.url!r} must begin with https:// or http://")
        if not re.fullmatch(r"[0-9a-f]{64}", self.sha256):
            raise UserError(f"sha256 = {self.sha256!r} must be 64 hexadecimal digits in lower case")

    @property
    def cached_path(self) -> Path:
        """Where the downloaded file is stored."""
        name = re.sub(r"[^A-Za-z0-9_.-]+", "_", PurePosixPath(urlsplit(self.url).path).name) or "file"
        return paths.cache_dir() / "downloads" / f"{self.sha256[:16]}-{name}"

    def files(self, encoding: str | None = None) -> Generator[Event, None, list[Path]]:
        # Two processes would write the same part. Any thread may go on with this generator.
        lock = file_lock(Path(f"{self.cached_path}.lock"), thread_local=False)
        try:
            if not _is_ours(lock):
                yield Notice(level="info", text=f"{self.url} is already being downloaded: waiting for it")
                while not _is_ours(lock):
                    time.sleep(POLL_S)
                    yield Downloading(source=self.url, done_bytes=0, total_bytes=self.bytes)
            yield from download(self.url, self.cached_path, sha256=self.sha256, size=self.bytes)
        finally:
            if lock.is_locked:
                with suppress(OSError):
                    Path(lock.lock_file).unlink()
                lock.release()
        return [self.cached_path]

    def available_offline(self) -> bool:
        path = self.cached_path
        return os.path.isfile(path) and self.bytes in (None, path.stat().st_size)  # noqa: PTH113 (pathlib's raises without permission)

    def describe(self) -> str:
        return self.url

    def check_local_copy(self, path: Path) -> Path:
        try:
            found = sha256(path)
        except OSError as error:
            raise UserError(f"{path} cannot be read ({reason(error)}); check its name and its permissions") from error
        if found != self.sha256:
            raise UserError(
                f"{path} is not the expected file: its sha256 is {found[:12]}…, not {self.sha256[:12]}…; download it "
                f"from {self.url}, or prepare it under another name: `nanogpt prepare textfile FILE --output=NAME`"
            )
        return path

    def origin(self) -> dict[str, Any]:
        return {"url": self.url}

    @property
    def expected_sha256(self) -> str:
        return self.sha256

    @property
    def download_bytes(self) -> int | None:
        return self.bytes


def _is_ours(lock: "FileLock") -> bool:
    """Acquire the lock and return whether nobody else has it; true also where a disk has no locks."""
    from filelock import Timeout  # here: a list of the recipes needs none

    try:
        lock.acquire(timeout=0)
    except Timeout:
        return False
    except OSError:  # or its folder cannot be written, which the download reports
        return True
    if not Path(lock.lock_file).exists():  # its holder has just removed it: the next one would not see this lock
        lock.release()
        return False
    return True
