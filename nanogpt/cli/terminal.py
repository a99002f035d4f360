"""What the terminal can do, according to its environment and its answers to queries."""

import os
import re
import select
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

ANSWER_S = 0.5  # a terminal answers immediately, but the connection may be slow
# DECRQM for mode 2026, then DA1, which every terminal answers: so it is known when the first has no answer.
SYNCHRONIZED_QUERY = b"\x1b[?2026$p\x1b[c"


def colours(environment: Mapping[str, str]) -> int:
    """Return how many colours the terminal shows according to its environment: 16,777,216, 256, 16, or 0."""
    term = environment.get("TERM", "")
    if environment.get("NO_COLOR") or term in ("", "dumb"):
        return 0
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit") or term.endswith("-direct"):
        return 1 << 24
    return 256 if "256" in term or term.startswith(("xterm-kitty", "alacritty", "foot", "wezterm")) else 16


def size() -> tuple[int, int] | None:
    """Return (columns, rows); None if no standard stream is a terminal."""
    for stream in (sys.__stdout__, sys.__stderr__, sys.__stdin__):
        with suppress(OSError, ValueError, AttributeError):
            columns, rows = os.get_terminal_size(stream.fileno())  # type: ignore[union-attr]
            return columns, rows
    return None


def synchronises_output() -> bool | None:
    """Return whether the terminal supports synchronized output (mode 2026); None if there is no terminal or answer."""
    if os.environ.get("TERM") in (None, "", "dumb"):  # it would print the query
        return None
    if os.environ.get("TERM_PROGRAM") == "Apple_Terminal":  # it has no such mode, and would print a part of the query
        return False
    try:
        import termios
        import tty

        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except (ImportError, OSError):
        return None
    try:
        if os.tcgetpgrp(terminal) != os.getpgrp():  # a job in the background would be stopped by the next line but one
            return None
        before = termios.tcgetattr(terminal)
        try:
            tty.setcbreak(terminal)
            os.write(terminal, SYNCHRONIZED_QUERY)
            return _is_supported(_read_answer(terminal))
        finally:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
    except (OSError, termios.error):
        return None
    finally:
        os.close(terminal)


def _read_answer(terminal: int) -> bytes:
    """Return the terminal's output up to its answer to DA1, or until ANSWER_S is over."""
    answer, deadline = b"", time.monotonic() + ANSWER_S
    while not re.search(rb"\x1b\[\?[\d;]*c", answer):
        if not select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
            break
        answer += os.read(terminal, 1024)
    return answer


def _is_supported(answer: bytes) -> bool | None:
    mode = re.search(rb"\x1b\[\?2026;(\d)\$y", answer)
    if mode:
        return mode[1] in (b"1", b"2", b"3")  # 0 and 4: unknown, and permanently off
    return False if answer else None
