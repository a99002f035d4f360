"""Running the app in a terminal: what may write there, and how it ends. Knows nothing of what the app shows."""

import os
import select
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from nanogpt.runs.folder import run_name
from nanogpt.training import Stop
from nanogpt.words import printable
from nanogpt_tui.jobs import log_file
from nanogpt_tui.leaving import leave

if TYPE_CHECKING:
    from nanogpt_tui.app import LabApp


def run(app: "LabApp") -> int:
    """Runs the app to its end and returns the exit code. A run in training is saved first, or goes on without it."""
    code: int | None = 1
    try:
        with screen_alone():
            code = app.run()
    finally:
        see_out(app)
    if app.crash:
        say(f"nanogpt-tui: {app.crash}")
        return 1
    return code or 0


def see_out(app: "LabApp") -> None:
    """Waits for the training's end: with a checkpoint now, or, where the app was left, whenever it comes.

    A signal ends it with a checkpoint; the next one, or one while that is written, at once.
    """
    session, ending = app.session, not app.left
    training = session.training
    if session.folder is None:
        return
    name = run_name(session.folder)
    steering = f"nanogpt watch {name}, nanogpt ctl {name} stop"
    if not session.is_training or training is None:
        if session.is_alive and session.watching is not None and session.watching.ours:
            say(f"trains on in a process of its own: {steering}")
        return

    def end(number: int, frame: FrameType | None) -> None:
        nonlocal ending
        if ending:
            os._exit(128 + number)
        ending = True
        training.tell(Stop())

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, end)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if app.left:
        say(f"trains on in the background as process {os.getpid()}: {steering}")
        leave(log_file())
    elif training.history.started is None:
        training.cancel()  # there is nothing to save yet
    else:
        say(f"saving a checkpoint of {session.folder.name} … (Ctrl+C leaves without)")
        training.tell(Stop())
    training.wait()


def say(text: str) -> None:
    with suppress(OSError, ValueError):  # the terminal may be closed, or take nothing more
        if select.select([], [sys.stderr], [], 0)[1]:
            print(printable(text), file=sys.stderr)


@contextmanager
def screen_alone() -> Iterator[None]:
    """What native libraries write to the error stream goes to the log file meanwhile, not over the screen, which keeps
    the terminal by a descriptor of its own."""
    try:
        log_file().parent.mkdir(parents=True, exist_ok=True)
        log = os.open(log_file(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:  # a full or read-only disk is no reason not to start
        yield
        return
    errors, terminal = sys.__stderr__, os.dup(2)
    with open(terminal, "w", encoding="utf-8", errors="replace") as screen:  # noqa: PTH123 (a descriptor)
        sys.__stderr__ = screen  # type: ignore[misc]  # where Textual draws
        os.dup2(log, 2)
        os.close(log)
        try:
            yield
        finally:
            os.dup2(terminal, 2)
            sys.__stderr__ = errors  # type: ignore[misc]
