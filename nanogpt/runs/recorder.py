"""Writes a training's events down as they pass: `events.jsonl` appended, `status.json` replaced. Imports no torch.

Every line is handed to the system whole and at once, so that killing the process loses no event. What the disk refuses
(it is full, read-only, gone) is kept in memory, tried again, and written when it can be. The status is also written
every second from a thread of its own, the heartbeat, so that a long evaluation or a pause does not look like death.
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
from nanogpt.runs.state import RunState, plain, reduce

HEARTBEAT_S = 1.0
RETRY_S = 2.0
FOUND = ("name", "path", "silent_s")  # of the state, what whoever reads it finds out

GONE = (errno.ENOENT, errno.ENOTDIR, errno.ESTALE, errno.ENOTCONN)
FULL = (errno.ENOSPC, errno.EDQUOT)


def disk_problem(error: OSError) -> str:
    """Return why the run's folder cannot be written, for a person."""
    if error.errno in GONE:
        return "the run's folder is gone"
    return reason(error) if error.errno in FULL else f"the run's folder cannot be written ({reason(error)})"


def mend(path: Path) -> None:
    """Cuts off a last line that is torn, so that appending starts on a new one."""
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
    """The record of one training. `mark` is a file without which the folder is no longer its own, once it has begun;
    `known` are fields of `RunState` that no event tells."""

    def __init__(self, folder: Path, mark: str = "", **known: Any) -> None:
        self._folder, self._mark = folder, folder / mark
        self._state = RunState(folder.name, state="running", pid=os.getpid(), host=socket.gethostname(), **known)
        self._log: BinaryIO | None = None
        self._unwritten: deque[bytes] = deque()  # lines
        self._refusal = ""
        self._retry_at = 0.0
        self._writing = threading.Lock()
        self._ended = threading.Event()

    def record(self, events: Generator[Event, None, None]) -> Generator[Event, None, None]:
        """Passes the events on, writing each down first.

        The status says "failed" with the reason when `events` raises, and "stopped" when the iterator is closed.
        """
        heartbeat = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
        try:
            for event in events:
                if heartbeat.ident is None:  # a status shall say that training goes on once it has begun
                    heartbeat.start()
                # The status first: who has read an event finds its effect there.
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
            self._state = replace(self._state, state="stopped")
            raise
        except BaseException as error:
            self._state = replace(self._state, state="failed", message=str(error) or type(error).__name__)
            raise
        finally:
            events.close()
            self._ended.set()
            if heartbeat.ident is not None:  # what never began leaves the record as it was
                self._write_log()
                self._write_status()
            self._close_log()

    def hindrance(self) -> str:
        """Why the record cannot be written at the moment, for a person; empty where it can. Tries again before it says
        so, at most every RETRY_S; costs nothing where all is well."""
        if self._refusal and time.monotonic() >= self._retry_at:
            self._refusal = ""
            self._write_log()
            self._write_status()
            self._retry_at = time.monotonic() + RETRY_S if self._refusal else 0.0
        return self._refusal

    def _beat(self) -> None:
        while not self._ended.wait(HEARTBEAT_S):
            self._write_status(beating=True)

    def _write_log(self) -> None:
        try:
            while self._unwritten:
                self._mark.stat()  # a folder that is being removed is not to be filled again
                if not self._has_its_name():
                    self._close_log()
                if self._log is None:
                    mend(self._folder / "events.jsonl")
                    self._log = (self._folder / "events.jsonl").open("ab", buffering=0)
                if self._log.write(self._unwritten[0]) < len(self._unwritten[0]):
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
                self._unwritten.popleft()
        except OSError as error:
            self._close_log()  # opened again by its name: a folder that comes back may be another one
            self._refusal = disk_problem(error)

    def _has_its_name(self) -> bool:
        """Whether the open file is the one of that name: not where the folder was moved, or replaced by a copy."""
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

    def _write_status(self, beating: bool = False) -> None:
        with self._writing:
            if beating and self._ended.is_set():
                return
            known = plain(replace(self._state, updated=time.time())).items()
            status = {key: None if _not_finite(value) else value for key, value in known if key not in FOUND}
            try:
                self._mark.stat()
                write_atomically(self._folder / "status.json", json.dumps(status, indent=1, allow_nan=False) + "\n")
            except OSError as error:
                self._refusal = disk_problem(error)


def _not_finite(value: Any) -> bool:
    return isinstance(value, float) and not math.isfinite(value)
