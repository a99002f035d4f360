"""What the app costs training: steps per second of the same run in the app, in a pseudo-terminal, and without a screen.

    python benchmarks/app_cost.py [--preset macbook] [--processes 4] [--rounds 3] [--slice_s 4] [--name=value …]

Three sides take turns in short slices, so that what else the machine does meets all: a process without a screen (the
app's is stopped meanwhile); the app with its interface asleep, its first thread waiting in a signal's handler; and the
app as it is. Two processes of the same program differ by some hundredths in speed for as long as they live, so both are
started anew `--processes` times; what the interface costs is seen within one process. A slice counts from `--settle_s`
on, by the times of its recorded steps. Prepares the data set first, in the person's own folder.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import terminals
import tomli_w

from nanogpt import data
from nanogpt.config import load_preset

SIDES = ("headless", "asleep", "awake")
# the first thread sleeps from SIGUSR2 on, until a byte comes
APP = """
import os, signal, sys
bell = int(sys.argv.pop(1))
signal.signal(signal.SIGUSR2, lambda number, frame: os.read(bell, 1))
from nanogpt_tui import main
sys.exit(main())
"""


def interface_s(pid: int) -> float:
    """Processor seconds that the first thread of a process, in the app the interface's, has used."""
    fields = Path(f"/proc/{pid}/task/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(
    settings: dict[str, Any], rounds: int, slice_s: float, settle_s: float, home: Path
) -> list[dict[str, float]]:
    """Of each round of one pair of processes: steps a second of each side, and the interface's share of a core."""
    (home / "tui.toml").write_text(tomli_w.dumps({"quickstart": settings}), encoding="utf-8")
    folders = {side: home / side / "quickstart" for side in ("headless", "app")}
    env = {
        side: os.environ | {"NANOGPT_RUNS_DIR": str(home / side), "NANOGPT_CONFIG_DIR": str(home)} for side in folders
    }
    options = [f"--{name}={value}" for name, value in settings.items()]
    command = [sys.executable, "-m", "nanogpt", "train", "--name=quickstart", *options]
    pids: dict[str, int] = {}
    slices: list[dict[str, tuple[float, float]]] = []
    busy: list[float] = []

    def begun(side: str) -> None:
        """Waits for a side's first steps and stops it: two that start together hinder each other for a minute."""
        terminals.until(lambda: len(terminals.steps(folders[side])) > 2)
        pids[side] = terminals.trainer(folders[side])
        os.kill(pids[side], signal.SIGSTOP)

    alone = subprocess.Popen(command, env=env["headless"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    ear, throttle = os.pipe()
    app: terminals.Terminal | None = None
    try:
        begun("headless")
        app = terminals.Terminal([sys.executable, "-c", APP, str(ear)], env["app"], pass_fds=(ear,))
        terminals.until(lambda: b"Nothing has been" in app.last)
        app.press("g")
        begun("app")
        for number in range(rounds):
            slices.append({})
            for side in SIDES if number % 2 == 0 else reversed(SIDES):
                pid = pids["headless" if side == "headless" else "app"]
                os.kill(pid, signal.SIGCONT)
                if side == "asleep":
                    time.sleep(0.1)
                    os.kill(pid, signal.SIGUSR2)
                time.sleep(settle_s)
                began, used = time.time(), interface_s(pid)
                time.sleep(slice_s)
                slices[-1][side] = began, time.time()
                if side == "awake":
                    busy.append((interface_s(pid) - used) / slice_s)
                if side == "asleep":
                    os.write(throttle, b"!")
                os.kill(pid, signal.SIGSTOP)
    finally:
        for pid in pids.values():
            terminals.kill(pid)
        alone.kill()
        if app is not None:
            app.process.kill()
        os.close(ear)
        os.close(throttle)
    recorded = {side: terminals.steps(folder) for side, folder in folders.items()}
    return [
        {side: terminals.rate(recorded[side if side == "headless" else "app"], *each[side]) for side in SIDES}
        | {"busy": share}
        for each, share in zip(slices, busy, strict=True)
    ]


def report(what: str, ratios: list[float]) -> None:
    low, middle, high = quantiles(ratios, n=4) if len(ratios) > 1 else ratios * 3
    print(
        f"{what}: median ratio {middle:.3f} (quartiles {low:.3f} to {high:.3f} of {len(ratios)}), cost {1 - middle:.1%}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--preset", default="macbook")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--slice_s", type=float, default=4.0)
    parser.add_argument("--settle_s", type=float, default=0.7)
    parser.add_argument("--dataset", default="python_stdlib")
    options, rest = parser.parse_known_args()
    for _ in data.prepare(options.dataset):
        pass
    given = dict(item.removeprefix("--").split("=", 1) for item in rest)
    settings = dict(load_preset(options.preset).values) | terminals.STEPS_ALONE | {"dataset": options.dataset} | given
    found: list[dict[str, float]] = []
    for _ in range(options.processes):
        with tempfile.TemporaryDirectory() as home:
            found += measure(settings, options.rounds, options.slice_s, options.settle_s, Path(home))
        print("to itself asleep, to the other:", end=" ")
        print(
            *(f"{each['awake'] / each['asleep']:.3f} {each['awake'] / each['headless']:.3f}" for each in found),
            sep=", ",
            flush=True,
        )
    print("steps/s:", ", ".join(f"{side} {median(each[side] for each in found):.3f}" for side in SIDES))
    print(f"the interface's thread was busy {median(each['busy'] for each in found):.2%} of the time")
    report("app to itself with the interface asleep", [each["awake"] / each["asleep"] for each in found])
    report("app to a process without a screen", [each["awake"] / each["headless"] for each in found])


if __name__ == "__main__":
    main()
