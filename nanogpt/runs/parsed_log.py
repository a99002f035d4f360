"""A copy of a long `events.jsonl` in the cache folder, with the steps as binary columns. Imports no torch.

Parsing the lines of a million steps takes seconds, reading their columns a tenth of one. A program that has read a
whole log writes the copy, and later ones parse only the lines after it. The copy may be removed at any time: if it is
missing, damaged or of another log, the log is parsed. It is a header of `HEADER_BYTES` (JSON, then spaces) and blocks:

    S  for each field the values of the steps as float64, then the line of the last step
    L  lines of other events
"""

import hashlib
import io
import json
import os
import struct
import time
import zlib
from array import array
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

from nanogpt import paths
from nanogpt.events import Event, Reading, Step
from nanogpt.files import new_file, open_regular
from nanogpt.records import from_values
from nanogpt.runs.event_log import BLOCK, LARGE, MEASURED, Steps, parse_event, parse_with_lines, whole_lines

FORMAT = 1
HEADER_BYTES = 1024
FRAME = struct.Struct("<cII")  # kind, number of steps, bytes of the block
MOST_BYTES = 1 << 30  # of all copies
ABANDONED_S = 600.0  # after which a file that was being written is removed


@dataclass(frozen=True, slots=True, kw_only=True)
class _Header:
    """`log_state` is what `_state` returned for the log, empty if the log changed while it was read."""

    format: int
    covered: int  # bytes of the log
    log_crc: int  # of these bytes
    log_state: tuple[int, ...]
    body_bytes: int
    body_crc: int
    last_line: int  # its bytes in the log


class ParsedLog:
    """The copy of the beginning of a log, which was checked. `first_line` and `last_line` are of this beginning."""

    def __init__(self, path: Path, log: Path, names: tuple[str, ...], header: _Header, recorded: BinaryIO) -> None:
        self.path, self._log, self._names, self.header = path, log, names, header
        recorded.seek(0)
        self.first_line = recorded.readline(header.covered)
        recorded.seek(header.covered - header.last_line)
        self.last_line = recorded.read(header.last_line)

    @property
    def covered(self) -> int:
        """How many bytes of the log it covers: whole lines."""
        return self.header.covered

    def items(self) -> Iterator[Event | Steps]:
        """Yield what `parse_block` yields for the covered lines, and `Reading` now and then."""
        done = reported = 0
        with self.path.open("rb") as file:
            file.seek(HEADER_BYTES)
            while frame := file.read(FRAME.size):
                kind, count, size = FRAME.unpack(frame)
                yield from self._parsed(kind, count, file.read(size))
                done += FRAME.size + size
                if done - reported >= BLOCK or done == self.header.body_bytes:
                    reported = done
                    share = done / self.header.body_bytes
                    yield Reading(done_bytes=int(share * self.covered), total_bytes=self._log.stat().st_size)

    def _parsed(self, kind: bytes, count: int, block: bytes) -> Iterator[Event | Steps]:
        if kind == b"L":
            yield from (parse_event(line, self._log) for line in io.BytesIO(block))
            return
        columns = {}
        for number, name in enumerate(self._names):
            columns[name] = array("d")
            columns[name].frombytes(block[8 * count * number : 8 * count * (number + 1)])
        yield Steps(columns, cast("Step", parse_event(block[8 * count * len(self._names) :], self._log)))


def find_parsed(log: Path, names: tuple[str, ...]) -> ParsedLog | None:
    """Return the copy of this log with these fields of its steps; None if there is none that is whole and its own."""
    path = _path(log, names)
    with suppress(OSError, ValueError, TypeError, AttributeError), open_regular(path) as file:
        header = from_values(_Header, json.loads(file.read(HEADER_BYTES)))
        if header.format != FORMAT or _crc(file, header.body_bytes) != header.body_crc or file.read(1):
            return None
        with open_regular(log) as recorded:
            about = os.fstat(recorded.fileno())
            is_unchanged = tuple(header.log_state) == _state(about)
            if about.st_size < header.covered or not (is_unchanged or _crc(recorded, header.covered) == header.log_crc):
                return None
            return ParsedLog(path, log, names, header, recorded)
    return None


class ParsedLogWriter:
    """Writes the copy of a log while it is read, if it is long enough. A copy that cannot be written is no error.

    `start` is the copy that was read first.
    """

    def __init__(self, log: Path, names: tuple[str, ...], start: ParsedLog | None) -> None:
        self._log, self._names, self._start = log, names, start
        self._covered = self._log_crc = self._body_bytes = self._body_crc = 0
        self._last_line = 0
        self._lines: list[bytes] = []
        self._file: BinaryIO | None = None
        self._files = ExitStack()
        self._state: tuple[int, ...] = ()

    def __enter__(self) -> "ParsedLogWriter":
        covered = self._start.covered if self._start else 0
        with suppress(OSError):
            about = self._log.stat()
            if about.st_size - covered < max(LARGE, covered // 4):
                return self
            self._state, path = _state(about), _path(self._log, self._names)
            if self._start is None:
                path.unlink(missing_ok=True)
                self._open(path)
            else:
                with path.open("rb") as before:
                    path.unlink()
                    self._open(path)
                    before.seek(HEADER_BYTES)
                    while block := before.read(BLOCK):
                        self._write(block)
                header = self._start.header
                self._covered, self._log_crc = header.covered, header.log_crc
                self._last_line = header.last_line
        return self

    def _open(self, path: Path) -> None:
        partial = self._files.enter_context(new_file(path, durable=False))
        self._file = self._files.enter_context(partial.open("wb"))
        self._file.write(b" " * HEADER_BYTES)

    def parse(self, block: bytes) -> Iterator[Event | Steps]:
        """Yield what `parse_block` yields for the next lines of the log, and write it."""
        for item, line in parse_with_lines(block, self._log, self._names):
            if self._file is not None:
                self._add(item, line)
            yield item
        self._covered += len(block)
        if self._file is not None:
            self._last_line = len(block) - (block.rfind(b"\n", 0, -1) + 1)
            self._log_crc = zlib.crc32(block, self._log_crc)

    def _add(self, item: Event | Steps, line: bytes) -> None:
        if not isinstance(item, Steps):
            self._lines.append(line)
            return
        self._write_lines()
        values = b"".join(item.columns[name].tobytes() for name in self._names)
        self._write(FRAME.pack(b"S", len(item), len(values) + len(line)) + values + line)

    def _write_lines(self) -> None:
        if self._lines:
            lines, self._lines = b"".join(self._lines), []
            self._write(FRAME.pack(b"L", 0, len(lines)) + lines)

    def _write(self, content: bytes) -> None:
        if self._file is None:
            return
        try:
            self._file.write(content)
        except OSError as error:
            self._end(error)
            return
        self._body_bytes += len(content)
        self._body_crc = zlib.crc32(content, self._body_crc)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is None and self._file is not None:
            try:
                self._write_lines()
                is_same = _state(self._log.stat()) == self._state
                header = _Header(
                    format=FORMAT, covered=self._covered, log_crc=self._log_crc,
                    log_state=self._state if is_same else (), body_bytes=self._body_bytes, body_crc=self._body_crc,
                    last_line=self._last_line,
                )  # fmt: skip
                if self._file is not None:
                    self._file.seek(0)
                    self._file.write(json.dumps(asdict(header)).encode())
            except OSError as failure:
                error = failure
        self._end(error)

    def _end(self, error: BaseException | None) -> None:
        """Publish the copy, or remove it if there was an error."""
        is_open, self._file = self._file is not None, None
        with suppress(OSError):
            self._files.__exit__(type(error) if error else None, error, None)
            if is_open and error is None:
                _remove_oldest(_path(self._log, self._names))


def read_with_progress(log: Path, names: tuple[str, ...] = MEASURED) -> Iterator[Event | Steps]:
    """Like `read_blocks`, but also yield `Reading` now and then, and use the copy of a long log."""
    parsed = find_parsed(log, names)
    if parsed is not None:
        yield from parsed.items()
    with ParsedLogWriter(log, names, parsed) as writer:
        for block, reading in whole_lines(log, parsed.covered if parsed else 0):
            yield from writer.parse(block)
            yield reading


def _path(log: Path, names: tuple[str, ...]) -> Path:
    key = hashlib.sha256("\n".join((str(log.absolute()), *names)).encode(errors="surrogateescape"))
    return paths.cache_dir() / "logs" / f"{key.hexdigest()[:32]}.bin"


def _state(about: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file is replaced or written."""
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def _crc(file: BinaryIO, size: int) -> int:
    """Return the CRC-32 of the next `size` bytes, or of those that there are."""
    crc = 0
    while block := file.read(min(size, BLOCK)):
        crc, size = zlib.crc32(block, crc), size - len(block)
    return crc


def _remove_oldest(newest: Path) -> None:
    """Remove the oldest copies beyond `MOST_BYTES`, and files of writers that were killed."""
    total = 0
    by_age = sorted(((item.stat(), item) for item in newest.parent.iterdir()), key=lambda each: -each[0].st_mtime)
    for about, item in by_age:
        total += about.st_size
        is_abandoned = item.name.startswith(".") and time.time() - about.st_mtime > ABANDONED_S
        if item != newest and (is_abandoned or (total > MOST_BYTES and not item.name.startswith("."))):
            item.unlink(missing_ok=True)
