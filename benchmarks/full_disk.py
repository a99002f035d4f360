"""Fills the disk under a training, makes space again, and compares the run with one that never wanted for space.

    sudo python benchmarks/full_disk.py TEXT_FILE [--megabytes 4]

The runs live on a small tmpfs, which only root may mount; it is unmounted at the end. Everything happens in processes
of the `nanogpt` command, on a CPU in float32. Prints what was seen; exit code 1 where anything was lost.
"""

import argparse
import hashlib
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from kills import SETTINGS, command, readable

from nanogpt import runs
from nanogpt.events import Health, Step


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", help="a text file to train on")
    parser.add_argument("--megabytes", type=int, default=4, help="size of the tmpfs")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as home, tempfile.TemporaryDirectory() as small:
        os.environ |= {"NANOGPT_HOME": home, "NANOGPT_CACHE_DIR": f"{home}/cache"}
        subprocess.run(command("prepare", "textfile", args.text, "--output=kills"), check=True, capture_output=True)
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={args.megabytes}m", "none", small], check=True)
        try:
            subprocess.run(command("train", "--name=whole", *SETTINGS), check=True, capture_output=True)
            return compare(Path(home, "runs", "whole"), squeezed(Path(small, "cut")))
        finally:
            subprocess.run(["umount", small], check=True)


def squeezed(run: Path) -> Path:
    """Trains in `run`, whose disk is filled to the brim three times, until training waits."""
    words = command("train", f"--out_dir={run}", *SETTINGS)
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    for number in range(3):
        wait_for(lambda: status(run).get("step", 0) > 300 * (number + 1), process)  # noqa: B023
        filler = run.parent / "filler"
        fill(filler)
        wait_for(lambda: any(event.state == "waiting" for event in healths(run)[2 * number :]) or full(run), process)  # noqa: B023
        time.sleep(3)
        before = step(run)
        time.sleep(1)
        print(f"full at step {before:,}: {'waits' if step(run) == before else 'TRAINS ON'}", end=", ", flush=True)
        readable(run)
        filler.unlink()
        freed = time.monotonic()
        wait_for(lambda: step(run) > before or process.poll() is not None, process)  # noqa: B023
        print(f"goes on {time.monotonic() - freed:.1f} s after there is space")
    if process.wait():
        sys.exit(f"training ended with exit code {process.returncode}")
    return run


def fill(path: Path) -> None:
    with path.open("wb", buffering=0) as file:
        for size in (65536, 4096):
            try:
                while file.write(b"x" * size):
                    pass
            except OSError:
                pass


def status(run: Path) -> dict[str, int]:
    try:
        return dict(json.loads((run / "status.json").read_text(encoding="utf-8")))
    except (OSError, ValueError):
        return {}


def healths(run: Path) -> list[Health]:
    return [event for event in runs.read_events(run) if isinstance(event, Health)]


def full(run: Path) -> bool:
    """Whether nothing is written any more: the waiting itself cannot be recorded on a disk that is full."""
    return time.time() - status(run).get("updated", time.time()) > 3


def step(run: Path) -> int:
    return max((event.step for event in runs.read_events(run) if isinstance(event, Step)), default=0)


def wait_for(condition, process) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 60
    while not condition():
        if process.poll() is not None or time.monotonic() > deadline:
            sys.exit(f"it did not come to that; exit code {process.poll()}")
        time.sleep(0.05)


def compare(whole: Path, cut: Path) -> int:
    readable(cut)
    sums = []
    for run in (whole, cut):
        last = runs.latest(run)
        assert last is not None
        sums.append(hashlib.sha256((last.path / "model.safetensors").read_bytes()).hexdigest())
    losses = [[(e.step, e.loss) for e in runs.read_events(run) if isinstance(e, Step)] for run in (whole, cut)]
    print(f"waited {sum(event.state == 'waiting' for event in healths(cut))} times, as its record says")
    print(f"weights at the end: {'identical' if sums[0] == sums[1] else 'DIFFERENT'} ({sums[0][:12]})")
    print(f"recorded losses of {len(losses[1]):,} steps: {'identical' if losses[0] == losses[1] else 'DIFFERENT'}")
    return 0 if sums[0] == sums[1] and losses[0] == losses[1] else 1


if __name__ == "__main__":
    sys.exit(main())
