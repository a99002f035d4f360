"""A copy of a long `events.jsonl` in the cache folder, with the steps as binary columns. Imports no torch.

Parsing the lines of a million steps takes seconds, reading their columns a tenth of one. A program that has read a
whole log writes the copy, and later ones parse only the lines after it. A longer copy replaces it atomically. It may be
removed at any time: if it is missing, damaged or of another log, the log is parsed. It is a header of `HEADER_BYTES`
(JSON, then spaces) and blocks:

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
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import BinaryIO, cast

from nanogpt import paths
from nanogpt.errors import UserError
from nanogpt.events import Reading, Step
from nanogpt.files import new_file, open_regular, why
from nanogpt.records import from_values
from nanogpt.runs.event_log import (
    BLOCK,
    LARGE,
    LONGEST_EVENT,
    MEASURED,
    LogItem,
    Steps,
    parse_event,
    parse_lazily,
    parse_with_lines,
    whole_lines,
)

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
    """The checked copy of the beginning of a log. `first_line` and `last_line` are of this beginning.

    It stays open until `close`, so that what was checked is read, whatever is at its path meanwhile.
    """

    def __init__(self, file: BinaryIO, log: Path, names: tuple[str, ...], header: _Header, recorded: BinaryIO) -> None:
        self._file, self._names, self.header = file, names, header
        self._label = Path(log.name)
        self._log_bytes = os.fstat(recorded.fileno()).st_size
        recorded.seek(0)
        self.first_line = recorded.readline(header.covered)
        recorded.seek(header.covered - header.last_line)
        self.last_line = recorded.read(header.last_line)

    @property
    def covered(self) -> int:
        """How many bytes of the log it covers: whole lines."""
        return self.header.covered

    def close(self) -> None:
        """Close the file. The properties stay."""
        self._file.close()

    def items(self) -> Iterator[LogItem]:
        """Yield what `parse_with_lines` yields for the covered lines, and `Reading`. Raise `UserError`."""
        done = reported = 0
        try:
            self._file.seek(HEADER_BYTES)
            while frame := self._file.read(FRAME.size):
                kind, count, size = FRAME.unpack(frame)
                yield from self._parsed(kind, count, self._file.read(size))
                done += FRAME.size + size
                if done - reported >= BLOCK or done == self.header.body_bytes:
                    reported = done
                    share = done / self.header.body_bytes
                    yield Reading(done_bytes=int(share * self.covered), total_bytes=self._log_bytes)
        except OSError as error:
            raise UserError(f"cannot read {self._file.name}: {why(error)}; it may be removed") from None

    def body(self) -> Iterator[bytes]:
        """Yield the bytes after the header in parts. Raise OSError."""
        self._file.seek(HEADER_BYTES)
        while part := self._file.read(BLOCK):
            yield part

    def _parsed(self, kind: bytes, count: int, block: bytes) -> Iterator[LogItem]:
        if kind == b"L":
            yield from (parse_lazily(line, self._label) for line in io.BytesIO(block))
            return
        columns = {}
        for number, name in enumerate(self._names):
            columns[name] = array("d")
            columns[name].frombytes(block[8 * count * number : 8 * count * (number + 1)])
        yield Steps(columns, cast("Step", parse_event(block[8 * count * len(self._names) :], self._label)))


def find_parsed(log: Path, names: tuple[str, ...]) -> ParsedLog | None:
    """Return the copy of this log with these fields of its steps; None if it is missing, damaged or of another log."""
    with suppress(OSError, ValueError, TypeError, AttributeError, RecursionError, UserError), ExitStack() as files:
        file = files.enter_context(open_regular(_path(log, names)))
        header = from_values(_Header, json.loads(file.read(HEADER_BYTES)))
        if header.format != FORMAT or _crc(file, header.body_bytes) != header.body_crc or file.read(1):
            return None
        recorded = files.enter_context(open_regular(log))
        about = os.fstat(recorded.fileno())
        is_unchanged = tuple(header.log_state) == _state(about)
        if about.st_size < header.covered or not (is_unchanged or _crc(recorded, header.covered) == header.log_crc):
            return None
        parsed = ParsedLog(file, log, names, header, recorded)
        files.pop_all()
        recorded.close()
        return parsed
    return None


class CachedParser:
    """Parses a log: what its copy has is read from there, and a longer copy is written if enough lines follow.

    First iterate over `stored_items`, then call `parse` with the lines from the byte `covered` on. The copy is replaced
    when the `with` block ends without an error. A copy that cannot be written is no error.
    """

    def __init__(self, log: Path, names: tuple[str, ...]) -> None:
        self.start: ParsedLog | None = None  # the copy that was read
        self.covered = 0  # bytes of the log that have been read, or are in the copy
        self._log, self._names = log, names
        self._log_crc = self._body_bytes = self._body_crc = self._last_line = 0
        self._lines: list[bytes] = []
        self._file: BinaryIO | None = None
        self._files = ExitStack()
        self._state: tuple[int, ...] = ()

    def __enter__(self) -> "CachedParser":
        return self

    def stored_items(self) -> Iterator[LogItem]:
        """Yield what `parse_with_lines` yields for the lines of the copy, and `Reading`. Raise `UserError`."""
        with suppress(OSError):
            self._state = _state(self._log.stat())
        self.start = find_parsed(self._log, self._names)
        if self.start is None:
            self._begin()
            return
        with closing(self.start):
            yield from self.start.items()
            header = self.start.header
            self.covered, self._log_crc, self._last_line = header.covered, header.log_crc, header.last_line
            self._begin(self.start)

    def _begin(self, start: ParsedLog | None = None) -> None:
        """Begin a copy with the content of `start`, if enough lines follow it."""
        try:
            if self._log.stat().st_size - self.covered < max(LARGE, self.covered // 4):
                return
            path = _path(self._log, self._names)
            partial = self._files.enter_context(new_file(path, durable=False, replace=True))
            self._file = self._files.enter_context(partial.open("wb"))
            self._file.write(b" " * HEADER_BYTES)
            for part in start.body() if start else ():
                self._write(part)
        except (OSError, UserError) as error:
            self._discard(error)

    def parse(self, block: bytes) -> Iterator[LogItem]:
        """Yield what `parse_with_lines` yields for the next lines of the log, and write it."""
        if b"\0" in block or block.find(b"\n") >= LONGEST_EVENT:  # content has not arrived yet, or a line was cut
            self._discard(ValueError("the lines may not be those of the log"))
        for item, line in parse_with_lines(block, Path(self._log.name), self._names):
            if self._file is not None:
                self._add(item, line)
            yield item
        self.covered += len(block)
        if self._file is not None:
            self._last_line = len(block) - (block.rfind(b"\n", 0, -1) + 1)
            self._log_crc = zlib.crc32(block, self._log_crc)

    def _add(self, item: LogItem, line: bytes) -> None:
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
            self._discard(error)
            return
        self._body_bytes += len(content)
        self._body_crc = zlib.crc32(content, self._body_crc)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            self._discard(error)
            return
        self._write_lines()
        if self._file is None:
            return
        try:
            self._write_header(self._file)
        except OSError as failure:
            self._discard(failure)
            return
        with suppress(OSError):
            self._files.close()
            _remove_oldest(_path(self._log, self._names))

    def _write_header(self, file: BinaryIO) -> None:
        is_same = _state(self._log.stat()) == self._state
        header = _Header(
            format=FORMAT, covered=self.covered, log_crc=self._log_crc, log_state=self._state if is_same else (),
            body_bytes=self._body_bytes, body_crc=self._body_crc, last_line=self._last_line,
        )  # fmt: skip
        file.seek(0)
        file.write(json.dumps(asdict(header)).encode())

    def _discard(self, error: BaseException) -> None:
        """Remove what has been written of the new copy."""
        self._file = None
        with suppress(OSError):
            self._files.__exit__(type(error), error, error.__traceback__)


def read_with_progress(log: Path, names: tuple[str, ...] = MEASURED) -> Iterator[LogItem]:
    """Like `read_blocks`, but use the copy of a long log, leave measurements unparsed, and also yield `Reading`."""
    with CachedParser(log, names) as parser:
        yield from parser.stored_items()
        for block, reading in whole_lines(log, parser.covered):
            yield from parser.parse(block)
            yield reading


def remove_copies(log: Path) -> None:
    """Remove the copies of a log that was deleted, if they can be removed."""
    with suppress(OSError, UserError):
        for path in _copies(log):
            path.unlink(missing_ok=True)


def move_copies(log: Path, new: Path) -> None:
    """Keep the copies of a log for its new path, if they can be renamed."""
    with suppress(OSError, UserError):
        for path in _copies(log):
            path.replace(path.with_name(path.name.replace(_log_key(log), _log_key(new))))


def _folder() -> Path:
    return paths.cache_dir() / "logs"


def _path(log: Path, names: tuple[str, ...]) -> Path:
    return _folder() / f"{_log_key(log)}-{_hash(*names)}.bin"


def _copies(log: Path) -> list[Path]:
    return list(_folder().glob(f"{_log_key(log)}-*"))


def _log_key(log: Path) -> str:
    return _hash(str(log.absolute()))


def _hash(*texts: str) -> str:
    return hashlib.sha256("\n".join(texts).encode(errors="surrogateescape")).hexdigest()[:32]


def _state(about: os.stat_result) -> tuple[int, ...]:
    """Return what changes when a file is replaced or written."""
    return about.st_dev, about.st_ino, about.st_size, about.st_mtime_ns


def _crc(file: BinaryIO, size: int) -> int:
    """Return the CRC-32 of the next `size` bytes, or of fewer if the file ends before."""
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
