"""How far a preparation is, and how fast: its progress as events."""

import time
from collections.abc import Iterator, Sequence

from nanogpt.data.corpus.fetch import Fetcher
from nanogpt.data.corpus.unfinished import Progress, Unfinished
from nanogpt.data.corpus.window import Window
from nanogpt.data.sources.base import Shard
from nanogpt.events import CorpusEncoding
from nanogpt.files import folder_bytes

REPORT_INTERVAL_S = 0.2


class Meter:
    """Counts what is read. A shard whose size is not known counts as the mean of the others."""

    def __init__(self, unfinished: Unfinished, shards: Sequence[Shard], fetcher: Fetcher) -> None:
        self._unfinished, self._shards, self._fetcher = unfinished, shards, fetcher
        progress = unfinished.progress
        self._sizes = [shard.size for shard in shards]
        self._number, self._position = progress.shard, 0
        self._began, self._reported = time.monotonic(), float("-inf")
        self._first_bytes: int | None = None

    def add(self, position: int) -> None:
        """Count what is read of a shard, in bytes."""
        self._position = max(self._position, position)

    def end_shard(self) -> None:
        """Count a shard that was read to its end."""
        self._number, self._position = self._number + 1, 0

    def report(self, progress: Progress, window: Window, *, always: bool = False) -> Iterator[CorpusEncoding]:
        """Yield the progress, if the last one is some time ago or `always`."""
        now = time.monotonic()
        if now - self._reported < REPORT_INTERVAL_S and not always:
            return
        self._reported = now
        done, total = self._input_bytes()
        if progress.complete:
            done = total
        if self._first_bytes is None:
            self._first_bytes = done
        number = min(progress.shard, len(self._shards) - 1)
        yield CorpusEncoding(
            phase="encode",
            done_bytes=done,
            total_bytes=total,
            tokens=progress.total_tokens + window.tokens,
            shard=self._shards[number].name,
            shards_done=progress.shard,
            shards=len(self._shards),
            documents=progress.total_documents + len(window),
            duplicates=progress.duplicates,
            skipped=sum(progress.skipped.values()),
            committed_tokens=progress.total_tokens,
            downloaded_bytes=self._fetcher.downloaded_bytes,
            disk_bytes=folder_bytes(self._unfinished.path),
            bytes_per_second=(done - self._first_bytes) / max(now - self._began, 1e-3),
            elapsed_s=now - self._began,
        )

    def _size(self, number: int) -> int | None:
        if self._sizes[number] is None and (path := self._fetcher.path(number)).is_file():
            self._sizes[number] = path.stat().st_size
        return self._sizes[number]

    def _input_bytes(self) -> tuple[int, int]:
        """Return the bytes of the shards that are read, and those of all."""
        if self._number < len(self._shards):
            self._size(self._number)
        known = [size for size in self._sizes if size is not None]
        mean = sum(known) // len(known) if known else 0
        sizes = [mean if size is None else size for size in self._sizes]
        here = min(self._position, sizes[self._number]) if self._number < len(sizes) else 0
        return sum(sizes[: self._number]) + here, sum(sizes)
