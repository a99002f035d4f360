"""Processes of their own that have torch already.

Importing torch takes two to three seconds of CPU in every process. Here one process per session imports it, and each
process that a test starts is forked from that one. A test that is about the start of a process starts a real one.
"""

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.forked_imports"])


class Forked:
    """A running process that was forked, with what tests use of `subprocess.Popen`."""

    def __init__(
        self,
        target: Callable[..., object],
        *arguments: Any,
        output: Path | None = None,
        terminal: str | None = None,
        controlling: bool = True,
        environment: dict[str, str] | None = None,
    ) -> None:
        """Call `target` with the arguments, the present environment and `environment`. Its result is the exit code if
        it is a number. Both outputs go to the file `output`, or all three streams to `terminal`, a pseudo-terminal's
        path, which becomes the controlling one if that is wanted."""
        environment = {**os.environ, **(environment or {})}
        what = (target.__module__, target.__qualname__, arguments)
        self._process = _context.Process(target=_call, args=(what, environment, output, terminal, controlling))
        self._process.start()

    @property
    def pid(self) -> int:
        assert self._process.pid is not None
        return self._process.pid

    @property
    def returncode(self) -> int | None:
        return self._process.exitcode

    def poll(self) -> int | None:
        return self._process.exitcode

    def wait(self, timeout_s: float | None = None) -> int:
        """Return the exit code, negative for a signal; raise `TimeoutError` if the process does not end in time."""
        self._process.join(timeout_s)
        if self._process.exitcode is None:
            raise TimeoutError(f"not ended within {timeout_s} s")
        return self._process.exitcode

    def send_signal(self, number: signal.Signals) -> None:
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)


def nanogpt(words: Sequence[str], **more: Any) -> Forked:
    """Start the command `nanogpt WORDS`."""
    return Forked(_command, "nanogpt.cli", list(words), **more)


def nanogpt_tui(words: Sequence[str], **more: Any) -> Forked:
    """Start the command `nanogpt-tui WORDS`."""
    return Forked(_command, "nanogpt_tui", list(words), **more)


def _command(package: str, words: list[str]) -> object:
    return import_module(package).main(words)


def _call(
    what: tuple[str, str, tuple[Any, ...]],
    environment: dict[str, str],
    output: Path | None,
    terminal: str | None,
    controlling: bool,
) -> None:
    os.environ.clear()
    os.environ.update(environment)
    if output or terminal:
        _redirect(output, terminal, controlling)
    module, name, arguments = what
    code = getattr(import_module(module), name)(*arguments)
    sys.exit(code if isinstance(code, int) else 0)


def _redirect(output: Path | None, terminal: str | None, controlling: bool) -> None:
    if terminal:
        os.setsid()
        opened = os.open(
            terminal, os.O_RDWR | (0 if controlling else os.O_NOCTTY)
        )  # the first terminal that the leader of a session opens is its own
        streams = [0, 1, 2]
    else:
        opened = os.open(str(output), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        streams = [1, 2]
    for number in streams:
        os.dup2(opened, number)
    os.close(opened)
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        how: dict[str, Any] = {"mode": "w" if number else "r", "buffering": 1 if name == "stderr" else -1}
        stream = open(number, closefd=False, encoding="utf-8", **how)  # noqa: SIM115
        setattr(sys, name, stream)
        setattr(sys, f"__{name}__", stream)
