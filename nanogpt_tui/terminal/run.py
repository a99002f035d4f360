"""Run the app in a terminal: protect the screen from other output, watch the threads, and finish the training.

Keys come from standard input. The app draws on standard output if that is a terminal, else on standard error, so that
`>file` or `2>file` does not disturb the screen. For a browser it draws on standard output, which is a pipe.
"""

import os
import select
import shlex
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import TYPE_CHECKING

from nanogpt.formatting import printable
from nanogpt.runs.folder import run_name
from nanogpt_tui.session.workers import log_path
from nanogpt_tui.terminal.daemonize import detach, output_descriptor

if TYPE_CHECKING:
    from nanogpt_tui.app import LabApp

REPEAT_S = 5.0  # in which a signal that ended the app may come again; longer than a busy machine takes to forward it
VITAL_THREADS = ("textual-input", "nanogpt-terminal")  # the threads without which there is no app


def run(app: "LabApp", descriptor: int | None = None) -> int:
    """Run the app and return its exit code. A training is then stopped with a checkpoint, or continues detached.

    The code is 1 after an error, and if the checkpoint could not be saved. The app draws on `descriptor`, by default
    that of the terminal.
    """
    code: int | None = 1
    try:
        with redirect_output(output_descriptor() if descriptor is None else descriptor), watch_threads(app):
            code = app.run()
    finally:
        try:
            app.session.finish_writing()
        finally:
            problem = finish_training(app)
    if app.crash_message:
        print_line(f"nanogpt-tui: {app.crash_message}")
        return 1
    return 1 if problem or code is None else code  # None: an error ended the app


@contextmanager
def watch_threads(app: "LabApp") -> Iterator[None]:
    """Log each unexpected error that ends a thread, and let the app exit with code 1. End the app at once if it was the
    thread that reads keys or the one that draws."""

    def handle(args: threading.ExceptHookArgs) -> None:
        name = args.thread.name if args.thread else ""
        if isinstance(args.exc_value, Exception):
            app.handle_thread_error(args.exc_value, vital=name in VITAL_THREADS)

    before, threading.excepthook = threading.excepthook, handle
    try:
        yield
    finally:
        threading.excepthook = before


def finish_training(app: "LabApp") -> str:
    """Wait until the training has ended: stop it now with a checkpoint, or let it run to its end if the app detached.

    Print and return why it has no checkpoint of its last step; "" if it has one. The first signal stops a detached
    training with a checkpoint. A further one ends the process at once, but not the SIGTERM that ended the app when it
    comes again: a shell sends it to this process and to the supervisor, which forwards it.
    """
    session, stopping, began = app.session, not app.detached, time.monotonic()
    training = session.training
    if session.folder is None:
        return ""
    name = shlex.quote(run_name(session.folder))
    commands = f"Watch: nanogpt watch {name}  Stop: nanogpt ctl {name} stop"
    if not session.is_training or training is None:
        if session.is_starting:
            print_line(f"{name} may not have started; `nanogpt runs` lists the runs")
        elif session.is_alive and session.remote is not None and session.remote.is_ours:
            print_line(f"Still training in the background. {commands}")
        return ""
    prepares = session.is_preparing

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal stopping
        if stopping and (number == signal.SIGINT or time.monotonic() - began > REPEAT_S):
            os._exit(128 + number)
        stopping = True
        session.stop_training()

    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, stop)
    if hasattr(signal, "SIGHUP"):
        signal.signal(signal.SIGHUP, signal.SIG_IGN)
    if app.detached:
        print_line(f"Still training (pid {os.getpid()}). {commands}")
        detach(log_path())
    else:
        if not prepares:
            print_line(f"saving a checkpoint of {session.folder.name} … (Ctrl+C quits without saving)")
        session.stop_training()
    training.wait()
    problem = "" if prepares else session.save_problem  # nothing was trained that could be saved
    if problem:
        print_line(problem)
    return problem


def print_line(text: str) -> None:
    """Print to standard error if it can take a line now; do not wait."""
    with suppress(OSError, ValueError):  # it may be closed
        if sys.stderr is not None and select.select([], [sys.stderr], [], 0)[1]:
            print(printable(text), file=sys.stderr)


@contextmanager
def redirect_output(descriptor: int) -> Iterator[None]:
    """Send what native libraries print to the log file instead of the screen. Textual draws on a duplicate of
    `descriptor`."""
    for number in (1, 2):  # open closed ones, so that no other file gets their numbers
        with suppress(OSError):
            os.fstat(number)
            continue
        os.dup2(os.open(os.devnull, os.O_RDWR), number)
    try:
        log_path().parent.mkdir(parents=True, exist_ok=True)
        log = os.open(log_path(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:  # the app can start on a full or read-only disk
        log = os.open(os.devnull, os.O_WRONLY)
    stderr, terminal = sys.__stderr__, os.dup(descriptor)
    redirected = {number: os.dup(number) for number in (1, 2) if number in (2, descriptor) or os.isatty(number)}
    with open(terminal, "w", encoding="utf-8", errors="replace") as screen:  # noqa: PTH123 (a descriptor)
        sys.__stderr__ = screen  # type: ignore[misc]  # where Textual draws
        for number in redirected:
            os.dup2(log, number)
        os.close(log)
        try:
            yield
        finally:
            for number, original in redirected.items():
                os.dup2(original, number)
                os.close(original)
            sys.__stderr__ = stderr  # type: ignore[misc]
