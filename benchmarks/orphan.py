"""What an app costs that trains on after its terminal has gone: processor time of all threads but the trainer's.

    python benchmarks/orphan.py TEXT_FILE [--seconds 30]

Starts the app in a pseudo-terminal, its quick start on one thread, and closes the terminal under it. Linux only.
"""

import argparse
import json
import os
import pty
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

import tomli_w

from nanogpt import data
from nanogpt.config import load_preset

ENDLESS = {"max_iters": 10**7, "eval_interval": 500, "eval_iters": 8, "sample_interval": 0, "threads": 1}


def status(run: Path) -> dict[str, Any]:
    with suppress(OSError, ValueError):
        return dict(json.loads((run / "status.json").read_text(encoding="utf-8")))
    return {}


def seconds_used(pid: int) -> dict[int, float]:
    """Processor time of each thread."""
    tasks = Path(f"/proc/{pid}/task").iterdir()
    return {int(task.name): int((task / "schedstat").read_text().split()[0]) / 1e9 for task in tasks}


def orphaned(home: str) -> int:
    """Starts the app, its training, and takes its terminal away; returns the process that trains on."""
    run = Path(home) / "runs" / "quickstart"
    master, slave = pty.openpty()
    command = [sys.executable, "-m", "nanogpt_tui"]
    process = subprocess.Popen(command, stdin=slave, stdout=slave, stderr=slave, start_new_session=True)
    os.close(slave)
    os.set_blocking(master, False)
    os.write(master, b"g")
    while status(run).get("step", 0) < 20:
        if process.poll() is not None:
            sys.exit(f"the app ended with {process.returncode}")
        with suppress(BlockingIOError):
            os.read(master, 65536)
        time.sleep(0.05)
    began = time.monotonic()
    os.close(master)
    process.wait()
    print(
        f"the interface ended {time.monotonic() - began:.2f} s after its terminal, with exit code {process.returncode}"
    )
    return int(status(run)["pid"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("text", help="a text file to train on")
    parser.add_argument("--seconds", type=float, default=30, help="how long to measure")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"NANOGPT_HOME": home, "NANOGPT_CONFIG_DIR": home, "TERM": "xterm-256color"}
        for name in ("NANOGPT_RUNS_DIR", "NANOGPT_DATA_DIR"):
            os.environ.pop(name, None)
        for _ in data.prepare(data.textfile_recipe([options.text], name="text")):
            pass
        settings = dict(load_preset("macbook").values) | ENDLESS | {"dataset": "text"}
        (Path(home) / "tui.toml").write_text(tomli_w.dumps({"quickstart": settings}), encoding="utf-8")
        pid = orphaned(home)
        try:
            time.sleep(2)
            run, before, began = Path(home) / "runs" / "quickstart", seconds_used(pid), time.monotonic()
            step = status(run)["step"]
            time.sleep(options.seconds)
            used = {task: now - before.get(task, 0.0) for task, now in seconds_used(pid).items()}
            passed = time.monotonic() - began
            trainer = max(used.values())
            print(f"{status(run)['step'] - step} steps in {passed:.0f} s, state {status(run)['state']}")
            print(f"the trainer's thread: {trainer / passed:.1%} of a core")
            print(f"all {len(used) - 1} others together: {(sum(used.values()) - trainer) / passed:.2%} of a core")
        finally:
            os.kill(pid, signal.SIGTERM)
            while Path(f"/proc/{pid}").exists():
                time.sleep(0.05)


if __name__ == "__main__":
    main()
