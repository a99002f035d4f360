"""What the measurements of the app share: the app in a pseudo-terminal, and a run's recorded steps. No command."""

import fcntl
import json
import os
import pty
import select
import signal
import struct
import subprocess
import sys
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

# whoever is told to end leaves no training behind
signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))

# settings of a training that does nothing but steps of GPT-2's block, without end
STEPS_ALONE: dict[str, Any] = {
    "architecture": "gpt2",
    "optimizer": "adamw",
    "grad_clip": 1.0,
    "eval_interval": 10**6,
    "eval_iters": 1,
    "sample_interval": 0,
    "sample_tokens": 0,
    "max_iters": 10**6,
    "compile": "false",  # as in runs of the presets' lengths; with so many steps it would be worth while
}


class Terminal:
    """A program in a pseudo-terminal, whose reader counts, and can be told to read no more for a while."""

    def __init__(
        self, command: list[str], env: dict[str, str], pass_fds: tuple[int, ...] = (), size: tuple[int, int] = (120, 40)
    ) -> None:
        columns, rows = size
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
        self.process = subprocess.Popen(
            command,
            stdin=slave,
            stdout=slave,
            stderr=slave,
            start_new_session=True,
            pass_fds=pass_fds,
            env={"TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(rows)} | env,
        )
        os.close(slave)
        self.read = 0  # bytes
        self.last = b""  # the end of what was read
        self.reading = threading.Event()
        self.reading.set()
        threading.Thread(target=self._read, daemon=True).start()

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def _read(self) -> None:
        while True:
            self.reading.wait()
            if not select.select([self._master], [], [], 0.5)[0]:
                continue
            try:
                data = os.read(self._master, 65536)
            except OSError:  # the program has gone
                return
            self.take(data)

    def take(self, data: bytes) -> None:
        """What the program has written, in the reader's thread."""
        self.read += len(data)
        self.last = (self.last + data)[-65536:]


@contextmanager
def app(env: dict[str, str], *words: str) -> Iterator[Terminal]:
    """`nanogpt-tui WORDS` at 120 × 40; killed at the end."""
    terminal = Terminal([sys.executable, "-m", "nanogpt_tui", *words], env)
    try:
        yield terminal
    finally:
        terminal.process.kill()
        terminal.process.wait()


def until(condition: Callable[[], Any], timeout_s: float = 120.0) -> Any:
    """What `condition` gives, once that is something. Raises TimeoutError."""
    end = time.monotonic() + timeout_s
    while not (found := condition()):
        if time.monotonic() > end:
            raise TimeoutError(f"not within {timeout_s:g} s")
        time.sleep(0.1)
    return found


def steps(folder: Path) -> list[dict[str, Any]]:
    """The steps that a run has recorded so far."""
    try:
        lines = (folder / "events.jsonl").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return []
    events = (json.loads(line) for line in lines if '"Step"' in line and line.endswith("}"))
    return [event for event in events if event["event"] == "Step"]


def trainer(folder: Path) -> int:
    """The process that trains a run."""
    return int(json.loads((folder / "status.json").read_text(encoding="utf-8"))["pid"])


def kill(pid: int) -> None:
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)


def rate(recorded: list[dict[str, Any]], began: float, ended: float) -> float:
    """Steps a second among those recorded between two wall clock times."""
    inside = [event["time"] for event in recorded if began <= event["time"] <= ended]
    if len(inside) < 3:
        raise SystemExit(f"only {len(inside)} steps in {ended - began:.1f} s: make the slices longer")
    return (len(inside) - 1) / (inside[-1] - inside[0])
