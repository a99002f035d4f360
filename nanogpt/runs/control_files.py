"""Commands between processes: files in a run's folder `mailbox/`, written by any process, applied by the trainer.

A command file is written atomically, named by time so that the commands of one sender are applied in order, and removed
when the trainer takes it. Imports no torch.
"""

import os
import threading
import time
import uuid
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from nanogpt.errors import UserError
from nanogpt.files import NOT_REGULAR, read_bytes, why, write_atomically
from nanogpt.runs.folder import is_run
from nanogpt.training.control import Command, CommandQueue, Invalid, RemoteCommand, from_json, to_json

SCAN_INTERVAL_S = 0.1
SLOWEST_SCAN_INTERVAL_S = 0.5
LARGEST_COMMAND = 1_000_000  # bytes; a prompt may be long
UNFINISHED_S = 2.0  # a command that cannot be read may still be copied for this long
REJECTED = ".refused"

_naming = threading.Lock()
_last_name = 0


def send_command(run: Path, command: RemoteCommand) -> str:
    """Write a command for the trainer of a run; return its id, which the acknowledgement repeats.

    Raise `UserError` if there is no run, or nothing can be written in its folder.
    """
    if not is_run(run):
        raise UserError(f"{run} is not a run: it has no run.toml")
    name = f"{_next_name():020d}-{os.getpid()}-{uuid.uuid4().hex[:8]}"
    mailbox = run / "mailbox"
    try:
        if mailbox.is_symlink():
            raise UserError(f"{mailbox} is a link, through which nothing is sent: remove it")
        mailbox.mkdir(exist_ok=True)
        # Not durable: the app sends commands from its interface thread, which must not wait for the disk.
        write_atomically(mailbox / f"{name}.json", to_json(replace(command, id=name)) + "\n", durable=False)
    except OSError as error:
        raise UserError(f"cannot write in {mailbox}: {why(error)}; the run cannot be steered") from None
    return name


def _next_name() -> int:
    """Return the nanoseconds since 1970, but always more than last time, even if the clock is set back."""
    global _last_name
    with _naming:
        _last_name = max(_last_name + 1, time.time_ns())
        return _last_name


class FileCommandQueue(CommandQueue):
    """The commands in the run's folder, and those of another queue in memory.

    Files that are in the folder at the start were sent to an earlier trainer. They are rejected, like invalid ones.
    """

    def __init__(self, run: Path, in_memory: CommandQueue | None = None) -> None:
        super().__init__()
        self._folder = run / "mailbox"
        self._in_memory = in_memory or CommandQueue()
        self._next_scan = 0.0
        self._taken: set[str] = set()  # applied but not removable, because the disk became read-only
        self._unfinished: dict[str, float] = {}  # when (monotonic, seconds) a command was first unreadable
        self._rejected = [self._reject(name, "it was sent before this training started") for name in self._names()]

    def put(self, command: Command) -> None:
        self._in_memory.put(command)

    def wait(self, timeout_s: float) -> None:
        """Return when a command is in memory, or after `timeout_s` seconds."""
        self._in_memory.wait(timeout_s)

    def take(self, *, is_last: bool = False) -> list[Command]:
        """Remove all commands from the queue and return them.

        The folder is read only now and then, so that this can be called at every step: it takes at most 1% of the time.
        is_last: read it now.
        """
        commands, self._rejected = [*self._rejected, *self._in_memory.take()], []
        began = time.monotonic()
        if is_last or began >= self._next_scan:
            commands += self._read_files()
            ended = time.monotonic()
            self._next_scan = ended + min(SLOWEST_SCAN_INTERVAL_S, max(SCAN_INTERVAL_S, 100 * (ended - began)))
        return commands

    def _names(self) -> list[str]:
        if self._folder.is_symlink():  # of a run that was copied: what is there are no commands
            return []
        try:
            with os.scandir(self._folder) as entries:
                names = [entry.name for entry in entries]
        except OSError:  # no command was sent yet, or the run's folder is gone
            return []
        return sorted(name for name in names if not name.startswith(".") and not name.endswith(REJECTED))

    def _read_files(self) -> Iterator[Command]:
        for name in self._names():
            if name in self._taken:
                continue
            path = self._folder / name
            try:
                if path.is_symlink():
                    raise UserError(NOT_REGULAR)
                command = from_json(read_bytes(path, LARGEST_COMMAND))
            except FileNotFoundError:
                continue  # the sender removed it
            except (UserError, OSError) as error:
                since = self._unfinished.setdefault(name, time.monotonic())
                if time.monotonic() - since >= UNFINISHED_S:
                    yield self._reject(name, why(error))
                continue
            try:
                path.unlink()
            except FileNotFoundError:
                continue
            except OSError:
                self._taken.add(name)
            yield command

    def _reject(self, name: str, reason: str) -> Invalid:
        self._unfinished.pop(name, None)
        try:
            (self._folder / name).rename(self._folder / (name + REJECTED))
        except OSError:
            self._taken.add(name)
        return Invalid(f"the command {name!r} in the run's mailbox is ignored: {reason}")
