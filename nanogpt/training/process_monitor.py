"""What the processes of a training know of each other: that they run, that they make progress, and why one has failed.

A process that dies closes its connections, so the others notice at once, but not on GPUs. They would wait for one that
is stopped or hangs for as long as the backend does, half an hour. So a thread in each process

- reports every second that the process runs. If such reports are missing for `SILENT_S`, the process is killed
- ends its own process if a step takes much longer than any before. No limit holds before a phase was done twice,
  because the first one may compile, and none while the main process writes or pauses, which it may do for any time.

Both turn a process that hangs into one that has died. On GPUs the thread also ends its own process if one that it
watches has died, as the kernel that waits for it never returns. The reports are in the store by which the processes
found each other: a few bytes for each, and only the main process reads those of all.
"""

import os
import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from torch.distributed import Store  # type: ignore[attr-defined]

from nanogpt.formatting import printable
from nanogpt.processes import is_running, parent, start_time
from nanogpt.training.distributed import World

REPORT_S = 1.0
SILENT_S = 20.0
STALL_S = 15.0  # and at least `STALL_FACTOR` times the longest phase of its kind
STALL_FACTOR = 10
MAIN_EXTRA_S = 5.0  # later for the main process: it can save a checkpoint if the others end first
EXPLANATION_S = 3.0  # for which a process waits for the reason of a failure


class ProcessMonitor:
    """Watches the processes of a training from a thread. A world of size 1 has none."""

    def __init__(self, world: World, store: Store | None, *, on_gpus: bool = False) -> None:
        """on_gpus: the processes reach each other by NCCL, which does not notice that one has died."""
        self.world, self.store, self._on_gpus = world, store, on_gpus
        self._closed = threading.Event()
        self._parent = os.getppid()  # which started the processes of this machine, and may have the store
        self._deadline = float("inf")  # monotonic, of the phase that the main thread is in
        self._phase = ""
        self._done: dict[str, tuple[int, float]] = {}  # how often each phase was done, the longest in seconds
        self._last: dict[int, tuple[bytes, float]] = {}  # the last report of a process, when it was new (monotonic)
        if store is not None:
            store.set(f"process/{world.rank}", f"{socket.gethostname()} {os.getpid()} {start_time(os.getpid())}")
            threading.Thread(target=self._watch, name="process monitor", daemon=True).start()

    @contextmanager
    def limited(self, phase: str) -> Iterator[None]:
        """Limit the time of what the main thread does in this context, once it was done twice. phase: its name."""
        if self.store is None:
            yield
            return
        began, (count, longest) = time.monotonic(), self._done.get(phase, (0, 0.0))
        if count >= 2:
            extra = MAIN_EXTRA_S if self.world.is_main else 0.0
            self._phase, self._deadline = phase, began + max(STALL_S, STALL_FACTOR * longest) + extra
        try:
            yield
        finally:
            self._deadline = float("inf")
            self._done[phase] = count + 1, max(longest, time.monotonic() - began)

    def report_failure(self, reason: str) -> None:
        """Tell the other processes why this one ends. The first reason that is told counts."""
        self._fail(f"rank {self.world.rank} of {self.world.size}: {reason}")

    def explanation(self) -> str:
        """Return why the processes cannot reach each other, as far as it is known; "" if it is not."""
        until = time.monotonic() + EXPLANATION_S
        while self.store is not None:
            with suppress(RuntimeError):  # the store may have ended with the main process
                if self.store.check(["failure"]):
                    return str(self.store.get("failure").decode())
            if time.monotonic() >= until:
                break
            time.sleep(0.1)
        for rank in range(self.world.size):
            if rank != self.world.rank and self._has_ended(rank) and not self._has_closed(rank):
                return f"rank {rank} was killed or has crashed"
        return ""

    def is_reporter(self) -> bool:
        """Return whether this process tells a person about a failure: the main one does, or another if it is gone."""
        if self.store is None:
            return True
        if not (self.world.is_main or self._has_ended(0)):
            return False
        try:
            return bool(self.store.compare_set("reporter", "", str(self.world.rank)) == str(self.world.rank).encode())
        except RuntimeError:
            return True

    def close(self) -> None:
        """Stop watching."""
        self._closed.set()
        if self.store is not None:
            with suppress(RuntimeError):
                self.store.set(f"report/{self.world.rank}", "closed")

    def _watch(self) -> None:
        others = [each for each in range(self.world.size) if each != self.world.rank] if self.world.is_main else [0]
        number, before = 0, time.monotonic()
        while not self._closed.wait(REPORT_S):
            number, now = number + 1, time.monotonic()
            if now - before > REPORT_S + 5:  # this process was itself stopped, perhaps with all others
                self._last.clear()
                self._deadline += now - before
            before = now
            if now > self._deadline:
                self._end(f"{self._phase} takes much longer than any before: one of the processes hangs")
            try:
                if self.store is not None:
                    self.store.set(f"report/{self.world.rank}", str(number))
                for rank in others:
                    self._check(rank, now)
                    if self._on_gpus and self._has_ended(rank) and not self._has_closed(rank):
                        self._fail(f"rank {rank} was killed or has crashed")
                        self._deadline = min(self._deadline, now + MAIN_EXTRA_S)
            except RuntimeError:  # no connection to the store: the process that had it is gone, or the network fails
                if self.world.is_main and not self._closed.wait(REPORT_S) and os.getppid() != self._parent:
                    os.write(2, b"\nthe process that started the others has ended: finishing the step and saving\n")
                    os.kill(os.getpid(), signal.SIGTERM)  # as that one does if a process has failed
                return

    def _check(self, rank: int, now: float) -> None:
        key = f"report/{rank}"
        report = self.store.get(key) if self.store is not None and self.store.check([key]) else b""
        known, since = self._last.get(rank, (None, now))
        if report != known or report == b"closed":
            self._last[rank] = report, now
        elif now - since > SILENT_S:
            self._last[rank] = report, now
            process = self._process(rank)
            if process is None or self._closed.is_set():
                return
            host, pid, start = process
            self._fail(f"rank {rank} has not responded for {SILENT_S:.0f} s")
            # The store is not protected: kill no process but those that were started with this one.
            is_sibling = host == socket.gethostname() and parent(pid) in (None, self._parent)
            if not is_sibling:  # its connection may stay open
                self._deadline = min(self._deadline, now + MAIN_EXTRA_S)
            elif start_time(pid) == start:
                with suppress(OSError):
                    os.kill(pid, signal.SIGKILL)

    def _fail(self, text: str) -> None:
        if self.store is not None:
            with suppress(RuntimeError):
                self.store.compare_set("failure", "", text)

    def _end(self, text: str) -> None:
        """End this process, whose main thread cannot do it."""
        self._fail(text)
        if self.is_reporter():
            os.write(2, f"\nnanogpt train: {printable(self.explanation() or text)}\n".encode())
        os._exit(1)

    def _process(self, rank: int) -> tuple[str, int, str] | None:
        """Return (host, process id, start time) of a process."""
        with suppress(RuntimeError, ValueError):
            if self.store is not None and self.store.check([f"process/{rank}"]):
                host, pid, start = self.store.get(f"process/{rank}").decode().split(" ")
                return host, int(pid), start
        return None

    def _has_closed(self, rank: int) -> bool:
        """Return whether a process has stopped watching: it ends by itself."""
        key = f"report/{rank}"
        with suppress(RuntimeError):
            return self.store is not None and self.store.check([key]) and bool(self.store.get(key) == b"closed")
        return False

    def _has_ended(self, rank: int) -> bool:
        """Return whether a process of this machine has ended."""
        process = self._process(rank)
        if process is None:  # the store was the main process's, and ended with it
            return rank == 0
        host, pid, start = process
        return host == socket.gethostname() and (not is_running(pid) or start_time(pid) != start)
