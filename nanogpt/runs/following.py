"""Follows a run from outside: the events that were recorded, then each new one as it is appended. Imports no torch.

Reads only, and trusts the folder little: it may be on a network disk, or a copy that is made anew every now and then,
so that files are replaced, cut and grow again, the other machine's clock may be wrong, and the folder may be renamed.
"""

import io
import os
import time
from collections import deque
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from nanogpt.errors import UserError
from nanogpt.events import Event, Finished, Reading, Status, from_json
from nanogpt.files import check_regular, open_regular, why
from nanogpt.runs.event_log import BLOCK, LONGEST_EVENT, Steps, event_of, parsed
from nanogpt.runs.folder import LOST_S, is_gone, is_here, is_locked, is_run, summary
from nanogpt.runs.state import SLOW_S, RunState, status

RECORD = Path("events.jsonl")
LONGEST_LINE = 1 << 20  # bytes that are read of the first line


def follow(
    run: Path, *, from_start: bool = True, poll_s: float = 0.5, patient: bool = False
) -> Generator[Event, None, None]:
    """All events of the run (or those from now on), and a `Status` every `poll_s` seconds while nothing comes.

    Ends after `Finished`, or when the trainer is gone, unless another trainer has the run by then; what that was,
    `summary` tells. A `patient` one never ends: it waits for another trainer, or for a copy that grows again. A run
    that is renamed is followed under its new name, which `Status` tells. Raises `UserError` where there is no run.
    """
    for item in follow_lines(run, from_start=from_start, poll_s=poll_s, patient=patient):
        if isinstance(item, Event):
            yield item
        else:
            yield from (event_of(line, RECORD) for line in io.BytesIO(item))


def follow_lines(
    run: Path, *, from_start: bool = True, poll_s: float = 0.5, patient: bool = False
) -> Generator[bytes | Status, None, None]:
    """As `follow`, with the recorded events as blocks of the lines that they are."""
    for item in _followed(run, from_start, poll_s, patient):
        if not isinstance(item, Reading):
            yield item


def follow_blocks(run: Path, *, poll_s: float = 0.5) -> Generator[Event | Steps, None, None]:
    """As a patient `follow` from the start, with consecutive steps together, and how far the reading is (`Reading`)."""
    for item in _followed(run, True, poll_s, patient=True):
        if isinstance(item, bytes):
            yield from parsed(item, RECORD)
        else:
            yield item


def _followed(
    run: Path, from_start: bool, poll_s: float, patient: bool
) -> Generator[bytes | Reading | Status, None, None]:
    """Blocks of whole lines with how far they reach, and how the run stands while nothing comes."""
    if not is_run(run) and not is_locked(run):
        raise UserError(f"{run} is not a run: it has no run.toml")
    try:
        check_regular(run / RECORD)
    except OSError as error:
        raise UserError(f"cannot read {run / RECORD}: {why(error)}") from None
    place = _Place(run)
    tail, pulse = _Tail(), _Pulse(run)
    if not from_start:
        tail.skip(place.path)
    looked = False  # what was recorded before is no sign of life
    while True:
        about, gone = pulse.feel(place.find())  # before reading: whatever a trainer wrote before it went is still read
        before = tail.offset
        for block in tail.read(place.path):
            yield block
            yield Reading(done_bytes=tail.offset, total_bytes=tail.size)
        if tail.offset != before:
            if looked:
                pulse.quicken()
        elif (gone or tail.finished) and not patient and not is_locked(place.path):
            if not tail.finished:
                yield status(about)
            return
        else:
            yield status(about)
            time.sleep(poll_s)
        looked = True


class _Place:
    """Where the folder of a run is now: it may be renamed."""

    def __init__(self, run: Path) -> None:
        self.path = run
        self._identity = self._of(run)

    def find(self) -> Path:
        """The folder, under its name or another one beside it; where it was last while it is not seen."""
        there = self._of(self.path)
        if there != self._identity:
            self.path = self._renamed() or self.path
            self._identity = self._of(self.path) or self._identity
        return self.path

    def _renamed(self) -> Path | None:
        with suppress(OSError), os.scandir(self.path.parent) as entries:
            for entry in entries:
                hidden = entry.name.startswith(".")  # as is one that is being deleted
                if not hidden and self._identity and entry.inode() == self._identity[1]:
                    path = Path(entry.path)
                    return path if self._of(path) == self._identity else None
        return None

    def _of(self, path: Path) -> tuple[int, int] | None:
        with suppress(OSError):
            about = path.stat()
            return about.st_dev, about.st_ino
        return None


class _Pulse:
    """Whether a trainer lives, judged by what changes rather than by clocks where it is on another machine."""

    def __init__(self, run: Path) -> None:
        self._last = RunState(run.name, str(run), "running")
        self._changed_at = time.monotonic()
        self._was_seen = False

    def feel(self, run: Path) -> tuple[RunState, bool]:
        """How the run stands, and whether its trainer is gone."""
        try:
            found = summary(run)
        except UserError:  # in the middle of being copied, or its disk is away for a moment
            unseen_s = time.monotonic() - self._changed_at
            lost = unseen_s > LOST_S
            state = "interrupted" if lost and self._last.alive else self._last.state
            return replace(self._last, state=state, silent_s=unseen_s), lost
        if self._last.updated and found.updated != self._last.updated:
            self.quicken()
        self._last = found
        waited_s = time.monotonic() - self._changed_at
        alive = found.alive
        if is_gone(found):
            return found, True
        if alive and not is_here(found) and waited_s > LOST_S:  # its clock is ahead of ours
            found, alive = replace(found, state="interrupted", silent_s=waited_s), False
        elif found.state == "interrupted" and self._was_seen and waited_s < LOST_S:  # behind; or one of them was set
            found, alive = replace(found, state="running", silent_s=waited_s), True
        return found, not alive and waited_s >= (LOST_S if self._was_seen else SLOW_S)

    def quicken(self) -> None:
        """A sign of life was seen just now."""
        self._changed_at, self._was_seen = time.monotonic(), True


class _Tail:
    """The whole lines at the end of a growing file that were not read before.

    It is opened anew each time, since a network disk shows what is new only then. What was read last is compared with
    what stands there now: a copy that was replaced goes on where it was, another recording begins at its start.
    """

    def __init__(self) -> None:
        self._first = self._last = b""  # lines
        self._doubtful = -1
        self.offset = self.size = 0  # of the next line, and of the file, in bytes

    def read(self, run: Path) -> Iterator[bytes]:
        """Blocks of whole lines."""
        try:
            with open_regular(run / RECORD) as file:
                self.size = os.fstat(file.fileno()).st_size
                first = file.readline(LONGEST_LINE)
                if self._first and first != self._first:
                    if not first.endswith(b"\n"):
                        return  # it is being copied
                    self.offset, self._last = 0, b""
                self._first = first if first.endswith(b"\n") else b""
                file.seek(self.offset - len(self._last))
                there = file.read(len(self._last))
                if len(there) < len(self._last):
                    return  # it was cut, and grows again
                if there != self._last:
                    self.offset = 0
                file.seek(self.offset)
                rest = b""
                while new := file.read(BLOCK):
                    whole, newline, rest = (rest + new).rpartition(b"\n")
                    if newline:
                        block = self._certain(whole + newline)
                        if not block:
                            return
                        self.offset += len(block)
                        self._last = block[block.rfind(b"\n", 0, -1) + 1 :]
                        yield block
                        if len(block) < len(whole) + 1:
                            return
                    if len(rest) > LONGEST_EVENT:  # no event
                        return
        except OSError:  # not there yet, or away for a moment
            return

    @property
    def finished(self) -> bool:
        """Whether the last line that was read is the end of a training."""
        with suppress(UserError):
            return bool(self._last) and isinstance(from_json(self._last), Finished)
        return False

    def skip(self, run: Path) -> None:
        """Passes over all that is there."""
        deque(self.read(run), maxlen=0)

    def _certain(self, block: bytes) -> bytes:
        """The lines up to one that has zeros in it: a network disk may show a place before what is written there. What
        stays so is let through at the next look."""
        zero = block.find(b"\0")
        start = self.offset + block.rfind(b"\n", 0, zero) + 1
        if zero < 0 or start == self._doubtful:
            return block
        self._doubtful = start
        return block[: start - self.offset]
