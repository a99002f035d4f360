"""Downloads of the shards of a corpus, some ahead of the one that is read.

Each is downloaded in a thread, which stops while nobody takes its progress: a preparation that is paused downloads
nothing. Not more than `AHEAD` shards are downloaded or stored before they are read.
"""

import hashlib
import queue
import threading
from collections.abc import Generator, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path, PurePosixPath

from nanogpt.data.corpus.unfinished import CONTINUE_ADVICE
from nanogpt.data.download import PART, WrongFile, download
from nanogpt.data.sources.base import Shard
from nanogpt.errors import UserError
from nanogpt.events import Downloading

AHEAD = 2
RETRIES = 7  # waits of 1, 2, 4, 8, 16, 30, 30 s: a minute and a half without a byte
POLL_S = 0.1
JOIN_S = 2.0  # a download that brings bytes stops at once; one that stalls at its time limit, and writes nothing then
ADVICE = (
    f"what is downloaded and encoded stays: {CONTINUE_ADVICE} to continue, or use a local copy with --source FOLDER"
)


class Fetcher:
    """Downloads shards into a folder, in their order."""

    def __init__(
        self, shards: Sequence[Shard], folder: Path, headers: Mapping[str, str], timeout_s: float, *, keep: bool
    ) -> None:
        """`headers` are for the servers of the shards. keep: do not remove what was read."""
        self._keep = keep
        self._shards, self._folder, self._headers, self._timeout_s = shards, folder, headers, timeout_s
        self._running: dict[int, _Download] = {}
        self._closed = False
        self.downloaded_bytes = 0  # in this process

    def path(self, number: int) -> Path:
        """Return where shard `number` is, or will be once it is downloaded.

        Its name says which version of which file it is, in any order of the shards: one that was kept of another
        revision of the corpus is not taken for it.
        """
        shard = self._shards[number]
        if shard.path:
            return Path(shard.path)
        version = hashlib.sha256(f"{shard.name} {shard.sha256 or shard.urls[0]}".encode()).hexdigest()
        return self._folder / f"{version[:16]}-{PurePosixPath(shard.name).name}"

    def wait_for(self, number: int) -> Generator[Downloading, None, Path]:
        """Yield progress until a shard is there, and return its path. Raise `UserError` if it cannot be downloaded."""
        self.advance(number)
        while number in self._running:
            if number in self._running:
                yield self._running[number].last  # also if nothing is new: the caller may want to cancel
                self._running[number].wait()
            self.advance(number)
        return self.path(number)

    def advance(self, number: int) -> None:
        """Take the progress of all downloads, and start those that may be ahead of shard `number`."""
        for each in range(number, min(len(self._shards), number + 1 + AHEAD)):
            if each not in self._running and not self._is_complete(each):
                self._running[each] = _Download(self._work(each), self._before(each))
        for each, running in list(self._running.items()):
            self.downloaded_bytes += running.take()
            if running.finished:
                if running.error and each != number:
                    continue  # reported when it is needed
                del self._running[each]
                if running.error:
                    raise running.error

    def remove(self, number: int) -> None:
        """Remove a downloaded shard that was read."""
        if not self._keep:
            self.discard(number)

    def discard(self, number: int) -> None:
        """Remove a downloaded shard, so that it is downloaded again."""
        if not self._shards[number].path:
            self.path(number).unlink(missing_ok=True)

    def close(self) -> None:
        """Stop all downloads. What they received stays."""
        self._closed = True
        for running in self._running.values():
            running.stop()
        for running in self._running.values():
            running.thread.join(JOIN_S)

    def _is_complete(self, number: int) -> bool:
        return bool(self._shards[number].path) or self.path(number).is_file()

    def _before(self, number: int) -> Downloading:
        """Return the progress of a download that is to begin, or to continue."""
        shard, part = self._shards[number], self.path(number).with_name(self.path(number).name + PART)
        received = part.stat().st_size if part.exists() else 0
        return Downloading(source=shard.urls[0], done_bytes=received, total_bytes=shard.size)

    def _work(self, number: int) -> Generator[Downloading, None, None]:
        """Download a shard from the first of its servers that has it."""
        shard = self._shards[number]
        for url in shard.urls:
            if self._closed:
                return
            try:
                try:
                    yield from self._download(url, number)
                except WrongFile:  # maybe spoiled on its way: once more, from its first byte
                    yield from self._download(url, number)
                return
            except UserError:
                if url == shard.urls[-1]:
                    raise

    def _download(self, url: str, number: int) -> Generator[Downloading, None, None]:
        shard = self._shards[number]
        return download(
            url,
            self.path(number),
            sha256=shard.sha256,
            size=shard.size,
            headers=self._headers,
            retries=RETRIES,
            timeout_s=self._timeout_s,
            advice=ADVICE,
        )


class _Download:
    """A thread that runs a download and puts its progress in a short queue. `last` is the progress that was taken."""

    def __init__(self, work: Generator[Downloading, None, None], before: Downloading) -> None:
        """`before` is the progress that an earlier process made."""
        self.last = before
        self.error: BaseException | None = None
        self._events: queue.Queue[Downloading] = queue.Queue(4)
        self._stopped, self._ended = threading.Event(), threading.Event()
        self.thread = threading.Thread(target=self._run, args=(work,), name="download", daemon=True)
        self.thread.start()

    @property
    def finished(self) -> bool:
        """Whether the thread has ended and all of its progress was taken."""
        return self._ended.is_set() and self._events.empty()

    def take(self) -> int:
        """Take the progress since the last call; return the bytes that were received."""
        before = self.last.done_bytes
        with suppress(queue.Empty):
            while True:
                self.last = self._events.get_nowait()
        return self.last.done_bytes - before

    def wait(self) -> None:
        """Wait a moment for the end or for progress."""
        if self._events.empty():
            self._ended.wait(POLL_S)

    def stop(self) -> None:
        """Stop the thread at its next progress."""
        self._stopped.set()

    def _run(self, work: Generator[Downloading, None, None]) -> None:
        try:
            with closing(work):
                for event in work:
                    while not self._stopped.is_set():
                        with suppress(queue.Full):
                            self._events.put(event, timeout=POLL_S)
                            break
                    if self._stopped.is_set():
                        return
        except BaseException as error:  # raised again where the shard is needed
            self.error = error
        finally:
            self._ended.set()
