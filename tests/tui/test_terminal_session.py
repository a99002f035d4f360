"""The whole way in a real pseudo-terminal, whose screen a terminal emulator reads: first start to quit."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pyte
import pytest
import tomli_w


class Terminal:
    """A program in a pseudo-terminal, and what its screen shows."""

    def __init__(self, process: "subprocess.Popen[bytes]", master: int, columns: int, rows: int) -> None:
        self.process, self._master = process, master
        self._screen = pyte.Screen(columns, rows)
        self._stream = pyte.ByteStream(self._screen)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def text(self) -> str:
        return "\n".join(self._screen.display)

    def read(self, seconds: float) -> None:
        ready, _, _ = select.select([self._master], [], [], seconds)
        if ready:
            try:
                # pyte 0.8 takes the "<" of private sequences for text: the terminal only ever gets them as modes
                data = os.read(self._master, 65536)
                self._stream.feed(re.sub(rb"\x1b\[[<>=][0-9;]*[a-zA-Z]", b"", data))
            except OSError:  # the program has gone
                time.sleep(seconds)

    def until(self, condition: Callable[[str], Any], timeout_s: float = 60) -> str:
        end = time.monotonic() + timeout_s
        while time.monotonic() < end:
            self.read(0.1)
            if condition(self.text()):
                return self.text()
        raise AssertionError(f"not within {timeout_s} s; the terminal shows:\n{self.text()}")

    def wait(self, timeout_s: float = 60) -> int:
        end = time.monotonic() + timeout_s
        while self.process.poll() is None and time.monotonic() < end:
            self.read(0.1)
        return self.process.wait(1)


@contextmanager
def terminal(columns: int, rows: int) -> Iterator[Terminal]:
    """`nanogpt-tui` in a terminal of that size."""
    master, slave = pty.openpty()
    fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))
    process = subprocess.Popen(
        [sys.executable, "-m", "nanogpt_tui"],
        stdin=slave,
        stdout=slave,
        stderr=slave,
        start_new_session=True,
        env={**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": str(rows)},
    )
    os.close(slave)
    try:
        yield Terminal(process, master, columns, rows)
    finally:
        if process.poll() is None:
            process.kill()
            process.wait()
        os.close(master)


@pytest.fixture
def quick(home: Path, rhymes: dict[str, Any]) -> dict[str, Any]:
    """The quick start in the settings file trains a tiny model for long."""
    changes = rhymes | {"max_iters": 100_000, "eval_interval": 200, "sample_interval": 200, "learning_rate": 0.001}
    (home / "config").mkdir(exist_ok=True)
    (home / "config" / "tui.toml").write_text(tomli_w.dumps({"quickstart": changes}), encoding="utf-8")
    return changes


def shown_loss(text: str) -> float | None:
    found = re.search(r"train loss\s+(\d\.\d+)", text)
    return float(found[1]) if found else None


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 40)])
def test_from_the_first_start_to_a_falling_loss_and_out_again(
    quick: dict[str, Any], home: Path, columns: int, rows: int
) -> None:
    with terminal(columns, rows) as screen:
        screen.until(lambda text: "Nothing has been trained here yet." in text)
        screen.press("\r")
        first = screen.until(lambda text: shown_loss(text) is not None)
        begun = shown_loss(first)
        assert begun is not None
        later = screen.until(lambda text: (shown_loss(text) or 9.0) < begun - 0.2)
        assert any(0x2800 < ord(char) < 0x2900 for char in later)  # a curve in braille
        screen.press(" ")
        screen.until(lambda text: "paused" in text)
        screen.press(" ")
        screen.until(lambda text: "paused" not in text)
        screen.press("q")
        screen.until(lambda text: "A run is being trained." in text)
        screen.press("s")
        assert screen.wait() == 0
        assert "Traceback" not in screen.text()
    saved = list((home / "runs" / "quickstart" / "checkpoints").glob("step-*/trainer.json"))
    assert saved


def test_a_closed_terminal_leaves_a_saved_run(quick: dict[str, Any], home: Path) -> None:
    with terminal(80, 24) as screen:
        screen.until(lambda text: "Nothing has been trained here yet." in text)
        screen.press("g")
        screen.until(lambda text: shown_loss(text) is not None)
        screen.process.send_signal(signal.SIGHUP)
        screen.wait()
    status = (home / "runs" / "quickstart" / "status.json").read_text(encoding="utf-8")
    assert '"state": "stopped"' in status
    step = re.search(r'"step": (\d+)', status)
    assert step is not None
    assert (home / "runs" / "quickstart" / "checkpoints" / f"step-{int(step[1]):08d}").exists()
