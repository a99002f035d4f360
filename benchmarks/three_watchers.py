"""How long three watchers of a run take to agree with its folder: the app, `nanogpt watch`, `nanogpt watch --json`.

    python benchmarks/three_watchers.py TEXT_FILE [--rounds 3] [--limit_s 3]

A training in another process is stopped, resumed, stopped, renamed, resumed, killed and resumed. After each, the time
from when the folder says so until each watcher shows it. Exit code 1 where one took longer than the limit. Linux only.
"""

import argparse
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import tempfile
import termios
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyte
from kills import command

from nanogpt import runs
from nanogpt.runs import manage
from nanogpt.runs.folder import is_locked

SETTINGS = ["--preset=macbook", "--dataset=text", "--max_iters=10000000", "--eval_interval=10000000", "--threads=1"]
MARKS = {"●": "training", "■": "stopped", "!": "interrupted"}
SAID = {  # what `watch` prints, and the phase that follows from it; a name where the line has one
    r"^training (?P<name>\S+):": "training",
    r"^stopped at step": "stopped",
    r"^interrupted: ": "interrupted",
    r"^the run is now named (?P<name>\S+)": "",
}


class Watcher:
    """What one of them shows: (name, phase)."""

    def __init__(self, name: str) -> None:
        self.name, self.shows = name, ("", "")

    def end(self) -> None:
        raise NotImplementedError


class Lines(Watcher):
    def __init__(self, name: str, words: list[str], parse: Any) -> None:
        super().__init__(name)
        self._parse = parse
        self.process = subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        threading.Thread(target=self._read, daemon=True).start()

    def end(self) -> None:
        self.process.kill()

    def _read(self) -> None:
        for line in self.process.stdout or ():
            self.shows = self._parse(line, self.shows)


def of_text(line: str, before: tuple[str, str]) -> tuple[str, str]:
    for pattern, phase in SAID.items():
        if found := re.search(pattern, line):
            return found.groupdict().get("name", before[0]), phase or before[1]
    return before


def of_json(line: str, before: tuple[str, str]) -> tuple[str, str]:
    fields = json.loads(line)
    return (fields["run"], fields["phase"]) if fields["event"] == "Status" else before


class App(Watcher):
    """The app's first line, in a pseudo-terminal."""

    def __init__(self, run: str) -> None:
        super().__init__("app")
        self._screen = pyte.Screen(120, 40)
        self._stream = pyte.ByteStream(self._screen)
        self._master, slave = pty.openpty()
        fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
        environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "120", "LINES": "40"}
        words = [sys.executable, "-m", "nanogpt_tui", "watch", run]
        self.process = subprocess.Popen(
            words, stdin=slave, stdout=slave, stderr=slave, start_new_session=True, env=environment
        )
        os.close(slave)
        threading.Thread(target=self._read, daemon=True).start()

    def end(self) -> None:
        os.killpg(self.process.pid, signal.SIGKILL)  # the app is a child of what was started

    def _read(self) -> None:
        with suppress(OSError):
            while True:
                select.select([self._master], [], [])
                data = os.read(self._master, 65536)
                self._stream.feed(re.sub(rb"\x1b\[[<>=][0-9;]*[a-zA-Z]", b"", data))
                if found := re.search(r"([●■!])\s(\S+)", self._screen.display[0]):
                    self.shows = found[2], MARKS[found[1]]


def until(condition: Any, timeout_s: float = 120.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.02)


def phase(run: Path) -> str:
    now = runs.summary(run).phase
    return "training" if now == "evaluating" else now


def do(act: str, run: Path) -> Path:
    """Does it, and returns the run's folder once that says so."""
    if act == "rename":
        until(lambda: not is_locked(run))
        return manage.rename(run, run.name + "x")
    if act == "kill":
        os.kill(runs.summary(run).pid, signal.SIGKILL)
    elif act == "stop":
        subprocess.run(command("ctl", run.name, "stop"), check=True, capture_output=True)
    else:
        until(lambda: not is_locked(run))
        words = command("train", "--init_from=resume", f"--name={run.name}", "--detach")
        subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    until(lambda: phase(run) == {"kill": "interrupted", "stop": "stopped", "resume": "training"}[act])
    return run


def measured(run: Path, watchers: list[Watcher]) -> list[float]:
    began = time.monotonic()
    delays: dict[str, float] = {}
    while len(delays) < len(watchers) and time.monotonic() < began + 60:
        for watcher in watchers:
            if watcher.name not in delays and watcher.shows == (run.name, phase(run)):
                delays[watcher.name] = time.monotonic() - began
        time.sleep(0.02)
    for watcher in watchers:
        if watcher.name not in delays:
            print(f"{watcher.name} shows {watcher.shows}")
    return [delays.get(watcher.name, 60.0) for watcher in watchers]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", help="a text file to train on")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--limit_s", type=float, default=3.0)
    options = parser.parse_args()
    longest = 0.0
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"NANOGPT_HOME": home, "NANOGPT_RUNS_DIR": f"{home}/runs", "NANOGPT_CACHE_DIR": f"{home}/cache"}
        subprocess.run(command("prepare", "textfile", options.text, "--output=text"), check=True, capture_output=True)
        subprocess.run(command("train", "--name=run", "--detach", *SETTINGS), check=True, capture_output=True)
        run = runs.find("run")
        watchers: list[Watcher] = [
            App("run"),
            Lines("watch", command("watch", "run", "--follow"), of_text),
            Lines("watch --json", command("watch", "run", "--follow", "--json"), of_json),
        ]
        try:
            measured(run, watchers)
            print(f"{'seconds until shown by':<24}" + "".join(f"{watcher.name:>14}" for watcher in watchers))
            for _ in range(options.rounds):
                for act in ("stop", "resume", "stop", "rename", "resume", "kill", "resume"):
                    run = do(act, run)
                    delays = measured(run, watchers)
                    longest = max(longest, *delays)
                    print(f"{act:<24}" + "".join(f"{delay:>14.2f}" for delay in delays), flush=True)
        finally:
            for watcher in watchers:
                watcher.end()
            with suppress(ProcessLookupError):
                os.kill(runs.summary(run).pid, signal.SIGKILL)
    print(f"longest: {longest:.2f} s")
    return int(longest > options.limit_s)


if __name__ == "__main__":
    sys.exit(main())
