"""How the app's process leaves its terminal and trains on without it. Knows no screen, and nothing of training.

A shell waits for the process that it started, and a process with threads cannot be forked. So `attended` forks before
there are any: the child is the app, and what the shell waits for is a small process that ends as soon as the app has
ended, or has left.
"""

import os
import select
import signal
import sys
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from types import FrameType

# no mouse, no reports of focus and paste, the usual keys, line wrap, the screen that was there before, a cursor
TIDY = b"\x1b[?1000l\x1b[?1003l\x1b[?1006l\x1b[?1015l\x1b[?1004l\x1b[?2004l\x1b[<u\x1b[?7h\x1b[?1049l\x1b[?25h\r\n"

_keeper = 0  # the process that the shell waits for; 0 where that is this one


def attended(app: Callable[[], int]) -> int:
    """Runs `app` in a process that can leave, and returns its exit code; in this one where there is no terminal."""
    global _keeper
    if not hasattr(os, "fork") or not os.isatty(0):
        return app()
    sys.stdout.flush()
    sys.stderr.flush()
    keeper = os.getpid()
    signal.signal(signal.SIGUSR1, lambda number, frame: os._exit(0))  # the app has left
    try:
        child = os.fork()
    except OSError:  # there are as many processes as there may be: it works in one as well
        return app()
    if child:
        return _kept(child)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    _keeper = keeper
    return app()


def _kept(child: int) -> int:
    """Waits for the app on behalf of the shell, and hands on what is sent to this process instead."""

    def hand_on(number: int, frame: FrameType | None) -> None:
        with suppress(ProcessLookupError):
            os.kill(child, number)

    import termios

    modes = termios.tcgetattr(0)
    for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        signal.signal(number, hand_on)
    while True:
        _, status = os.waitpid(child, os.WUNTRACED)
        if not os.WIFSTOPPED(status):
            code = os.waitstatus_to_exitcode(status)
            if code >= 0:
                return code
            with suppress(OSError, termios.error):  # it could not tidy up: somebody or the system killed it
                termios.tcsetattr(0, termios.TCSADRAIN, modes)
                os.write(1, TIDY)
                how = signal.strsignal(-code)
                print(f"nanogpt-tui: ended by a signal ({how}); what it trained can be resumed", file=sys.stderr)
            return 128 - code
        os.kill(os.getpid(), signal.SIGSTOP)  # as one job of the shell, whose `fg` wakes both
        hand_on(signal.SIGCONT, None)


def can_leave() -> bool:
    """Whether the shell goes on when this process has left."""
    return _keeper != 0 and os.getppid() == _keeper


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
