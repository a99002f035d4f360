"""Record the events of a training: append to `events.jsonl`, replace `status.json`. Imports no torch.

Each line is one write call, so that killing the process loses no event. Events that the disk refuses (it is full,
read-only or gone) stay in memory and are written later. A heartbeat thread also writes the status every second, so that
a trainer in a long evaluation or a pause does not look dead.
"""

import errno
import json
import math
import os
import socket
import threading
import time
from collections import deque
from collections.abc import Generator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, BinaryIO

from nanogpt.events import Evaluating, Event, Step, to_json
from nanogpt.files import reason, write_atomically
from nanogpt.runs.state import RunState, reduce, state_to_dict

HEARTBEAT_S = 1.0
RETRY_S = 2.0
NOT_STORED = ("name", "path", "silent_s")  # fields of the state that a reader determines

GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENOTCONN)
FULL = (errno.ENOSPC, errno.EDQUOT)


def disk_problem(error: OSError) -> str:
    """Return why the run's folder cannot be written, for a person."""
    if error.errno in GONE:
        return "the run's folder is gone"
    return reason(error) if error.errno in FULL else f"the run's folder cannot be written ({reason(error)})"


def truncate_torn_line(path: Path) -> None:
    """Cut off an incomplete last line, so that the next line starts at its own beginning. Raise OSError."""
    if not path.exists():
        return
    with path.open("r+b") as file:
        end = file.seek(0, os.SEEK_END)
        while end > 0:
            start = max(0, end - 65536)
            file.seek(start)
            newline = file.read(end - start).rfind(b"\n")
            if newline >= 0:
                end = start + newline + 1
                break
            end = start
        file.truncate(end)


class Recorder:
    """Records one training.

    `marker` is a file of the folder: when it is missing after the start, the folder was removed and nothing is written.
    `known` are fields of `RunState` that no event contains.
    """

    def __init__(self, folder: Path, marker: str = "", **known: Any) -> None:
        self._folder, self._marker = folder, folder / marker
        self._state = RunState(folder.name, state="running", pid=os.getpid(), host=socket.gethostname(), **known)
        self._log: BinaryIO | None = None
        self._unwritten: deque[bytes] = deque()  # lines
        self._problem = ""
        self._retry_at = 0.0
        self._writing = threading.Lock()
        self._ended = threading.Event()

    def record(self, events: Generator[Event, None, None]) -> Generator[Event, None, None]:
        """Record each event, then yield it.

        The status becomes "failed" with the reason if `events` raises, and "stopped" if the iterator is closed
        before the last event.
        """
        heartbeat = threading.Thread(target=self._run_heartbeat, name="heartbeat", daemon=True)
        try:
            for event in events:
                if heartbeat.ident is None:  # the first status is written after the first event
                    heartbeat.start()
                # The status first: a reader of the event finds its effect there.
                self._state = reduce(self._state, event)
                if isinstance(event, Evaluating):
                    yield event
                    continue
                if not isinstance(event, Step):
                    self._write_status()
                self._unwritten.append(to_json(event).encode() + b"\n")
                self._write_log()
                yield event
        except GeneratorExit:
            if self._state.alive:  # not if the iterator is closed at Finished
                self._state = replace(self._state, state="stopped")
            raise
        except BaseException as error:
            self._state = replace(self._state, state="failed", message=str(error) or type(error).__name__)
            raise
        finally:
            events.close()
            self._ended.set()
            if heartbeat.ident is not None:  # otherwise training never started: leave the files as they were
                self._write_log()
                self._write_status()
            self._close_log()

    def problem(self) -> str:
        """Return why the run's folder cannot be written, or "". Try to write again first, at most every RETRY_S."""
        if self._problem and time.monotonic() >= self._retry_at:
            self._problem = ""
            self._write_log()
            self._write_status()
            self._retry_at = time.monotonic() + RETRY_S if self._problem else 0.0
        return self._problem

    def _run_heartbeat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            self._write_status(is_heartbeat=True)

    def _write_log(self) -> None:
        try:
            while self._unwritten:
                self._marker.stat()  # raises if the folder is being removed: do not fill it again
                if not self._log_is_at_its_path():
                    self._close_log()
                if self._log is None:
                    truncate_torn_line(self._folder / "events.jsonl")
                    self._log = (self._folder / "events.jsonl").open("ab", buffering=0)
                if self._log.write(self._unwritten[0]) < len(self._unwritten[0]):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._unwritten.popleft()
        except OSError as error:
            self._close_log()  # open it again by its path: a folder that reappears may be another one
            self._problem = disk_problem(error)

    def _log_is_at_its_path(self) -> bool:
        """Return whether the open file is the one at its path: not if the folder was moved or replaced by a copy."""
        try:
            there = (self._folder / "events.jsonl").stat()
        except FileNotFoundError:
            return False
        return self._log is not None and os.path.samestat(os.fstat(self._log.fileno()), there)

    def _close_log(self) -> None:
        if self._log is not None:
            with suppress(OSError):
                self._log.close()
            self._log = None

    def _write_status(self, is_heartbeat: bool = False) -> None:
        with self._writing:
            if is_heartbeat and self._ended.is_set():
                return
            try:
                self._marker.stat()
                write_status(self._folder, replace(self._state, updated=time.time()))
            except OSError as error:
                self._problem = disk_problem(error)


def write_status(folder: Path, state: RunState) -> None:
    """Replace `status.json`. Raise OSError."""
    known = state_to_dict(state).items()
    status = {key: None if _not_finite(value) else value for key, value in known if key not in NOT_STORED}
    write_atomically(folder / "status.json", json.dumps(status, indent=1, allow_nan=False) + "\n")


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
