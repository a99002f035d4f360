"""Messages on stderr: lines, a progress bar, a line that is rewritten. stdout is for data.

If stderr is not a terminal, a bar and a rewritten line become a plain line now and then. Control characters are
replaced in all text, which may come from a file, a model or the network.
"""

import errno
import os
import select
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Literal, Protocol, TextIO
from unicodedata import east_asian_width

from nanogpt.formatting import duration, printable

TERMINAL_INTERVAL_S = 0.05
PLAIN_INTERVAL_S = 5.0
BAR_DELAY_S = 0.3  # shorter work shows no bar
BAR_COLUMNS = 24


_needs_reader = False  # see `ending_with_reader`


def print_message(text: str = "") -> None:
    """Print a line on stderr."""
    _write(printable(text) + "\n")


def _write(text: str) -> None:
    """Write to stderr. If its terminal or reader is gone, discard this and all later text instead of failing, except in
    the block of `ending_with_reader`."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        redirect_to_null(sys.stderr.fileno())
        if _needs_reader:
            raise


@contextmanager
def ending_with_reader() -> Iterator[None]:
    """In the block, raise OSError if stderr cannot be written: a process that only shows something ends with its
    reader, while a training goes on."""
    global _needs_reader
    _needs_reader = True
    try:
        yield
    finally:
        _needs_reader = False


def check_reader(stream: TextIO | None) -> None:
    """Raise `BrokenPipeError` if the terminal or the reader of a stream is gone. Writes nothing."""
    descriptor = -1
    with suppress(OSError):  # it is in memory
        descriptor = stream.fileno() if stream is not None else -1  # None: it was closed
    if descriptor < 0 or not hasattr(select, "poll"):  # Windows
        return
    poll = select.poll()
    poll.register(descriptor, 0)
    if any(events & (select.POLLERR | select.POLLHUP) for _, events in poll.poll(0)):
        raise BrokenPipeError(errno.EPIPE, os.strerror(errno.EPIPE))


def redirect_to_null(*descriptors: int) -> None:
    """Redirect these file descriptors to the null device."""
    null = os.open(os.devnull, os.O_RDWR)
    for descriptor in descriptors:
        os.dup2(null, descriptor)
    os.close(null)


@contextmanager
def ignoring_hangup() -> Iterator[None]:
    """Keep the process running in the block when its terminal closes or its connection drops (SIGHUP)."""
    hangup = getattr(signal, "SIGHUP", None)  # Windows has none
    in_main = threading.current_thread() is threading.main_thread()
    before = signal.getsignal(hangup) if hangup is not None else None
    if hangup is None or not in_main or before not in (signal.SIG_DFL, signal.SIG_IGN):
        yield
        return
    terminals = [descriptor for descriptor in (0, 1, 2) if os.isatty(descriptor)]
    signal.signal(hangup, lambda number, frame: redirect_to_null(*terminals))
    try:
        yield
    finally:
        signal.signal(hangup, before)


def is_on_terminal() -> bool:
    """Return whether stderr is a terminal that can rewrite a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class Update(Protocol):
    """Update a bar: `done` of `total` bytes (None if unknown), with a short note."""

    def __call__(self, done: int, total: int | None, note: str = "") -> None: ...


@contextmanager
def bar(label: str, unit: Literal["bytes", "entries"] = "bytes") -> Iterator[Update]:
    """Yield the `Update` of a progress bar with rate and time left. It is cleared at the end."""
    began = time.monotonic()
    first: int | None = None  # of a resumed download not 0: its rate counts only new bytes

    with live_line() as show:

        def update(done: int, total: int | None, note: str = "") -> None:
            nonlocal first
            first = done if first is None else first
            elapsed_s = time.monotonic() - began
            if elapsed_s > BAR_DELAY_S:
                show("  ".join(filter(None, (label, *_progress(done, total, (done - first) / elapsed_s, unit), note))))

        yield update
        show("")


def _progress(done: int, total: int | None, per_second: float, unit: str) -> Iterator[str]:
    def amount(number: float) -> str:
        return f"{number / 1e6:.1f} MB" if unit == "bytes" else f"{number:,.0f} {unit}"

    if total:
        full = min(BAR_COLUMNS, BAR_COLUMNS * done // total)
        yield "━" * full + "╌" * (BAR_COLUMNS - full)
        yield f"{done / total:4.0%} of {amount(total)}"
    else:
        yield amount(done)
    yield f"{amount(per_second)}/s"
    if total and per_second:
        yield f"{duration((total - done) / per_second)} left"


@contextmanager
def live_line() -> Iterator[Callable[[str], None]]:
    """Yield a function that replaces the line it showed last by a new text. The last text stays on screen.

    An empty text clears the line, so that `print_message` can print a permanent line in its place.
    """
    is_rewriting = is_on_terminal()
    interval_s = TERMINAL_INTERVAL_S if is_rewriting else PLAIN_INTERVAL_S
    shown = waiting = ""
    written_at = float("-inf")

    def put(text: str) -> None:
        nonlocal shown, waiting
        waiting = ""
        if is_rewriting:
            text = _rewritten(text, shown)
            shown = text
        elif text:
            print_message(text)

    def show(text: str) -> None:
        nonlocal waiting, written_at
        if text and time.monotonic() - written_at < interval_s:
            waiting = text
            return
        put(text)
        written_at = time.monotonic()

    try:
        yield show
    finally:
        if waiting:
            put(waiting)
        if shown:
            print_message()


def _rewritten(text: str, shown: str) -> str:
    """Write `text` over `shown` in the terminal's current line; return the part that fitted."""
    # The last column stays free: a character there makes some terminals wrap.
    width = _width() - 1
    text = crop(printable(" ".join(text.split("\n"))), width)
    blank = "\r" + " " * min(columns(shown), width) + "\r"
    _write(blank + text)
    return text


def _width() -> int:
    try:
        return os.get_terminal_size(sys.stderr.fileno()).columns
    except OSError:  # the terminal was closed
        return 80


def columns(text: str) -> int:
    """Return the columns that `text` takes in a terminal: two for a wide character."""
    return len(text) + sum(east_asian_width(character) in "WF" for character in text)


def crop(text: str, width: int) -> str:
    """Return the beginning of `text` that fits in `width` columns."""
    while columns(text) > max(width, 0):
        text = text[: len(text) - 1]
    return text
