"""Checkpoints written beside, one at a time and in a thread of their own: training stands still for the copy alone.

Knows nothing of what a checkpoint holds nor where it goes. What the disk refuses is kept, owed, and tried again.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from nanogpt.events import Saved
from nanogpt.files import reason
from nanogpt.training.snapshot import Snapshot

SaveSnapshot = Callable[[Snapshot, bool], str]

RETRY_S = 2.0  # between attempts to save what the disk refused


class CheckpointWriter:
    """`save(snapshot, is_best)` writes a checkpoint and returns its name; None where none are to be kept."""

    def __init__(self, save: SaveSnapshot | None) -> None:
        self.save = save
        self.taken_at = -1  # the step of the last snapshot
        self.owed = ""  # why the checkpoint that is due could not be saved
        self._retry_at = 0.0  # monotonic
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._job: tuple[Snapshot, bool, float] | None = None
        self._writing: Future[str] | None = None

    def begin(self, take: Callable[[], Snapshot], is_best: bool) -> Iterator[Saved]:
        """Writes what `take` gives, a copy, once the one before is on disk. Not where that one is owed."""
        started = time.monotonic()
        yield from self.report(wait=True)
        if self.owed:
            return
        snapshot = take()
        self.taken_at = snapshot.progress.step
        self._job = snapshot, is_best, time.monotonic() - started
        self._write()

    def report(self, wait: bool = False) -> Iterator[Saved]:
        """Says what is on disk by now, and tries again what is owed, if it is time. `wait`: for what is being written.

        Raises whatever is no fault of the disk.
        """
        if self.owed and time.monotonic() >= self._retry_at:
            self._write()
            wait = True
        if self._job is None or self._writing is None or not (wait or self._writing.done()):
            return
        snapshot, is_best, stall_s = self._job
        writing, self._writing = self._writing, None
        try:
            path = writing.result()
        except OSError as error:
            self.owed = f"no checkpoint can be saved: {reason(error)}"
            self._retry_at = time.monotonic() + RETRY_S
            return
        self.owed, self._job = "", None
        yield Saved(step=snapshot.progress.step, path=path, is_best=is_best, stall_s=stall_s)

    def has(self, step: int) -> bool:
        """Whether the checkpoint of `step` is on disk."""
        return self.taken_at == step and self._job is None

    def forget(self, taken_at: int) -> None:
        """Owes nothing any more; the last checkpoint is that of `taken_at`."""
        self.owed, self._job, self.taken_at = "", None, taken_at

    def close(self) -> None:
        """Waits for what is being written."""
        self._thread.shutdown()

    def _write(self) -> None:
        if self._job is not None and self.save is not None:
            snapshot, is_best, _ = self._job
            self._writing = self._thread.submit(self.save, snapshot, is_best)
