"""Running the app in a terminal: what may write there, and how it ends. Knows nothing of what the app shows.

Keys come from standard input. The app draws on standard output where that is a terminal, else on the error stream: so
`>file` and `2>file` each leave the screen as it is.
"""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from nanogpt.formatting import printable
from nanogpt.runs.folder import run_name
from nanogpt.training import Stop
from nanogpt_tui.session.workers import log_path
from nanogpt_tui.terminal.daemonize import leave, screen_descriptor

if TYPE_CHECKING:
    from nanogpt_tui.app import LabApp

VITAL = ("textual-input", "nanogpt-terminal")  # the threads without which there is no app


def run(app: "LabApp") -> int:
    """Runs the app to its end and returns the exit code. A run in training is saved first, or goes on without it."""
    code: int | None = 1
    try:
        with screen_alone(), threads_watched(app):
            code = app.run()
    finally:
        see_out(app)
    if app.crash:
        say(f"nanogpt-tui: {app.crash}")
        return 1
    return 1 if code is None else code  # it never ends without one of its own accord


@contextmanager
def threads_watched(app: "LabApp") -> Iterator[None]:
    """What no thread expected is written to the log, and ends the app where it ended the thread that reads keys or the
    one that draws. Meanwhile the exit code is 1 whatever thread it was."""

    def failed(what: threading.ExceptHookArgs) -> None:
        name = what.thread.name if what.thread else ""
        if isinstance(what.exc_value, Exception):
            app.thread_failed(what.exc_value, vital=name in VITAL)

    before, threading.excepthook = threading.excepthook, failed
    try:
        yield
    finally:
        threading.excepthook = before


def see_out(app: "LabApp") -> None:
    """Waits for the training's end: with a checkpoint now, or, where the app was left, whenever it comes.

    A signal ends it with a checkpoint; the next one, or one while that is written, at once.
    """
    session, ending = app.session, not app.left
    training = session.training
    if session.folder is None:
        return
    name = run_name(session.folder)
    steering = f"Watch: nanogpt watch {name}  Stop: nanogpt ctl {name} stop"
    if not session.is_training or training is None:
        if session.is_alive and session.remote is not None and session.remote.is_ours:
            say(f"Still training in the background. {steering}")
        return

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ending
        if ending:
            os._exit(128 + number)
        ending = True
        training.send(Stop())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if app.left:
        say(f"Still training (pid {os.getpid()}). {steering}")
        leave(log_path())
    elif training.history.started is None:
        training.cancel()  # there is nothing to save yet
    else:
        say(f"saving a checkpoint of {session.folder.name} … (Ctrl+C quits without saving)")
        training.send(Stop())
    training.wait()


def say(text: str) -> None:
    with suppress(OSError, ValueError):  # the terminal may be closed, or take nothing more
        if select.select([], [sys.stderr], [], 0)[1]:
            print(printable(text), file=sys.stderr)


@contextmanager
def screen_alone() -> Iterator[None]:
    """What native libraries write meanwhile goes to the log file, not over the screen, which keeps the terminal by a
    descriptor of its own."""
    for number in (1, 2):  # what was closed: else the next file would be opened in its place
        with suppress(OSError):
            os.fstat(number)
            continue
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
    try:
        log_path().parent.mkdir(parents=True, exist_ok=True)
        log = os.open(log_path(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:  # a full or read-only disk is no reason not to start
        log = os.open(os.devnull, os.O_WRONLY)
    errors, terminal = sys.__stderr__, os.dup(screen_descriptor())
    diverted = {number: os.dup(number) for number in (1, 2) if number == 2 or os.isatty(number)}
    with open(terminal, "w", encoding="utf-8", errors="replace") as screen:  # noqa: PTH123 (a descriptor)
        sys.__stderr__ = screen  # type: ignore[misc]  # where Textual draws
        for number in diverted:
            os.dup2(log, number)
        os.close(log)
        try:
            yield
        finally:
            for number, kept in diverted.items():
                os.dup2(kept, number)
                os.close(kept)
            sys.__stderr__ = errors  # type: ignore[misc]
