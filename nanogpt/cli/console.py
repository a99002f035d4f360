"""What a command says to the person, on stderr: lines, a bar, a line that rewrites itself. Knows nothing of commands.

stdout is for data and is not touched here. Where stderr is no terminal, a bar and a live line become a plain line now
and then. All text is made harmless first: it may come from a file, a model or the network.
"""

import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol
from unicodedata import east_asian_width

from nanogpt.formatting import duration, printable

TERMINAL_INTERVAL_S = 0.05
PLAIN_INTERVAL_S = 5.0
BAR_DELAY_S = 0.3  # what is done sooner needs no bar
BAR_COLUMNS = 24


def talk(text: str = "") -> None:
    """Prints a line to stderr."""
    _say(printable(text) + "\n")


def _say(text: str) -> None:
    """Writes to stderr. Where its terminal or its reader has gone, nobody listens, and that stops no work."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        _silence(sys.stderr.fileno())


def _silence(*descriptors: int) -> None:
    """From now on what is written to these goes nowhere."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(nowhere, descriptor)
    os.close(nowhere)


@contextmanager
def surviving_the_terminal() -> Iterator[None]:
    """Within it the process goes on, headless, when its terminal is closed or its connection drops (SIGHUP)."""
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    in_main = threading.current_thread() is threading.main_thread()
    if hangup is None or not in_main or signal.getsignal(hangup) is not signal.SIG_DFL:  # under nohup it is ignored
        yield
        return
    terminals = [descriptor for descriptor in (0, 1, 2) if os.isatty(descriptor)]
    signal.signal(hangup, lambda number, frame: _silence(*terminals))
    try:
        yield
    finally:
        signal.signal(hangup, signal.SIG_DFL)


def on_terminal() -> bool:
    """Whether stderr is a terminal that can rewrite a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class Update(Protocol):
    """Moves a bar: `done` of `total` bytes (None where it is not known), with a word on what happens now."""

    def __call__(self, done: int, total: int | None, note: str = "") -> None: ...


@contextmanager
def bar(label: str) -> Iterator[Update]:
    """A progress bar with rate and time left, for work that is counted in bytes. Wiped when the work is done."""
    began = time.monotonic()
    first: int | None = None  # a resumed download does not begin at 0, and its rate must not count what was there

    with live_line() as show:

        def update(done: int, total: int | None, note: str = "") -> None:
            nonlocal first
            first = done if first is None else first
            elapsed_s = time.monotonic() - began
            if elapsed_s > BAR_DELAY_S:
                show("  ".join(filter(None, (label, *_progress(done, total, (done - first) / elapsed_s), note))))

        yield update
        show("")


def _progress(done: int, total: int | None, bytes_per_second: float) -> Iterator[str]:
    if total:
        full = min(BAR_COLUMNS, BAR_COLUMNS * done // total)
        yield "━" * full + "╌" * (BAR_COLUMNS - full)
        yield f"{done / total:4.0%} of {total / 1e6:.1f} MB"
    else:
        yield f"{done / 1e6:.1f} MB"
    yield f"{bytes_per_second / 1e6:.1f} MB/s"
    if total and bytes_per_second:
        yield f"{duration((total - done) / bytes_per_second)} left"


@contextmanager
def live_line() -> Iterator[Callable[[str], None]]:
    """Yields a function that replaces the line shown before with its text; the last one stays.

    An empty text wipes the line, so that `talk` can put a lasting one in its place.
    """
    rewrite = on_terminal()
    interval_s = TERMINAL_INTERVAL_S if rewrite else PLAIN_INTERVAL_S
    shown = waiting = ""
    spoke = float("-inf")

    def put(text: str) -> None:
        nonlocal shown, waiting
        waiting = ""
        if rewrite:
            text = _rewritten(text, shown)
            shown = text
        elif text:
            talk(text)

    def show(text: str) -> None:
        nonlocal waiting, spoke
        if text and time.monotonic() - spoke < interval_s:
            waiting = text
            return
        put(text)
        spoke = time.monotonic()

    try:
        yield show
    finally:
        if waiting:
            put(waiting)
        if shown:
            talk()


def _rewritten(text: str, shown: str) -> str:
    """Puts `text` over `shown` in the terminal's current line; what of it fitted."""
    # One column is left free: a character in the last one makes some terminals wrap.
    width = _width() - 1
    text = crop(printable(" ".join(text.split("\n"))), width)
    blank = "\r" + " " * min(columns(shown), width) + "\r"
    _say(blank + text)
    return text


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:  # the terminal was closed
        return 80


def columns(text: str) -> int:
    """The columns that `text` takes in a terminal: two for a wide character."""
    return len(text) + sum(east_asian_width(character) in "WF" for character in text)


def crop(text: str, width: int) -> str:
    """As much of the beginning of `text` as fits in `width` columns."""
    while columns(text) > max(width, 0):
        text = text[: len(text) - 1]
    return text
