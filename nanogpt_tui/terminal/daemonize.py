"""How the app's process leaves its terminal, for good or for a while, and trains on without it.

A shell waits for the process that it started, and a process with threads cannot be forked. So `attended` forks before
there are any: the child is the app, and what the shell waits for is a small process, the keeper. It ends as soon as the
app has ended, or has left. And it stops in the app's place: to the shell the job is stopped, while the app trains on.

What the two tell each other, as signals:

    app to keeper     SIGUSR1   I have left: end
                      SIGUSR2   the terminal is as it was: stop the job
    keeper to app     SIGTSTP   somebody wants the job to stop
                      SIGUSR2   the terminal is yours again
                      SIGUSR1   the same, because there is no shell that could have continued the job
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
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import asyncio

# no mouse, no reports of focus and paste, the usual keys, line wrap, the screen that was there before, a cursor
TIDY = b"\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?1004l\x1b[?2004l\x1b[<u\x1b[?7h\x1b[?1049l\x1b[?25h\r\n"

FOREGROUND_S = 0.1  # how often a job that runs in the background looks whether it is in front again

_keeper = 0  # the process that the shell waits for; 0 where that is this one


def refusal() -> str:
    """Return why the app cannot run where this process runs, in one line; empty where it can."""
    instead = "`nanogpt train` and `nanogpt watch` need no terminal"
    if not os.isatty(0):
        return f"standard input is not a terminal, and keys come from there; {instead}"
    if not (os.isatty(1) or os.isatty(2)):
        return f"neither standard output nor standard error is a terminal to draw on; {instead}"
    if os.environ.get("TERM") == "dumb":
        return (
            f"TERM=dumb is a terminal that moves no cursor: set TERM to the real one, as in xterm-256color; {instead}"
        )
    return ""


def screen_descriptor() -> int:
    """Return the descriptor of the terminal to draw on."""
    return 1 if os.isatty(1) else 2


def attended(app: Callable[[], int]) -> int:
    """Runs `app` in a process that can leave, and returns its exit code; in this one where there is no terminal."""
    global _keeper
    if not hasattr(os, "fork") or not os.isatty(0):
        return app()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # it may be closed
            stream.flush()
    keeper = os.getpid()
    signal.signal(signal.SIGUSR1, lambda number, frame: os._exit(0))  # the app has left
    try:
        child = os.fork()
    except OSError:  # there are as many processes as there may be: it works in one as well
        return app()
    if child:
        return _kept(child)
    for number in (signal.SIGUSR1, signal.SIGUSR2):  # until somebody here understands them
        signal.signal(number, signal.SIG_IGN)
    _keeper = keeper
    return app()


def _kept(child: int) -> int:
    """Wait for the app on behalf of the shell, and hand on what is sent to this process instead."""
    import termios

    modes = termios.tcgetattr(0)
    continued = False

    def hand_on(number: int, frame: FrameType | None = None) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    def note(number: int, frame: FrameType | None) -> None:
        nonlocal continued
        continued = True

    def stop_job(*_: object) -> None:
        """Stop this job, and give the app the terminal when the job is in the foreground again."""
        nonlocal continued
        continued = False
        signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.killpg(os.getpgrp(), signal.SIGTSTP)  # as the terminal's own Ctrl+Z does: `make run` stops too
        time.sleep(0)  # let a SIGCONT be noted
        signal.signal(signal.SIGTSTP, hand_on)
        while not _in_foreground() and os.waitid(os.P_PID, child, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            time.sleep(FOREGROUND_S)
        hand_on(signal.SIGUSR2 if continued else signal.SIGUSR1)

    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT, signal.SIGTSTP):
        signal.signal(number, hand_on)
    signal.signal(signal.SIGCONT, note)
    signal.signal(signal.SIGUSR2, stop_job)
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if os.WIFSTOPPED(status):
            stop_job()
            hand_on(signal.SIGCONT)
            continue
        code = os.waitstatus_to_exitcode(status)
        if code >= 0:
            return code
        with suppress(OSError, termios.error):  # it could not tidy up: somebody or the system killed it
            termios.tcsetattr(0, termios.TCSADRAIN, modes)
            os.write(screen_descriptor(), TIDY)
            how = signal.strsignal(-code)
            print(f"nanogpt-tui: ended by a signal ({how}); the run can be resumed", file=sys.stderr)
        return 128 - code


def _in_foreground() -> bool:
    """Whether this process may use its terminal; also where the terminal has no jobs."""
    try:
        return os.tcgetpgrp(0) == os.getpgrp()
    except OSError:
        return True


def on_signal(number: int, loop: "asyncio.AbstractEventLoop", action: Callable[[], object]) -> None:
    """Call `action` in the loop at a signal. When the loop has ended the signal does nothing, where one of asyncio's
    own would end the process in the moment before it is handled otherwise."""

    def hear(*_: object) -> None:
        with suppress(RuntimeError):  # the loop is closed
            loop.call_soon_threadsafe(action)

    signal.signal(number, hear)


def can_leave() -> bool:
    """Whether the shell goes on when this process has left."""
    return _keeper != 0 and os.getppid() == _keeper


def stop_job() -> None:
    """Stop the job that the shell waits for. This process goes on; it gets SIGUSR2 when it has the terminal again."""
    os.kill(_keeper, signal.SIGUSR2)


def abandoned() -> bool:
    """Whether the process that the shell waits for was killed: somebody wanted the app to end."""
    return _keeper != 0 and os.getppid() != _keeper


def hung_up() -> bool:
    """Whether the terminal has gone, as it may without a signal: only the first process of a session gets one."""
    if not hasattr(select, "poll"):
        return False
    poll = select.poll()
    poll.register(0, 0)
    return any(what & select.POLLHUP for _, what in poll.poll(0))


def leave(log: Path) -> None:
    """From now on this process has no terminal, and the shell goes on. What libraries say goes to `log`."""
    nowhere = os.open(os.devnull, os.O_RDWR)
    try:
        said = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    except OSError:
        said = os.dup(nowhere)
    for old, new in ((nowhere, 0), (nowhere, 1), (said, 2)):
        os.dup2(old, new)
    os.close(nowhere)
    os.close(said)
    if _keeper:
        with suppress(OSError):
            os.setsid()
        if can_leave():
            os.kill(_keeper, signal.SIGUSR1)
