"""What the terminal can do, from its environment and, where there is one, its own answer. Knows nothing of commands."""

import os
import re
import select
import sys
import time
from collections.abc import Mapping
from contextlib import suppress

ANSWER_S = 0.5  # a terminal answers at once; one behind a slow connection may not
# DECRQM for mode 2026, then "what are you", which every terminal answers: so silence about the first is an answer.
ASK_SYNCHRONISED = b"\x1b[?2026$p\x1b[c"


def colours(environment: Mapping[str, str]) -> int:
    """How many colours the terminal shows, as far as its environment says: 16,777,216, 256, 16, or 0 for none."""
    term = environment.get("TERM", "")
    if environment.get("NO_COLOR") or term in ("", "dumb"):
        return 0
    if environment.get("COLORTERM", "").lower() in ("truecolor", "24bit") or term.endswith("-direct"):
        return 1 << 24
    return 256 if "256" in term or term.startswith(("xterm-kitty", "alacritty", "foot", "wezterm")) else 16


def size() -> tuple[int, int] | None:
    """(columns, rows); None where no standard stream is a terminal."""
    for stream in (sys.__stdout__, sys.__stderr__, sys.__stdin__):
        with suppress(OSError, ValueError, AttributeError):
            columns, rows = os.get_terminal_size(stream.fileno())  # type: ignore[union-attr]
            return columns, rows
    return None


def synchronises_output() -> bool | None:
    """Whether the terminal shows a repaint as a whole (mode 2026); None where it does not answer, or is none."""
    if os.environ.get("TERM") in (None, "", "dumb"):  # it would show the question
        return None
    try:
        import termios
        import tty

        terminal = os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY)
    except (ImportError, OSError):
        return None
    try:
        before = termios.tcgetattr(terminal)
        try:
            tty.setcbreak(terminal)
            os.write(terminal, ASK_SYNCHRONISED)
            return _understood(_answer(terminal))
        finally:
            termios.tcsetattr(terminal, termios.TCSAFLUSH, before)
    except (OSError, termios.error):
        return None
    finally:
        os.close(terminal)


def _answer(terminal: int) -> bytes:
    """What the terminal says, until it has said what it is, or the time is over."""
    said, deadline = b"", time.monotonic() + ANSWER_S
    while not re.search(rb"\x1b\[\?[\d;]*c", said):
        if not select.select([terminal], [], [], max(0.0, deadline - time.monotonic()))[0]:
            break
        said += os.read(terminal, 1024)
    return said


def _understood(said: bytes) -> bool | None:
    mode = re.search(rb"\x1b\[\?2026;(\d)\$y", said)
    if mode:
        return mode[1] in (b"1", b"2", b"3")  # 0 and 4: not known, and never on
    return False if said else None
