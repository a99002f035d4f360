"""A terminal whose app is forked from a process that has torch; a command of a test's own is started as it is."""

import fcntl
import os
import pty
import struct
import termios
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import pytest

from tests import forked
from tests.tui.conftest import Terminal, opened_terminal


@contextmanager
def opened(columns: int, rows: int, *words: str, **more: Any) -> Iterator[Terminal]:
    """`nanogpt-tui WORDS` in a terminal of that size."""
    if more:
        with opened_terminal(columns, rows, *words, **more) as screen:
            yield screen
        return
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    environment = {"TERM": "xterm-256color"}
    place = os.ttyname(slave)
    process: Any = forked.nanogpt_tui(words, terminal=place, controlling=False, environment=environment)
    screen = Terminal(process, master, columns, rows)
    try:
        yield screen
    finally:
        process.kill()
        process.wait(60)
        os.close(slave)
        os.close(screen._master)


@pytest.fixture
def terminal() -> Callable[..., AbstractContextManager[Terminal]]:
    return opened
