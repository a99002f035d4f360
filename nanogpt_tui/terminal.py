"""Running the app in a terminal: what may write there, and how it ends. Knows nothing of what the app shows."""

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING

from nanogpt_tui.session import log_file

if TYPE_CHECKING:
    from nanogpt_tui.app import LabApp


def run(app: "LabApp") -> int:
    """Runs the app to its end and returns the exit code. However it ends, a run in training is saved first."""
    code: int | None = 1
    try:
        with screen_alone():
            code = app.run()
    finally:
        if app.session.is_training:
            say(f"saving a checkpoint of {app.session.history.run if app.session.history else 'the run'} …")
        app.session.close()
    if app.crash:
        say(f"nanogpt-tui: {app.crash}")
        return 1
    return code or 0


def say(text: str) -> None:
    with suppress(OSError):  # the terminal may be closed
        print(text, file=sys.stderr)


@contextmanager
def screen_alone() -> Iterator[None]:
    """What native libraries write to the error stream goes to the log file meanwhile, not over the screen, which keeps
    the terminal by a descriptor of its own."""
    try:
        log_file().parent.mkdir(parents=True, exist_ok=True)
        log = os.open(log_file(), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
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
