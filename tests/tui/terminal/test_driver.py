"""The line to the terminal: who writes never waits, and what is under way is known."""

import asyncio
import os
import select
import threading
import time
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import pytest
from textual import constants
from textual._compositor import LayoutUpdate
from textual.events import Key
from textual.geometry import Region
from textual.screen import Screen

from nanogpt_tui.app import LabApp
from nanogpt_tui.settings import Settings
from nanogpt_tui.terminal.driver import (
    MAX_PENDING_BYTES,
    STALL_TIMEOUT_S,
    BufferedDriver,
    CellParser,
    OutputThread,
    TerminalDriver,
    opened_nonblocking,
)

ROW = LayoutUpdate([], Region(0, 0, 1, 1))


def until(condition: Callable[[], object], timeout_s: float = 30) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "not in time"
        time.sleep(0.005)


def test_what_is_written_arrives_in_order_and_is_counted() -> None:
    reader, writer = os.pipe()
    line = OutputThread(writer, lambda: None)
    for number in range(100):
        line.write(f"{number},".encode())
    expected = b"".join(f"{number},".encode() for number in range(100))
    seen = b""
    while len(seen) < len(expected):
        seen += os.read(reader, 4096)
    assert seen == expected
    until(lambda: line.sent == len(expected) and not line.pending)
    line.stop()


def test_input_that_the_shell_has_taken_is_not_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """As when the job is stopped between the two calls."""
    master, terminal = os.openpty()
    app: Any = SimpleNamespace(_loop=None)
    ended = threading.Event()
    monkeypatch.setattr(select, "select", lambda *_: ([terminal], [], []))
    with opened_nonblocking(terminal) as descriptor:
        threading.Timer(0.1, ended.set).start()
        assert list(BufferedDriver.read_input(app, descriptor, ended)) == []
        assert os.get_blocking(terminal), "for the shell nothing changes"
    os.close(master)
    os.close(terminal)


def test_a_reader_that_reads_nothing_is_not_waited_for_and_all_arrives_when_it_does() -> None:
    reader, writer = os.pipe()
    drained = threading.Event()
    line = OutputThread(writer, drained.set)
    frame = b"x" * MAX_PENDING_BYTES
    line.write(5 * frame)  # a pipe holds 64 KiB
    for _ in range(11):
        line.write(frame)
    assert line.pending > MAX_PENDING_BYTES
    assert not drained.is_set()
    seen = 0
    while seen < 16 * MAX_PENDING_BYTES:
        seen += len(os.read(reader, 4096))
    assert drained.wait(30)
    assert (line.sent, line.pending) == (16 * MAX_PENDING_BYTES, 0)
    line.stop()


def test_a_terminal_that_another_program_made_non_blocking_gets_everything() -> None:
    reader, writer = os.pipe()
    os.set_blocking(writer, False)
    line = OutputThread(writer, lambda: None)
    size = 4 * 65_536  # a pipe holds 64 KiB
    line.write(b"x" * size)
    until(lambda: line.sent >= 65_536 or not line.pending)  # the pipe is full: the next write would block
    seen = 0
    while seen < size and line.pending:  # 0 also if it has given up
        seen += len(os.read(reader, size))
    until(lambda: line.sent == size)
    line.stop()


def test_stopping_does_not_wait_for_a_reader_that_never_comes_back() -> None:
    _reader, writer = os.pipe()
    line = OutputThread(writer, lambda: None)
    line.write(b"x" * 2**20)
    until(lambda: line.sent)
    began = time.monotonic()
    line.stop()
    assert time.monotonic() - began < 30 * STALL_TIMEOUT_S
    line.write(b"too late")
    assert not line.pending


def test_a_terminal_that_has_gone_takes_everything_silently() -> None:
    reader, writer = os.pipe()
    line = OutputThread(writer, lambda: None)
    os.close(reader)
    line.write(b"x")
    until(lambda: not line.pending)
    line.write(b"y")
    line.stop()
    assert line.sent == 0


async def test_a_frame_that_is_left_out_while_the_line_drains_is_shown_later(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    size = 65_536 + 2 * MAX_PENDING_BYTES  # more than a pipe holds and than may wait
    app = LabApp(Settings())

    class Drains(TerminalDriver):
        """One whose terminal takes all that is under way just when somebody has looked."""

        @property
        def is_congested(self) -> bool:
            was_behind = super().is_congested
            seen = 0
            while seen < size:
                seen += len(os.read(reader, size - seen))
            until(drained.is_set)
            return was_behind

    drained = threading.Event()
    driver = Drains(app)

    def told() -> None:
        driver._drained()
        drained.set()

    driver._writer = OutputThread(writer, told)
    driver.write("x" * size)
    asked: list[object] = []
    monkeypatch.setattr(app, "call_later", asked.append)
    app._driver = driver
    app._display(Screen(), ROW)
    await asyncio.sleep(0)
    assert asked == [app.refresh]
    driver._writer.stop()


async def test_at_the_end_of_the_input_the_app_hangs_up_and_nothing_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    reader, writer = os.pipe()
    with os.fdopen(reader) as keys:
        monkeypatch.setattr("sys.__stdin__", keys)
        hung_up = asyncio.Event()
        driver = TerminalDriver(SimpleNamespace(terminal_closed=hung_up.set))
        reading = threading.Thread(target=driver.run_input_thread, daemon=True)
        reading.start()
        os.close(writer)
        await asyncio.wait_for(hung_up.wait(), 60)
        reading.join(60)
        assert not reading.is_alive()


@pytest.mark.parametrize("typed", ["\x1b[1114112;1u", "\x1b[99999999u"])
def test_the_number_of_no_character_ends_nothing(typed: str) -> None:
    parser = CellParser(False)
    list(parser.feed(typed))  # raised ValueError
    time.sleep(2 * constants.ESCAPE_DELAY)
    list(parser.tick())  # what is no sequence is given again as keys
    assert [message.key for message in parser.feed("a") if isinstance(message, Key)] == ["a"]
