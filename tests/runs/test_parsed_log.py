"""The copy of a long log with binary columns: the same events as from the log alone, whatever happens to either."""

import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from itertools import chain
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import IO, Any

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nanogpt import paths
from nanogpt.errors import UserError
from nanogpt.events import Event, Reading, Saved, Status, to_json
from nanogpt.runs import event_log, parsed_log
from nanogpt.runs.event_log import LayerHealthLine, LogItem, Steps, parse_block
from nanogpt.runs.following import follow_blocks
from nanogpt.runs.parsed_log import ParsedLog, find_parsed, read_with_progress
from tests.made_events import started, stepped
from tests.narrowing import expect

NAMES = ("step", "loss", "grad_norm")


@pytest.fixture(autouse=True)
def every_log_is_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsed_log, "LARGE", 1)


def line(event: Event) -> bytes:
    return to_json(event).encode() + b"\n"


def saved(step: int) -> Saved:
    return Saved(time=1.0, step=step, path="p", is_best=True, stall_s=0.0)


LINES = [
    line(started()),
    *(line(stepped(step, loss=math.nan if step == 7 else 1 / step)) for step in range(1, 20)),
    line(saved(19)),
    b'{"event":"Step","step":1,"loss":"what"}\n',
    b"\xff\n",
    line(started(step=10)),
    *(line(stepped(step)) for step in range(11, 30)),
]


def flat(items: Iterator[LogItem]) -> list[str]:
    """Return the figures of each step and the text of each other event, without `Reading` and times of reading."""
    found: list[str] = []
    for item in items:
        if isinstance(item, Steps):
            rows = zip(*(item.columns[name].tolist() for name in NAMES), strict=True)
            found += [str(row) for row in rows]
            assert item.last.step == item.columns["step"][-1]
        elif isinstance(item, LayerHealthLine):
            found.append(to_json(item.event))
        elif not isinstance(item, Reading | Status):
            found.append(to_json(item).partition('"time":')[0] + str(getattr(item, "text", "")))
    return found


def expected(log: Path) -> list[str]:
    whole = log.read_bytes().rpartition(b"\n")
    return flat(parse_block(whole[0] + whole[1], Path(log.name), NAMES))


def read(log: Path) -> list[str]:
    return flat(read_with_progress(log, NAMES))


def followed(log: Path) -> list[str]:
    """Return what a watcher gets until it has caught up."""

    def items() -> Iterator[LogItem]:
        for item in follow_blocks(log.parent, NAMES):
            if isinstance(item, Status):
                return
            yield item

    return flat(items())


READERS = pytest.mark.parametrize("reader", [read, followed])


@pytest.fixture
def log(tmp_path: Path) -> Path:
    run = tmp_path / "run"
    run.mkdir()
    (run / "run.toml").write_text("[run]\nformat = 2\n")
    path = run / "events.jsonl"
    path.write_bytes(b"".join(LINES))
    return path


def copies() -> list[Path]:
    folder = paths.cache_dir() / "logs"
    return sorted(folder.iterdir()) if folder.exists() else []


@READERS
def test_a_log_is_read_from_its_copy(reader: Callable[[Path], list[str]], log: Path) -> None:
    whole = expected(log)
    assert reader(log) == whole
    with closing(expect(ParsedLog, find_parsed(log, NAMES))) as parsed:
        assert parsed.covered == log.stat().st_size
        assert flat(parsed.items()) == whole
    assert reader(log) == whole


@READERS
def test_only_the_lines_after_the_copy_are_parsed(
    reader: Callable[[Path], list[str]], log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader(log)
    more = line(stepped(30)) + line(saved(30))
    with log.open("ab") as file:
        file.write(more)
    whole, parsed = expected(log), list[bytes]()

    def parse(block: bytes, path: Path, names: tuple[str, ...]) -> Iterator[tuple[LogItem, bytes]]:
        parsed.append(block)
        return event_log.parse_with_lines(block, path, names)

    monkeypatch.setattr(parsed_log, "parse_with_lines", parse)
    assert reader(log) == whole
    assert parsed == [more]


@given(st.lists(st.integers(0, len(b"".join(LINES))), min_size=1, max_size=4))
@hypothesis_settings(max_examples=40)
def test_a_log_that_grows_is_read_the_same_with_a_copy_of_any_beginning(cuts: list[int]) -> None:
    content = b"".join(LINES)
    with TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr(parsed_log, "LARGE", 1)
        patch.setenv("NANOGPT_CACHE_DIR", f"{folder}/cache")
        log = Path(folder) / "events.jsonl"
        for cut in [*sorted(cuts), len(content)]:
            log.write_bytes(content[:cut])
            assert read(log) == expected(log)


@pytest.mark.parametrize("place", [0, 5, parsed_log.HEADER_BYTES - 1, parsed_log.HEADER_BYTES + 30, -1])
@READERS
def test_a_damaged_copy_is_ignored_and_replaced(reader: Callable[[Path], list[str]], log: Path, place: int) -> None:
    reader(log)
    (copy,) = copies()
    content = bytearray(copy.read_bytes())
    content[place] ^= 0x55
    copy.write_bytes(content)
    assert find_parsed(log, NAMES) is None
    assert reader(log) == expected(log)
    assert find_parsed(log, NAMES) is not None


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\0" * 5000, b"[" * 5000, b'{"format":1}' + b" " * 2000])
def test_a_copy_that_is_none_is_ignored(log: Path, content: bytes) -> None:
    read(log)
    (copy,) = copies()
    for damaged in (content, copy.read_bytes()[:-1], copy.read_bytes() + b"x"):
        copy.write_bytes(damaged)
        assert find_parsed(log, NAMES) is None
    assert read(log) == expected(log)


def test_the_copy_of_another_log_is_ignored(log: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.jsonl"
    other.write_bytes(b"".join(LINES).replace(b'"loss":1.0', b'"loss":2.0'))
    read(log)
    (own,) = copies()
    read(other)
    (theirs,) = set(copies()) - {own}
    shutil.copy(theirs, own)
    assert find_parsed(log, NAMES) is None
    assert read(log) == expected(log)


@READERS
def test_a_log_that_is_cut_replaced_or_edited_is_parsed(reader: Callable[[Path], list[str]], log: Path) -> None:
    for content in (
        b"".join(LINES[:8]),
        b"".join(LINES).replace(b'"loss":1.0', b'"loss":3.0'),  # as long, in the middle
        b"".join(reversed(LINES)),
        b"",
        b"".join(LINES * 2),
    ):
        log.write_bytes(b"".join(LINES))
        reader(log)
        log.write_bytes(content)
        assert reader(log) == expected(log)


def test_a_log_that_was_copied_keeps_what_was_read(log: Path) -> None:
    """It has another inode and another time."""
    read(log)
    content = log.read_bytes()
    log.unlink()
    log.write_bytes(content)
    os.utime(log, (1, 1))
    assert find_parsed(log, NAMES) is not None


def test_other_fields_have_a_copy_of_their_own(log: Path) -> None:
    read(log)
    assert find_parsed(log, ("step",)) is None


@READERS
def test_without_a_place_for_the_copy_the_log_is_read(
    reader: Callable[[Path], list[str]], log: Path, unprivileged: None
) -> None:
    folder = paths.cache_dir()
    folder.mkdir(parents=True)
    folder.chmod(0o500)
    try:
        assert reader(log) == expected(log)
        assert reader(log) == expected(log)
        assert list(folder.iterdir()) == []
    finally:
        folder.chmod(0o700)


class FullDisk:
    """A file of which the first `free` writes succeed."""

    def __init__(self, file: IO[bytes], free: int) -> None:
        self._file, self._free = file, free

    def __enter__(self) -> "FullDisk":
        return self

    def __exit__(self, *exception: object) -> None:
        self._file.close()

    def write(self, content: bytes) -> int:
        self._free -= 1
        if self._free < 0:
            raise OSError(28, "No space left on device")
        return self._file.write(content)


@pytest.mark.parametrize("free", [0, 1, 2])
@READERS
def test_a_full_disk_ends_the_copy_and_not_the_reading(
    reader: Callable[[Path], list[str]], log: Path, monkeypatch: pytest.MonkeyPatch, free: int
) -> None:
    """It may be full at the header, in what is taken from the last copy, and in the lines after it."""
    reader(log)
    (before,) = copies()
    content = before.read_bytes()
    with log.open("ab") as file:
        file.write(line(stepped(30)) * 100)
    whole, open_file = expected(log), Path.open

    def open_full(self: Path, mode: str = "r", *arguments: Any, **options: Any) -> Any:
        file = open_file(self, mode, *arguments, **options)
        return FullDisk(file, free) if mode == "wb" else file

    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", open_full)
        assert reader(log) == whole
    assert copies() == [before]
    assert before.read_bytes() == content
    assert reader(log) == whole


@READERS
def test_a_reader_continues_though_another_one_replaces_the_copy(
    reader: Callable[[Path], list[str]], log: Path
) -> None:
    """The other one reads a longer log, whose copy it publishes."""
    reader(log)
    with log.open("ab") as file:
        file.write(line(stepped(30)) * 100)
    whole = expected(log)
    items = read_with_progress(log, NAMES)
    first = next(iter(items))
    assert reader(log) == whole
    assert flat(chain([first], items)) == whole
    assert reader(log) == whole


@READERS
def test_a_copy_that_is_published_between_reading_and_writing_does_not_double_steps(
    reader: Callable[[Path], list[str]], log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = log.read_bytes()
    log.write_bytes(b"".join(LINES[:8]))
    reader(log)
    log.write_bytes(content)
    whole, stored = expected(log), ParsedLog.items
    others = [log]

    def read_then_let_another_read(self: ParsedLog) -> Iterator[LogItem]:
        yield from stored(self)
        while others:
            assert reader(others.pop()) == whole

    monkeypatch.setattr(ParsedLog, "items", read_then_let_another_read)
    for _ in range(2):
        assert reader(log) == whole


def test_an_earlier_copy_stays_until_the_next_is_complete(log: Path) -> None:
    read(log)
    (before,) = copies()
    with log.open("ab") as file:
        file.write(line(stepped(30)) * 100)
    with closing(read_with_progress(log, NAMES)) as items:  # type: ignore[type-var]
        for item in items:
            if isinstance(item, Steps) and item.last.step == 30:
                break
        assert before in copies()
    assert copies() == [before]
    assert find_parsed(log, NAMES) is not None


def test_a_log_that_is_removed_while_its_copy_is_read_is_read_as_far_as_the_copy(log: Path) -> None:
    whole = read(log)
    items = read_with_progress(log, NAMES)
    first = next(iter(items))
    log.unlink()
    assert flat(chain([first], items)) == whole


@READERS
def test_zero_bytes_of_a_network_disk_get_into_no_copy(reader: Callable[[Path], list[str]], log: Path) -> None:
    """The content arrives later without a change of size and time."""
    content, about = log.read_bytes(), log.stat()
    at = content.index(b'{"event":"Saved"')
    log.write_bytes(content[:at] + bytes(20) + content[at + 20 :])
    os.utime(log, ns=(about.st_atime_ns, about.st_mtime_ns))
    reader(log)
    assert copies() == []
    with log.open("r+b") as file:
        file.write(content)
    os.utime(log, ns=(about.st_atime_ns, about.st_mtime_ns))
    assert reader(log) == expected(log)


def test_a_log_with_a_line_that_is_cut_has_no_copy(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(event_log, "BLOCK", 500)
    for module in (event_log, parsed_log):
        monkeypatch.setattr(module, "LONGEST_EVENT", 2000)
    log.write_bytes(b"".join([*LINES[:5], b"x" * 5000 + b"\n", *LINES[5:]]))
    once = read(log)
    assert copies() == []
    assert read(log) == once


@READERS
def test_without_a_home_folder_a_log_is_read(
    reader: Callable[[Path], list[str]], log: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def homeless() -> Path:
        raise UserError("this user has no home folder")

    monkeypatch.setattr(paths, "cache_dir", homeless)
    assert reader(log) == expected(log)
    parsed_log.remove_copies(log)


def test_the_copies_of_a_log_are_removed_with_it(log: Path) -> None:
    other = log.with_name("other.jsonl")
    other.write_bytes(log.read_bytes())
    read(other)
    kept = copies()
    read(log)
    list(read_with_progress(log, ("step",)))
    assert len(copies()) == 3
    parsed_log.remove_copies(log)
    assert copies() == kept


def test_a_copy_is_closed_after_reading(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(log)
    opened: list[ParsedLog] = []

    def find(log: Path, names: tuple[str, ...]) -> ParsedLog | None:
        opened.append(expect(ParsedLog, find_parsed(log, names)))
        return opened[-1]

    monkeypatch.setattr(parsed_log, "find_parsed", find)
    read(log)
    items = read_with_progress(log, NAMES)
    next(iter(items))
    items.close()  # type: ignore[attr-defined]
    assert [each._file.closed for each in opened] == [True, True]


def test_a_reader_that_ends_early_leaves_no_copy(log: Path) -> None:
    items = read_with_progress(log, NAMES)
    next(iter(items))
    items.close()  # type: ignore[attr-defined]
    assert copies() == []


def test_a_reader_that_is_killed_leaves_nothing_that_counts(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = f"""
import os
from pathlib import Path
from nanogpt.runs import event_log, parsed_log
parsed_log.LARGE = 1
items = parsed_log.read_with_progress(Path({str(log)!r}), {NAMES!r})
[next(items) for _ in range(3)]
os.kill(os.getpid(), {int(signal.SIGKILL)})
"""
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == -signal.SIGKILL
    (partial,) = copies()
    assert partial.name.startswith(".")
    assert read(log) == expected(log)
    assert partial in copies()
    monkeypatch.setattr(parsed_log, "ABANDONED_S", -1.0)
    with log.open("ab") as file:
        file.write(line(stepped(30)) * 100)
    assert read(log) == expected(log)
    assert len(copies()) == 1


def test_the_oldest_copies_make_room(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read(log)
    (first,) = copies()
    os.utime(first, (1, 1))
    monkeypatch.setattr(parsed_log, "MOST_BYTES", 1)
    other = log.with_name("other.jsonl")
    other.write_bytes(log.read_bytes())
    read(other)
    assert len(copies()) == 1
    assert find_parsed(other, NAMES) is not None


def test_a_short_log_has_no_copy(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parsed_log, "LARGE", log.stat().st_size + 1)
    assert read(log) == expected(log)
    assert copies() == []
