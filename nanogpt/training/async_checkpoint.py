"""Checkpoints written in a background thread, one at a time: training waits only while the state is copied.

If writing fails with an `OSError`, the snapshot stays in memory and is written again every `RETRY_S` seconds.
"""

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor

from nanogpt.events import Saved
from nanogpt.files import reason
from nanogpt.training.snapshot import Snapshot

SaveSnapshot = Callable[[Snapshot, bool], str]

RETRY_S = 2.0  # between attempts to write a checkpoint


class CheckpointWriter:
    """`save(snapshot, is_best)` writes a checkpoint and returns its name; None saves no checkpoints.

    snapshot_step: step of the last snapshot, -1 for none. save_error: why the last snapshot is not written yet, if
    writing it failed.
    """

    def __init__(self, save: SaveSnapshot | None) -> None:
        self.save = save
        self.snapshot_step = -1
        self.save_error = ""
        self._retry_at = 0.0  # monotonic
        self._thread = ThreadPoolExecutor(1, "checkpoint")
        self._job: tuple[Snapshot, bool, float] | None = None
        self._writing: Future[str] | None = None

    def start(self, take_snapshot: Callable[[], Snapshot], is_best: bool) -> Iterator[Saved]:
        """Wait for the previous checkpoint, then take a snapshot and start writing it.

        Yield `Saved` for the previous one. If that could not be written, take no snapshot.
        """
        started = time.monotonic()
        yield from self.report(wait=True)
        if self.save_error:
            return
        snapshot = take_snapshot()
        self.snapshot_step = snapshot.progress.step
        self._job = snapshot, is_best, time.monotonic() - started
        self._write()

    def report(self, wait: bool = False) -> Iterator[Saved]:
        """Yield `Saved` if the checkpoint is on disk, and retry a failed one if it is time.

        wait: first wait until the running write ends. Raise what the write raised, unless it is an `OSError`.
        """
        if self.save_error and time.monotonic() >= self._retry_at:
            self._write()
            wait = True
        if self._job is None or self._writing is None or not (wait or self._writing.done()):
            return
        snapshot, is_best, stall_s = self._job
        writing, self._writing = self._writing, None
        try:
            path = writing.result()
        except OSError as error:
            self.save_error = f"no checkpoint can be saved: {reason(error)}"
            self._retry_at = time.monotonic() + RETRY_S
            return
        self.save_error, self._job = "", None
        yield Saved(step=snapshot.progress.step, path=path, is_best=is_best, stall_s=stall_s)

    @property
    def is_writing(self) -> bool:
        """Whether there is a snapshot that `report` has not found on disk yet."""
        return self._job is not None

    def has_saved(self, step: int) -> bool:
        """Return whether the last snapshot is of `step` and on disk."""
        return self.snapshot_step == step and self._job is None

    def reset(self, snapshot_step: int) -> None:
        """Drop a snapshot that could not be written; the last checkpoint is the one of `snapshot_step`."""
        self.save_error, self._job, self.snapshot_step = "", None, snapshot_step

    def close(self) -> None:
        """Wait until the running write ends."""
        self._thread.shutdown()

    def _write(self) -> None:
        if self._job is not None and self.save is not None:
            snapshot, is_best, _ = self._job
            self._writing = self._thread.submit(self.save, snapshot, is_best)
