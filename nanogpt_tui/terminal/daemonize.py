"""Detach the app from its terminal, for good or until it is resumed, while training continues.

A shell waits for the process that it started, and a process with threads cannot be forked. So `run_supervised` forks
before there are any threads. The child is the app, and the parent, which the shell waits for, is a small supervisor. It
exits as soon as the app has exited or detached. It also stops in the app's place: the shell sees a stopped job, while
the app continues to train.

The two communicate by signals:

    app to supervisor   SIGUSR1   the app has detached: exit
                        SIGUSR2   the terminal is restored: stop the job
    supervisor to app   SIGTSTP   the user or the system wants to stop the job
                        SIGUSR2   the job is in the foreground again
                        SIGUSR1   the same at once, because no shell could have continued the job
"""

import os
import select
import signal
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    import asyncio

# the end of a sequence that was cut off; no mouse, focus, paste or resize reports; normal keys, line wrap, the main
# screen, a visible cursor
RESET_TERMINAL = (
    b"\x18\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?1004l\x1b[?2004l\x1b[?2048l\x1b[<u\x1b[?7h\x1b[?1049l"
    b"\x1b[?25h\r\n"
)

FOREGROUND_POLL_S = 0.1  # how often a background job checks whether it is in the foreground again

_supervisor = 0  # the pid of the process that the shell waits for; 0 if that is this process


def terminal_problem() -> str:
    """Return why the app cannot run with this process's streams, in one line, or "" if it can."""
    instead = "`nanogpt train` and `nanogpt watch` need no terminal"
    if not os.isatty(0):
        return f"standard input is not a terminal, and keys come from there; {instead}"
    if not (os.isatty(1) or os.isatty(2)):
        return f"neither standard output nor standard error is a terminal to draw on; {instead}"
    if os.environ.get("TERM") == "dumb":
        return (
            f"TERM=dumb is a terminal without cursor control: set TERM to the real one, as in xterm-256color; {instead}"
        )
    return ""


def output_descriptor() -> int:
    """Return the file descriptor of the terminal to draw on: standard output, else standard error."""
    return 1 if os.isatty(1) else 2


def run_supervised(app: Callable[[], int]) -> int:
    """Run `app` in a child process that can detach, and return its exit code. Without a terminal, run it here."""
    global _supervisor
    if not hasattr(os, "fork") or not os.isatty(0):
        return app()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # it may be closed
            stream.flush()
    supervisor = os.getpid()
    signal.signal(signal.SIGUSR1, lambda number, frame: os._exit(0))  # the app has detached
    try:
        child = os.fork()
    except OSError:  # the limit of processes is reached: the app runs in this one, and cannot detach
        leave(app())
    if child:
        return _supervise(child)
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # until the driver handles them
        signal.signal(number, signal.SIG_IGN)
    _supervisor = supervisor
    leave(app())


def leave(code: int) -> NoReturn:
    """End this process without Python's shutdown, which aborts it if a thread is within torch (pytorch issue 38228)."""
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            with suppress(OSError, ValueError):  # it may be closed
                stream.flush()
    os._exit(code)


def _supervise(child: int) -> int:
    """Wait for the app on behalf of the shell, and forward signals to it. Return the exit code."""
    import termios

    modes = termios.tcgetattr(0)
    continued = False

    def forward(number: int, frame: FrameType | None = None) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    def note_continued(number: int, frame: FrameType | None) -> None:
        nonlocal continued
        continued = True

    def stop_job(*_: object) -> None:
        """Stop this job, and tell the app when the job is in the foreground again."""
        nonlocal continued
        continued = False
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.killpg(os.getpgrp(), signal.SIGTSTP)  # the whole group, as Ctrl+Z does: `make run` stops too
        time.sleep(0)  # let the handler of a SIGCONT run
        signal.signal(signal.SIGTSTP, forward)
        while not _in_foreground() and not has_exited(child):
            time.sleep(FOREGROUND_POLL_S)
        forward(signal.SIGUSR2 if continued else signal.SIGUSR1)

    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, forward)
    signal.signal(signal.SIGCONT, note_continued)
    signal.signal(signal.SIGUSR2, stop_job)
    while True:
        status = _wait_for(child)
        if os.WIFSTOPPED(status):
            stop_job()
            forward(signal.SIGCONT)
            continue
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return code
        with suppress(OSError, termios.error):  # a signal killed the app before it could restore the terminal
            termios.tcsetattr(0, termios.TCSADRAIN, modes)
            os.write(output_descriptor(), RESET_TERMINAL)
            name = signal.strsignal(-code)
            print(f"nanogpt-tui: ended by a signal ({name}); the run can be resumed", file=sys.stderr)
        return 128 - code


def _wait_for(child: int) -> int:
    """Wait until a child process has exited or was stopped alone, and return its status.

    A signal stops and continues the processes of a job one after the other. So this process can find the child stopped
    when the whole job was, and continues already: the child continues at once too, and must not be stopped again.
    """
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            return status
        time.sleep(FOREGROUND_POLL_S)
        changed, later = os.waitpid(child, os.WNOHANG | os.WCONTINUED)
        if not changed:
            return status
        if not os.WIFCONTINUED(later):
            return later


def _in_foreground() -> bool:
    """Return whether this process is in the terminal's foreground job. True if the terminal has no job control."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return True


def has_exited(child: int) -> bool:
    """Return whether a child process has exited, and leave its exit code to `os.waitpid`.

    False if that is not known: on macOS, Python has no `waitid` before 3.13.
    """
    return hasattr(os, "waitid") and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def on_signal(number: int, loop: "asyncio.AbstractEventLoop", action: Callable[[], object]) -> None:
    """Call `action` in the event loop at each signal `number`.

    After the loop has ended the signal does nothing. With asyncio's own handlers the signal's default action would end
    the process in the moment between the end of the loop and the next handler.
    """

    def handle(*_: object) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(action)

    signal.signal(number, handle)


def can_detach() -> bool:
    """Return whether the shell gets its prompt back when this process detaches."""
    return _supervisor != 0 and os.getppid() == _supervisor


def stop_job() -> None:
    """Stop the shell's job. This process continues, and gets SIGUSR2 when the job is in the foreground again."""
    os.kill(_supervisor, signal.SIGUSR2)


def is_orphaned() -> bool:
    """Return whether the supervisor was killed, which means that the app should end."""
    return _supervisor != 0 and os.getppid() != _supervisor


def is_terminal_closed() -> bool:
    """Return whether the terminal was closed. No signal may tell: only the first process of a session gets SIGHUP."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(0, 0)
    return any(what & select.POLLHUP for _, what in poll.poll(0))


def detach(log: Path) -> None:
    """Give up the terminal for good; the shell gets its prompt back. Standard error goes to the file `log`."""
    null = os.open(os.devnull, os.O_RDWR)
    try:
        errors = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:
        errors = os.dup(null)
    for old, new in ((null, 0), (null, 1), (errors, 2)):
        os.dup2(old, new)
    os.close(null)
    os.close(errors)
    if _supervisor:
        with suppress(OSError):
            os.setsid()
        if can_detach():
            os.kill(_supervisor, signal.SIGUSR1)
