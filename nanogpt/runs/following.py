"""Follow a run from any process: its recorded events, then each new one. Imports no torch.

Only reads. The folder may be on a network disk or a copy that is synchronized now and then. So files may be replaced,
truncated and grow again, the clock of the other machine may be wrong, and the folder may be renamed.
"""

import io
import os
import time
from collections.abc import Generator, Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from nanogpt.errors import UserError
from nanogpt.events import Event, Finished, Reading, Status, from_json
from nanogpt.files import check_regular, open_regular, why
from nanogpt.runs.event_log import BLOCK, LONGEST_EVENT, MEASURED, LogItem, parse_block, parse_event
from nanogpt.runs.folder import LOST_S, is_locked, is_on_this_machine, is_run, is_trainer_gone, summary
from nanogpt.runs.parsed_log import CachedParser, ParsedLog
from nanogpt.runs.state import SLOW_S, RunState, status_event

RECORD = Path("events.jsonl")
LONGEST_LINE = 1 << 20  # bytes read of the first line


def follow(
    run: Path, *, from_start: bool = True, poll_s: float = 0.5, keep_waiting: bool = False
) -> Generator[Event, None, None]:
    """Yield all events of the run (or only new ones), and a `Status` every `poll_s` seconds while there are none.

    End after `Finished`, or when the trainer is gone and no other trainer has the run; `summary` then has its state.
    With `keep_waiting` never end: the run may be resumed, or its copy updated. A run that is renamed is followed under
    its new name, which is in `Status`. Raise `UserError` if there is no run.
    """
    for item in follow_lines(run, from_start=from_start, poll_s=poll_s, keep_waiting=keep_waiting):
        if isinstance(item, Event):
            yield item
        else:
            yield from (parse_event(line, RECORD) for line in io.BytesIO(item))


def follow_lines(
    run: Path, *, from_start: bool = True, poll_s: float = 0.5, keep_waiting: bool = False
) -> Generator[bytes | Status, None, None]:
    """Like `follow`, but yield the recorded events as blocks of JSON lines."""
    for item in _followed(_find_run(run), from_start, poll_s, keep_waiting):
        if not isinstance(item, Reading):
            yield item


def follow_blocks(
    run: Path, names: tuple[str, ...] = MEASURED, *, poll_s: float = 0.5
) -> Generator[LogItem, None, None]:
    """Like `follow` from the start with `keep_waiting`, but yield consecutive steps as one `Steps`, and `Reading`.

    `names` are the fields of the steps. Measurements of the layers that are already recorded are unparsed.
    """
    location = _find_run(run)
    first_status: Status | None = None
    with CachedParser(run / RECORD, names) as parser:  # until all that is recorded has been read
        yield from parser.stored_items()
        followed = _followed(location, True, poll_s, keep_waiting=True, start=parser.start)
        for item in followed:
            if isinstance(item, bytes):
                yield from parser.parse(item)
            elif isinstance(item, Status):
                first_status = item
                break
            else:
                yield item
    if first_status is not None:
        yield first_status
    for item in followed:
        if isinstance(item, bytes):
            yield from parse_block(item, RECORD, names)
        else:
            yield item


def _find_run(run: Path) -> "_RunLocation":
    """Return where a run is, which is followed from now on if it is renamed. Raise `UserError` if it is no run."""
    if not is_run(run) and not is_locked(run):
        raise UserError(f"{run} is not a run: it has no run.toml")
    try:
        check_regular(run / RECORD)
    except OSError as error:
        raise UserError(f"cannot read {run / RECORD}: {why(error)}") from None
    return _RunLocation(run)


def _followed(
    location: "_RunLocation", from_start: bool, poll_s: float, keep_waiting: bool, start: ParsedLog | None = None
) -> Generator[bytes | Reading | Status, None, None]:
    """Yield blocks of whole lines, each followed by `Reading`, and `Status` while there are none.

    start: what has been read before.
    """
    tail, monitor = _Tail(), _TrainerMonitor(location.path)
    if not from_start:
        tail.skip(location.path)
    elif start is not None:
        tail.skip_parsed(start)
    has_read = False  # old events do not show that the trainer is alive
    while True:
        # Both before reading, so that a trainer's last events are read.
        about, is_gone = monitor.check(location.find())
        is_over = (is_gone or tail.finished) and not keep_waiting and not is_locked(location.path)
        before = tail.offset
        for block in tail.read(location.path):
            yield block
            yield Reading(done_bytes=tail.offset, total_bytes=tail.size)
        if tail.offset != before:
            if has_read:
                monitor.mark_alive()
        elif is_over:
            if not tail.finished:
                yield status_event(about)
            return
        else:
            yield status_event(about)
            time.sleep(poll_s)
        has_read = True


class _RunLocation:
    """The current path of a run's folder, which may be renamed."""

    def __init__(self, run: Path) -> None:
        self.path = run
        self._identity = self._of(run)

    def find(self) -> Path:
        """Return the folder's path, also under a new name in the same parent; its last path if it is not found."""
        if self._of(self.path) != self._identity:
            self.path = self._renamed() or self.path
            self._identity = self._of(self.path) or self._identity
        return self.path

    def _renamed(self) -> Path | None:
        with suppress(OSError), os.scandir(self.path.parent) as entries:
            for entry in sorted(entries, key=os.DirEntry.is_symlink):  # links last: their inode is not the folder's
                hidden = entry.name.startswith(".")  # such as one that is being deleted
                if not hidden and self._identity and (entry.is_symlink() or entry.inode() == self._identity[1]):
                    path = Path(entry.path)
                    if self._of(path) == self._identity:
                        return path
        return None

    def _of(self, path: Path) -> tuple[int, int] | None:
        with suppress(OSError):
            about = path.stat()
            return about.st_dev, about.st_ino
        return None


class _TrainerMonitor:
    """Decides whether the trainer is alive: on another machine by what changes in the folder, not by clocks."""

    def __init__(self, run: Path) -> None:
        self._last = RunState(run.name, str(run), "running")
        self._changed_at = time.monotonic()
        self._was_seen_alive = False

    def check(self, run: Path) -> tuple[RunState, bool]:
        """Return the state of the run, and whether its trainer is gone."""
        try:
            found = summary(run)
        except UserError:  # it is being copied, or its disk is missing for a moment
            unseen_s = time.monotonic() - self._changed_at
            lost = unseen_s > LOST_S
            state = "interrupted" if lost and self._last.alive else self._last.state
            return replace(self._last, state=state, silent_s=unseen_s), lost
        if self._last.updated and found.updated != self._last.updated:
            self.mark_alive()
        self._last = found
        unchanged_s = time.monotonic() - self._changed_at
        alive = found.alive
        if is_trainer_gone(found):
            return found, True
        if alive and not is_on_this_machine(found) and unchanged_s > LOST_S:  # its clock is ahead of ours
            found, alive = replace(found, state="interrupted", silent_s=unchanged_s), False
        elif found.state == "interrupted" and self._was_seen_alive and unchanged_s < LOST_S:  # behind, or was set
            found, alive = replace(found, state="running", silent_s=unchanged_s), True
        return found, not alive and unchanged_s >= (LOST_S if self._was_seen_alive else SLOW_S)

    def mark_alive(self) -> None:
        """Note that the trainer was seen alive just now."""
        self._changed_at, self._was_seen_alive = time.monotonic(), True


class _Tail:
    """Reads the new whole lines of a growing file.

    The file is opened for each reading, because a network disk shows new content only then. The last line read is
    compared with the file: reading continues in a replaced copy, and starts again in another recording.
    """

    def __init__(self) -> None:
        self._first = self._last = b""  # lines
        self._zero_line_at = -1
        self.offset = self.size = 0  # of the next line, and of the file, in bytes

    def read(self, run: Path) -> Iterator[bytes]:
        """Yield blocks of new whole lines."""
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
                stored = file.read(len(self._last))
                if len(stored) < len(self._last):
                    return  # it was truncated, and grows again
                if stored != self._last:
                    self.offset = 0
                file.seek(self.offset)
                rest = b""
                while new := file.read(BLOCK):
                    whole, newline, rest = (rest + new).rpartition(b"\n")
                    if newline:
                        block = self._complete_lines(whole + newline)
                        if not block:
                            return
                        self.offset += len(block)
                        self._last = block[block.rfind(b"\n", 0, -1) + 1 :]
                        yield block
                        if len(block) < len(whole) + 1:
                            return
                    if len(rest) > LONGEST_EVENT:  # not an event
                        return
        except OSError:  # not created yet, or missing for a moment
            return

    @property
    def finished(self) -> bool:
        """Whether the last line read is `Finished`."""
        with suppress(UserError):
            return bool(self._last) and isinstance(from_json(self._last), Finished)
        return False

    def skip(self, run: Path) -> None:
        """Skip the lines that are in the file now."""
        with suppress(OSError), open_regular(run / RECORD) as file:
            size = os.fstat(file.fileno()).st_size
            for reach in (LONGEST_LINE, size):  # the last lines, or all if the last one is very long
                file.seek(max(0, size - reach))
                before, newline, rest = file.read(reach).rpartition(b"\n")
                start = before.rfind(b"\n") + 1
                if newline and (start or reach >= size):
                    self._last = before[start:] + newline
                    self.offset = size - len(rest)
                    return

    def skip_parsed(self, parsed: ParsedLog) -> None:
        """Skip the lines that were read from a copy."""
        self._first = parsed.first_line if len(parsed.first_line) <= LONGEST_LINE else b""
        self._last, self.offset = parsed.last_line, parsed.covered

    def _complete_lines(self, block: bytes) -> bytes:
        """Return the lines before the first that contains a zero byte.

        A network disk may show zeros until the content arrives. If the line has them at the next call too, it is
        returned.
        """
        zero = block.find(b"\0")
        start = self.offset + block.rfind(b"\n", 0, zero) + 1
        if zero < 0 or start == self._zero_line_at:
            return block
        self._zero_line_at = start
        return block[: start - self.offset]
