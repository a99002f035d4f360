"""What a terminal that reads nothing any more does to a training in the app, and whether the app still ends.

    python benchmarks/stalled_reader.py [--seconds 60] [--quick] [--name=value …]

The app trains in a pseudo-terminal of 120 × 40 whose reader stops for that long, with reading for as long before and
after in two parts; keys are pressed all the time, so that there is much to draw. Then, each with a reader that never
comes back: quitting by its keys, SIGTERM and SIGHUP. `--quick` leaves the first part out. Exit code 1 where the app
does not end.
"""

import argparse
import json
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import pairwise
from pathlib import Path
from typing import Any

import terminals
import tomli_w

from nanogpt import data
from nanogpt.config import load_preset


def memory_mb(pid: int) -> float:
    pages = int(Path(f"/proc/{pid}/statm").read_text(encoding="utf-8").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 2**20


def longest(recorded: list[dict[str, Any]], began: float, ended: float) -> float:
    """Seconds between two steps that followed on each other, at most, between two wall clock times."""
    times = [event["time"] for event in recorded if began <= event["time"] <= ended]
    return max(later - sooner for sooner, later in pairwise(times))


@contextmanager
def training(settings: dict[str, Any]) -> Iterator[tuple[terminals.Terminal, Path]]:
    """The app with a run under way, and the run's folder; nothing of them is left at the end."""
    with tempfile.TemporaryDirectory() as home:
        (Path(home) / "tui.toml").write_text(tomli_w.dumps({"quickstart": settings}), encoding="utf-8")
        folder = Path(home) / "runs" / "quickstart"
        env = os.environ | {"NANOGPT_RUNS_DIR": str(folder.parent), "NANOGPT_CONFIG_DIR": home}
        with terminals.app(env) as app:
            terminals.until(lambda: b"Nothing has been" in app.last)
            app.press("g")
            terminals.until(lambda: len(terminals.steps(folder)) > 20)
            pid = terminals.trainer(folder)
            try:
                yield app, folder
            finally:
                terminals.kill(pid)


def pressing(app: terminals.Terminal, seconds: float) -> tuple[float, float]:
    """Presses a key five times a second; returns when that began and ended."""
    began = time.time()
    while time.time() - began < seconds:
        app.press("l")
        time.sleep(0.2)
    return began, time.time()


def stall(settings: dict[str, Any], seconds: float) -> None:
    with training(settings) as (app, folder):
        pid = terminals.trainer(folder)
        pressing(app, 5)
        before, memory, read = pressing(app, seconds / 2), memory_mb(pid), app.read
        app.reading.clear()
        stalled = pressing(app, seconds)
        grown, missed = memory_mb(pid) - memory, app.read - read
        app.reading.set()
        time.sleep(2)
        came = app.read - read
        after = pressing(app, seconds / 2)
        recorded = terminals.steps(folder)
        rates = [terminals.rate(recorded, *each) for each in (before, stalled, after)]
        print(f"steps/s: {rates[0]:.2f} while read, {rates[1]:.2f} while not for {seconds:g} s, {rates[2]:.2f} after")
        gaps = [longest(recorded, *each) for each in (before, stalled, after)]
        print("longest time between two steps: {:.2f}, {:.2f} and {:.2f} s".format(*gaps))
        print(f"ratio {rates[1] / ((rates[0] + rates[2]) / 2):.3f}; memory grew by {grown:.1f} MiB meanwhile")
        print(f"{missed:,} bytes were read meanwhile, {came - missed:,} in the 2 s after")


def ends(settings: dict[str, Any], how: str, act: Callable[[terminals.Terminal, int], None]) -> bool:
    """Whether the app leaves its terminal after `act`, with a reader that stopped for good."""
    with training(settings) as (app, folder):
        pid = terminals.trainer(folder)
        app.reading.clear()
        pressing(app, 4)
        began = time.monotonic()
        act(app, pid)
        try:
            terminals.until(lambda: app.process.poll() is not None, 30)
        except TimeoutError:
            print(f"{how}: STILL THERE after 30 s")
            return False
        status = json.loads((folder / "status.json").read_text(encoding="utf-8"))
        print(f"{how}: left after {time.monotonic() - began:.1f} s, the run is {status['state']}")
        return True


def quit_by_keys(app: terminals.Terminal, pid: int) -> None:
    app.press("q")
    time.sleep(1)
    app.press("s")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--preset", default="macbook")
    parser.add_argument("--dataset", default="python_stdlib")
    options, rest = parser.parse_known_args()
    for _ in data.prepare(options.dataset):
        pass
    given = dict(item.removeprefix("--").split("=", 1) for item in rest)
    settings = dict(load_preset(options.preset).values) | terminals.STEPS_ALONE | {"dataset": options.dataset} | given
    if not options.quick:
        stall(settings, options.seconds)
    acts: dict[str, Callable[[terminals.Terminal, int], None]] = {
        "quit and save by the keys q and s": quit_by_keys,
        "SIGTERM": lambda app, pid: os.kill(pid, signal.SIGTERM),
        "SIGHUP": lambda app, pid: os.kill(pid, signal.SIGHUP),
    }
    ended = [ends(settings, how, act) for how, act in acts.items()]
    return int(not all(ended))


if __name__ == "__main__":
    sys.exit(main())
