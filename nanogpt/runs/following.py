"""Follows a run from outside: the events that were recorded, then each new one as it is appended. Imports no torch.

Reads only, and trusts the folder little: it may be on a network disk, or a copy that is made anew every now and then,
so that files are replaced, cut and grow again, and the other machine's clock may be wrong.
"""

import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from nanogpt.errors import UserError
from nanogpt.events import Event, Finished, Notice, from_json
from nanogpt.runs.folder import LOST_S, SLOW_S, Summary, is_gone, is_here, is_locked, is_run, summary

LONGEST_LINE = 1 << 20  # bytes that are read of the first line


@dataclass(frozen=True, slots=True)
class Quiet:
    """Nothing new for now; `summary` is how the run stands. Its `silent_s` tells a slow trainer from a busy one."""

    summary: Summary


def follow(
    run: Path, *, from_start: bool = True, poll_s: float = 0.5, patient: bool = False
) -> Generator[Event | Quiet, None, None]:
    """All events of the run (or those from now on), and `Quiet` every `poll_s` seconds while nothing comes.

    Ends after `Finished`, or when the trainer is gone; what that was, `summary(run)` tells. A `patient` one waits then,
    for another trainer, or for a copy that grows again. Raises `UserError` where there is no run.
    """
    if not is_run(run) and not is_locked(run):
        raise UserError(f"{run} is not a run: it has no run.toml")
    tail, pulse = _Tail(run / "events.jsonl"), _Pulse(run)
    if not from_start:
        tail.skip()
    looked = False  # what was recorded before is no sign of life
    while not tail.finished:
        about, gone = pulse.feel()  # before reading: whatever a trainer wrote before it went is still read
        before = tail.offset
        yield from tail.read()
        if tail.offset != before:
            if looked:
                pulse.quicken()
        elif gone and not patient:
            return
        else:
            yield Quiet(about)
            time.sleep(poll_s)
        looked = True


class _Pulse:
    """Whether a trainer lives, judged by what changes rather than by clocks where it is on another machine."""

    def __init__(self, run: Path) -> None:
        self._run = run
        self._last = Summary(run.name, str(run), "running", 0, 0)
        self._changed_at = time.monotonic()
        self._was_seen = False

    def feel(self) -> tuple[Summary, bool]:
        """How the run stands, and whether its trainer is gone."""
        try:
            found = summary(self._run)
        except UserError:  # in the middle of being copied, or its disk is away for a moment
            return self._last, time.monotonic() - self._changed_at > LOST_S
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

    def __init__(self, path: Path) -> None:
        self._path = path
        self._first = self._last = b""  # lines
        self._doubtful = -1
        self.offset = 0  # of the next line, in bytes
        self.finished = False

    def read(self) -> Iterator[Event]:
        try:
            with self._path.open("rb") as file:
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
                for line in file:
                    if not line.endswith(b"\n"):
                        return
                    event = self._parsed(line)
                    if event is None:
                        return
                    self.offset, self._last = self.offset + len(line), line
                    self.finished = isinstance(event, Finished)
                    yield event
        except OSError:  # not there yet, or away for a moment
            return

    def skip(self) -> None:
        """Passes over all that is there."""
        with suppress(OSError), self._path.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    self._first = self._first or line
                    self.offset, self._last = self.offset + len(line), line
        with suppress(UserError):
            self.finished = bool(self._last) and isinstance(from_json(self._last), Finished)

    def _parsed(self, line: bytes) -> Event | None:
        """None where the line cannot be read yet: a network disk may show a place before what is written there."""
        try:
            return from_json(line)
        except UserError as error:
            if self._doubtful != self.offset:
                self._doubtful = self.offset
                return None
            return Notice(level="warning", text=f"a line of {self._path.name} cannot be read: {error}")
