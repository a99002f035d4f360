"""The copy of a long log with binary columns: the same events as from the log alone, whatever happens to either."""

import math
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from nanogpt import paths
from nanogpt.events import Event, Reading, Saved, Status, to_json
from nanogpt.runs import event_log, parsed_log
from nanogpt.runs.event_log import Steps, parse_block
from nanogpt.runs.following import follow_blocks
from nanogpt.runs.parsed_log import find_parsed, read_with_progress
from tests.made_events import started, stepped

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


def flat(items: Iterator[Event | Steps]) -> list[str]:
    """Return the figures of each step and the text of each other event, without `Reading` and times of reading."""
    found: list[str] = []
    for item in items:
        if isinstance(item, Steps):
            rows = zip(*(item.columns[name].tolist() for name in NAMES), strict=True)
            found += [str(row) for row in rows]
            assert item.last.step == item.columns["step"][-1]
        elif not isinstance(item, Reading | Status):
            found.append(to_json(item).partition('"time":')[0] + str(getattr(item, "text", "")))
    return found


def expected(log: Path) -> list[str]:
    whole = log.read_bytes().rpartition(b"\n")
    return flat(parse_block(whole[0] + whole[1], log, NAMES))


def read(log: Path) -> list[str]:
    return flat(read_with_progress(log, NAMES))


def followed(log: Path) -> list[str]:
    """Return what a watcher gets until it has caught up."""

    def items() -> Iterator[Event | Steps]:
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
    parsed = find_parsed(log, NAMES) or find_parsed(log.absolute(), NAMES)
    assert parsed is not None
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

    def parse(block: bytes, path: Path, names: tuple[str, ...]) -> Iterator[tuple[Event | Steps, bytes]]:
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


@pytest.mark.parametrize("content", [b"", b"{}", b"[1]", b"\0" * 5000, b'{"format":1}' + b" " * 2000])
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


def test_a_full_disk_ends_the_copy_and_not_the_reading(log: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(self: parsed_log.ParsedLogWriter, content: bytes) -> None:
        self._end(OSError(28, "No space left on device"))

    monkeypatch.setattr(parsed_log.ParsedLogWriter, "_write", write)
    assert read(log) == expected(log)
    assert copies() == []


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
