"""Processes of their own that have torch already.

Importing torch takes two to three seconds of CPU in every process. Here one process per session imports it, and each
process that a test starts is forked from that one. A test that is about the start of a process starts a real one.
"""

import multiprocessing
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import ExitStack, redirect_stderr
from importlib import import_module
from multiprocessing import reduction
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nanogpt.training.control import Command

_context = multiprocessing.get_context("forkserver")
_context.set_forkserver_preload(["tests.forked_imports"])


STEP_PAUSE = "TEST_STEP_PAUSE_S"  # how long a forked training sleeps in each step: a variable of the environment


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
        **child: Any,
    ) -> None:
        """Call `target` with the arguments, the present environment and `environment`. Its result is the exit code if
        it is a number. Both outputs go to the file `output`, or all three streams to `terminal`, a pseudo-terminal's
        path, which becomes the controlling one if that is wanted. `child` is for `Child`."""
        environment = {**os.environ, **(environment or {})}
        what = (target.__module__, target.__qualname__, arguments)
        streams = Streams(output, terminal, controlling, **child)
        self._process = _context.Process(target=_call, args=(what, environment, streams))
        with redirect_stderr(sys.__stderr__):  # the first start passes its number on, and that of an app's is none
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


class Child(Forked):
    """What `nanogpt.processes.start_python` returns, forked."""

    def __init__(
        self,
        function: str,
        arguments: Sequence[str] = (),
        *,
        stdin: int,
        stdout: int | IO[bytes],
        stderr: int | IO[bytes],
        start_new_session: bool = False,
    ) -> None:
        self.stdin: IO[bytes] | None = None
        self.stdout: IO[bytes] | None = None
        with ExitStack() as stack, Path(os.devnull).open("r+b") as null:

            def pipe(ours: int) -> tuple[IO[bytes], int]:
                ends = os.pipe()
                stack.callback(os.close, ends[1 - ours])
                return os.fdopen(ends[ours], "wb" if ours else "rb"), ends[1 - ours]

            descriptors = [null.fileno()] * 3
            if stdin == subprocess.PIPE:
                self.stdin, descriptors[0] = pipe(1)
            if stdout == subprocess.PIPE:
                self.stdout, descriptors[1] = pipe(0)
            for number, stream in enumerate((stdout, stderr), start=1):
                if not isinstance(stream, int):
                    descriptors[number] = stream.fileno()
            super().__init__(
                _run_function, function, list(arguments), descriptors=descriptors, new_session=start_new_session
            )

    def __exit__(self, *_: object) -> None:
        for pipe in (self.stdin, self.stdout):
            if pipe is not None:
                pipe.close()
        self.wait()

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)


def nanogpt(words: Sequence[str], **more: Any) -> Forked:
    """Start the command `nanogpt WORDS`."""
    return Forked(_command, "nanogpt.cli", list(words), **more)


def nanogpt_tui(words: Sequence[str], **more: Any) -> Forked:
    """Start the command `nanogpt-tui WORDS`."""
    return Forked(_command, "nanogpt_tui", list(words), **more)


def _command(package: str, words: list[str]) -> object:
    if package == "nanogpt_tui":  # keys wait until a screen has read, however long that takes on a busy machine
        import_module("nanogpt_tui.terminal.input_queue").READY_TIMEOUT_S = 30.0  # type: ignore[attr-defined]
    return import_module(package).main(words)


def _run_function(function: str, arguments: list[str]) -> object:
    sys.argv = ["-c", *arguments]
    module, _, name = function.partition(":")
    return getattr(import_module(module), name)()


class Streams:
    """Where the streams of a process that is forked lead, as they are passed to it."""

    def __init__(
        self,
        output: Path | None,
        terminal: str | None,
        controlling: bool,
        descriptors: Sequence[int] = (),
        new_session: bool = False,
    ) -> None:
        self.output, self.terminal, self.controlling = output, terminal, controlling
        self.descriptors, self.new_session = descriptors, new_session

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"descriptors": [reduction.DupFd(number) for number in self.descriptors]}

    def connect(self) -> None:
        """Connect the streams of this process."""
        opened: list[int] = [passed.detach() for passed in self.descriptors]  # type: ignore[attr-defined]
        if self.terminal or self.new_session:
            os.setsid()
        if self.terminal:  # the first one that the leader of a session opens is its own
            opened = [os.open(self.terminal, os.O_RDWR | (0 if self.controlling else os.O_NOCTTY))] * 3
        elif self.output:
            opened = [0, *[os.open(str(self.output), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)] * 2]
        for number, source in enumerate(opened):
            os.dup2(source, number)
        for source in set(opened):
            if source > 2:
                os.close(source)
        for number, name in enumerate(("stdin", "stdout", "stderr")[: len(opened)]):
            how: dict[str, Any] = {"mode": "w" if number else "r", "buffering": 1 if name == "stderr" else -1}
            stream = open(number, closefd=False, encoding="utf-8", **how)  # noqa: SIM115
            setattr(sys, name, stream)
            setattr(sys, f"__{name}__", stream)


def _rest_each_step(seconds: float) -> None:
    from nanogpt.runs.control_files import FileCommandQueue

    take = FileCommandQueue.take

    def take_slowly(self: FileCommandQueue, *, is_last: bool = False) -> "list[Command]":
        time.sleep(seconds)
        return take(self, is_last=is_last)

    FileCommandQueue.take = take_slowly  # type: ignore[method-assign]


def _call(what: tuple[str, str, tuple[Any, ...]], environment: dict[str, str], streams: Streams) -> None:
    os.environ.clear()
    os.environ.update(environment)
    streams.connect()
    if STEP_PAUSE in environment:
        _rest_each_step(float(environment[STEP_PAUSE]))
    module, name, arguments = what
    code = getattr(import_module(module), name)(*arguments)
    sys.exit(code if isinstance(code, int) else 0)
