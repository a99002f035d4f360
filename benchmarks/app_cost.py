"""What the app costs training: steps per second of the same run in the app, in a pseudo-terminal, and without a screen.

    python benchmarks/app_cost.py [--preset macbook] [--rounds 5] [--iterations 300] [--dataset D] [--name=value …]

The two take turns, each in a process of its own; what counts is the median of the rounds' ratios. The first third of
each run is warm-up and left out. Prepares the data set first, in the person's own folder.
"""

import argparse
import fcntl
import json
import os
import pty
import select
import struct
import subprocess
import sys
import tempfile
import termios
import time
from pathlib import Path
from statistics import median
from typing import Any

import tomli_w

from nanogpt import data
from nanogpt.config import PRESETS

FIXED = {"eval_interval": 10**6, "eval_iters": 1, "sample_interval": 0, "sample_tokens": 0, "max_iters": 10**6}


def steps_per_second(events: Path, iterations: int) -> float | None:
    """Over the last two thirds of `iterations` steps by the trainer's own clock; None before they are recorded."""
    try:
        lines = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    except (FileNotFoundError, ValueError):
        return None
    at = {line["step"]: line["elapsed_s"] for line in lines if line["event"] == "Step"}
    if iterations not in at:
        return None
    warm = iterations // 3
    return (iterations - warm) / (at[iterations] - at[warm])


def measure(settings: dict[str, Any], iterations: int, in_app: bool) -> float:
    with tempfile.TemporaryDirectory() as home:
        env = os.environ | {"NANOGPT_RUNS_DIR": f"{home}/runs", "NANOGPT_CONFIG_DIR": home, "TERM": "xterm-256color"}
        if in_app:
            (Path(home) / "tui.toml").write_text(tomli_w.dumps({"quickstart": settings}), encoding="utf-8")
            master, slave = pty.openpty()
            fcntl.ioctl(slave, termios.TIOCSWINSZ, struct.pack("HHHH", 40, 120, 0, 0))
            command = [sys.executable, "-m", "nanogpt_tui"]
            process = subprocess.Popen(
                command, stdin=slave, stdout=slave, stderr=slave, env=env, start_new_session=True
            )
            os.write(master, b"g")
        else:
            options = [f"--{name}={value}" for name, value in settings.items()]
            command = [sys.executable, "-m", "nanogpt", "train", "--name=quickstart", *options]
            process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=env)
        try:
            looked = time.monotonic()
            while process.poll() is None:
                if in_app:
                    if select.select([master], [], [], 0.5)[0]:
                        os.read(master, 65536)
                else:
                    time.sleep(0.5)
                if time.monotonic() - looked > 2:  # seldom: reading the record costs as well
                    looked = time.monotonic()
                    found = steps_per_second(Path(home) / "runs" / "quickstart" / "events.jsonl", iterations)
                    if found is not None:
                        return found
            raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
        finally:
            process.kill()
            process.wait()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="macbook")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--iterations", type=int, default=300)
    parser.add_argument("--dataset", default="python_stdlib")
    options, rest = parser.parse_known_args()
    for _ in data.prepare(options.dataset):
        pass
    given = dict(item.removeprefix("--").split("=", 1) for item in rest)
    settings = PRESETS[options.preset].values | FIXED | {"dataset": options.dataset} | given
    ratios = []
    for number in range(options.rounds):
        headless, app = (measure(settings, options.iterations, in_app) for in_app in (False, True))
        ratios.append(app / headless)
        print(
            f"round {number + 1}: {headless:.2f} steps/s without a screen, {app:.2f} in the app, ratio {ratios[-1]:.3f}"
        )
    print(f"median ratio {median(ratios):.3f}: the app costs {1 - median(ratios):.1%}")


if __name__ == "__main__":
    main()
