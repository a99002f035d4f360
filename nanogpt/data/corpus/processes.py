"""The child processes of a preparation: one that reads documents, and workers that encode them.

They are started as commands, not forked: the app has threads, and a child needs none of what its parent has loaded. A
child holds no end of another one's pipes, so it sees at once when its parent has ended.
"""

import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO, Any

from nanogpt import processes
from nanogpt.data.corpus.blocks import ShardEnd, TextBlock, TokenBlock
from nanogpt.data.corpus.messages import receive, send
from nanogpt.data.corpus.unfinished import CONTINUE_ADVICE
from nanogpt.errors import UserError

PIPE_BYTES = 1 << 20  # Linux's default limit
BLOCKS_QUEUED = 2  # for each process, with the one that it encodes


class Child:
    """One process."""

    def __init__(self, tokenizer: Path | None) -> None:
        """Start it; without a tokenizer it reads and does not encode."""
        self._process = processes.start_python(
            "nanogpt.data.corpus.worker:main",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # the app draws on the terminal
        )
        self._sending, self._last_received = threading.Lock(), threading.Event()
        self._last_received.set()
        for pipe in (self._process.stdin, self._process.stdout):
            _enlarge(pipe)
        self.send({"tokenizer": str(tokenizer) if tokenizer else ""})

    def ask(self, message: dict[str, Any], *buffers: bytes) -> tuple[dict[str, Any], list[bytes]]:
        """Send a message and return its answer, as `receive` does. Several threads may ask at a time."""
        received = threading.Event()
        try:
            with self._sending:
                earlier, self._last_received = self._last_received, received
                self.send(message, *buffers)
            earlier.wait()
            return self.receive()
        finally:
            received.set()

    def send(self, message: dict[str, Any], *buffers: bytes) -> None:
        """Send a message."""
        assert self._process.stdin is not None
        with suppress(OSError):  # it has ended: `receive` says why
            send(self._process.stdin, message, *buffers)

    def receive(self) -> tuple[dict[str, Any], list[bytes]]:
        """Return its answer. Raise `UserError` if it found an error or was ended, RuntimeError for its own faults."""
        assert self._process.stdout is not None
        received = receive(self._process.stdout)
        if received is None:
            code = self._process.wait()
            reason = signal.Signals(-code).name if code < 0 else f"exit code {code}"
            raise UserError(
                f"a worker process has ended ({reason}), for lack of memory?: {CONTINUE_ADVICE} to continue, with "
                "fewer --workers"
            )
        message, _ = received
        if "error" in message:
            raise UserError(message["error"])
        if "fault" in message:
            raise RuntimeError(f"in a worker process:\n{message['fault']}")
        return received

    def kill(self) -> None:
        """End the process now. It writes no files."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            with suppress(OSError):
                if pipe is not None:
                    pipe.close()


def _enlarge(pipe: IO[bytes] | None) -> None:
    """Let a pipe hold a block, so that neither side waits for the other while one is sent, where the system can."""
    if sys.platform == "linux":
        import fcntl

        assert pipe is not None
        with suppress(OSError):  # a user's pipes have a limited number of pages
            fcntl.fcntl(pipe.fileno(), fcntl.F_SETPIPE_SZ, PIPE_BYTES)


class Processes:
    """A reader and `workers` processes that encode; one process that does both if `workers` is 1.

    Each process has a block to encode and `BLOCKS_QUEUED` - 1 waiting in its pipe, so that it never waits for this one.
    tokenizer: its file; None to read texts only.
    """

    def __init__(self, tokenizer: Path | None, workers: int) -> None:
        self.workers = workers
        self._all: list[Child] = []
        self._idle: queue.SimpleQueue[Child] = queue.SimpleQueue()
        try:
            for _ in range(workers if workers > 1 and tokenizer else 0):
                self._all.append(Child(tokenizer))
            for child in self._all * BLOCKS_QUEUED:
                self._idle.put(child)
            self._reader = Child(tokenizer if workers == 1 else None)
            self._all.append(self._reader)
        except OSError as error:
            self.close()
            raise UserError(f"a worker process cannot be started: {error}; use fewer --workers") from error

    def read(self, path: Path, skip: int, **options: Any) -> Iterator[TextBlock | TokenBlock | ShardEnd | int]:
        """Yield the blocks of a shard after `skip` documents, then its end.

        While documents are skipped, yield the position in bytes now and then. Raise `UserError` if the shard cannot be
        read.
        """
        self._reader.send({"shard": str(path), "skip": skip, **options})
        while True:
            message, buffers = self._reader.receive()
            if "end" in message:
                del message["end"]
                yield ShardEnd(**message)
                return
            if "passed" in message:
                yield message["passed"]
            else:
                kind = TextBlock if "documents" in message else TokenBlock
                yield kind.from_message(message, buffers)

    def encode(self, block: TextBlock) -> TokenBlock:
        """Return a block encoded by a process that has room for it. `BLOCKS_QUEUED * workers` threads may call this."""
        child = self._idle.get()
        try:
            message, buffers = block.to_message()
            return TokenBlock.from_message(*child.ask(message, *buffers))
        finally:
            self._idle.put(child)

    def close(self) -> None:
        """End all processes."""
        for child in self._all:
            child.kill()
