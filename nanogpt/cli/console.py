"""What a command says to the person, on stderr: lines, a bar, a line that rewrites itself. Knows nothing of commands.

stdout is for data and is not touched here. Where stderr is no terminal, a bar and a live line become a plain line now
and then. All text is made harmless first: it may come from a file, a model or the network.
"""

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import Protocol
from unicodedata import east_asian_width

PLAIN_INTERVAL_S = 5.0


def talk(text: str = "") -> None:
    """Prints a line to stderr."""
    print(printable(text), file=sys.stderr, flush=True)


def printable(text: str) -> str:
    """`text` with whatever could steer a terminal, or hide or reorder text, replaced visibly; newline and tab stay."""
    return text.translate(_visible())


@cache
def _visible() -> dict[int, str]:
    controls = {code: chr(0x2400 + code) for code in range(0x20) if chr(code) not in "\n\t"}  # ␀ to ␟
    c1 = {code: f"\\x{code:02x}" for code in range(0x80, 0xA0)}
    layout = (0x200E, 0x200F, 0x061C, 0x2028, 0x2029, 0xFEFF, *range(0x202A, 0x202F), *range(0x2066, 0x206A))
    surrogates = dict.fromkeys(range(0xD800, 0xE000), "\N{REPLACEMENT CHARACTER}")
    return {**controls, 0x7F: "␡", **c1, **{code: f"\\u{code:04x}" for code in layout}, **surrogates}


def on_terminal() -> bool:
    """Whether stderr is a terminal that can rewrite a line."""
    return sys.stderr.isatty() and os.environ.get("TERM") != "dumb"


class Update(Protocol):
    """Moves a bar: `done` of `total` bytes (None where it is not known), with a word on what happens now."""

    def __call__(self, done: int, total: int | None, note: str = "") -> None: ...


@contextmanager
def bar(label: str) -> Iterator[Update]:
    """A progress bar with rate and time left, for work that is counted in bytes."""
    with _rich_bar(label) if on_terminal() else _plain_bar(label) as update:
        yield update


@contextmanager
def _rich_bar(label: str) -> Iterator[Update]:
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        DownloadColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
        TransferSpeedColumn,
    )

    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
        TextColumn("{task.fields[note]}", markup=False),
    )
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(printable(label), total=None, note="")

        def update(done: int, total: int | None, note: str = "") -> None:
            progress.update(task, completed=done, total=total, note=printable(note))

        yield update


@contextmanager
def _plain_bar(label: str) -> Iterator[Update]:
    began = spoke = time.monotonic()
    first: int | None = None  # a resumed download does not begin at 0, and its rate must not count what was there

    def update(done: int, total: int | None, note: str = "") -> None:
        nonlocal spoke, first
        now = time.monotonic()
        first = done if first is None else first
        if now - spoke < PLAIN_INTERVAL_S:
            return
        spoke = now
        rate = (done - first) / (now - began)
        share = f"{done / total:.0%} of {total / 1e6:.1f} MB" if total else f"{done / 1e6:.1f} MB"
        left = f", {(total - done) / rate:.0f} s left" if total and rate else ""
        talk(f"{label}: {share}, {rate / 1e6:.1f} MB/s{left}{note and ', '}{note}")

    yield update


@contextmanager
def live_line() -> Iterator[Callable[[str], None]]:
    """Yields a function that replaces the line shown before with its text. The last one stays.

    An empty text wipes the line, so that a lasting one can be printed in its place.
    """
    with _rewritten_line() if on_terminal() else _occasional_line() as show:
        yield show


@contextmanager
def _rewritten_line() -> Iterator[Callable[[str], None]]:
    shown = ""

    def show(text: str) -> None:
        nonlocal shown
        # One column is left free: a character in the last one makes some terminals wrap.
        text = crop(printable(" ".join(text.split("\n"))), os.get_terminal_size(sys.stderr.fileno()).columns - 1)
        padding = " " * (columns(shown) - columns(text))
        print(f"\r{text}{padding}" + ("" if text else "\r"), end="", file=sys.stderr, flush=True)
        shown = text

    try:
        yield show
    finally:
        if shown:
            talk()


@contextmanager
def _occasional_line() -> Iterator[Callable[[str], None]]:
    waiting, spoke = "", float("-inf")

    def show(text: str) -> None:
        nonlocal waiting, spoke
        waiting = text
        if text and time.monotonic() - spoke >= PLAIN_INTERVAL_S:
            talk(text)
            waiting, spoke = "", time.monotonic()

    try:
        yield show
    finally:
        if waiting:
            talk(waiting)


def columns(text: str) -> int:
    """The columns that `text` takes in a terminal: two for a wide character."""
    return len(text) + sum(east_asian_width(character) in "WF" for character in text)


def crop(text: str, width: int) -> str:
    """As much of the beginning of `text` as fits in `width` columns."""
    while columns(text) > max(width, 0):
        text = text[: len(text) - 1]
    return text
