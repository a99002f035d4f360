"""Kills a training with SIGKILL at random moments, resumes it each time, and compares it with one left alone.

    python benchmarks/kills.py TEXT_FILE [--kills 200] [--seed 1]

On a CPU in float32, one thread, in a temporary home. The run left alone, and the last resume, are the `nanogpt`
command; the ones that are killed are forks of this process, which has imported torch and computed nothing: a start
takes a tenth of the time so. Half of the kills wait for a checkpoint that is being written, the others for a moment
drawn by chance.

After every kill: each checkpoint can be read; every event that the trainer's reader had seen is in the record, and the
record's earlier lines are as they were. At the end: every loss of every attempt, and the last weights, are those of the
run left alone. Prints what was compared; exit code 1 where anything differs.
"""

import os

os.environ["OMP_NUM_THREADS"] = "1"  # before torch: a pool of threads does not survive a fork

import argparse
import hashlib
import importlib
import mmap
import pkgutil
import random
import signal
import struct
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

SETTINGS = [
    "--dataset=kills",
    "--n_layer=1",
    "--n_head=2",
    "--n_embd=32",
    "--block_size=32",
    "--batch_size=2",
    "--dropout=0.1",
    "--max_iters=2000",
    "--eval_interval=10",
    "--eval_iters=1",
    "--always_save_checkpoint=true",
    "--device=cpu",
    "--dtype=float32",
    "--compile=false",
    "--threads=1",
    "--sample_tokens=0",
]
LONGEST_S = 0.8  # a moment drawn by chance is at most so long after the start


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "nanogpt", *words]


class Seen:
    """How many events a child's reader has seen, in memory that outlives the child."""

    def __init__(self) -> None:
        self._memory = mmap.mmap(-1, 8)

    def count(self) -> int:
        return int(struct.unpack("q", self._memory[:8])[0])

    def set(self, count: int) -> None:
        self._memory[:8] = struct.pack("q", count)


def trainer(run: Path, seen: Seen) -> int:
    """Forks a child that begins the run, or goes on with it, and returns its process id."""
    from nanogpt import runs
    from nanogpt.config import resolve

    seen.set(0)
    pid = os.fork()
    if pid:
        return pid
    try:
        flags = dict(word.removeprefix("--").split("=") for word in SETTINGS)
        begun = (run / "run.toml").exists()
        for number, _ in enumerate(runs.resume(run) if begun else runs.start(resolve(flags=flags).config, run)):
            seen.set(number + 1)
        os._exit(0)
    finally:
        os._exit(1)


def killed(pid: int, run: Path, draw: random.Random, aimed: bool) -> bool:
    """Kills the trainer at some moment; False where it came to its end before."""
    partial = run / "checkpoints"
    moment = time.monotonic() + draw.uniform(0, LONGEST_S)
    while time.monotonic() < moment or (aimed and not list(partial.glob("*.partial"))):
        if os.waitpid(pid, os.WNOHANG) != (0, 0):
            return False
        time.sleep(0.0002 if time.monotonic() >= moment else 0.002)
    if aimed:
        time.sleep(draw.uniform(0, 0.004))
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    return True


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", help="a text file to train on")
    parser.add_argument("--kills", type=int, default=200)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    import_everything()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"NANOGPT_HOME": home, "NANOGPT_CACHE_DIR": f"{home}/cache"}
        subprocess.run(command("prepare", "textfile", args.text, "--output=kills"), check=True, capture_output=True)
        subprocess.run(command("train", "--name=whole", *SETTINGS), check=True, capture_output=True)
        kills = while_saving = torn = attempts = 0
        began = time.monotonic()
        same = True
        while kills < args.kills:
            attempts += 1
            cut, seen, record = Path(home, "runs", f"cut-{attempts}"), Seen(), b""
            while kills < args.kills:
                if not killed(trainer(cut, seen), cut, draw, aimed=2 * while_saving <= kills):
                    break
                kills += 1
                while_saving += bool(list(cut.glob("checkpoints/*.partial")))
                torn += verify(cut, record, seen.count())
                record = recorded(cut)
                print(f"\r{kills} kills, {while_saving} while saving", end="", file=sys.stderr, flush=True)
            else:
                words = ["--init_from=resume"] if (cut / "run.toml").exists() else SETTINGS
                subprocess.run(command("train", f"--name={cut.name}", *words), check=True, capture_output=True)
            same &= compare(Path(home, "runs", "whole"), cut)
        seconds = (time.monotonic() - began) / kills
        print(f"{kills} kills of {attempts} runs, {while_saving} of them while a checkpoint was being written,")
        print(f"{torn} last lines torn; {seconds:.1f} s a kill; {'all the same' if same else 'NOT THE SAME'}")
        return 0 if same else 1


def import_everything() -> None:
    """What a trainer imports on its way, so that each child has it."""
    import safetensors.torch  # noqa: F401
    import torch._dynamo  # noqa: F401

    import nanogpt

    for module in pkgutil.walk_packages(nanogpt.__path__, "nanogpt."):
        if not module.name.startswith(("nanogpt.__main__", "nanogpt.cli", "nanogpt.interop")):
            importlib.import_module(module.name)


def recorded(run: Path) -> bytes:
    """The record's whole lines."""
    path = run / "events.jsonl"
    written = path.read_bytes() if path.exists() else b""
    return written[: written.rfind(b"\n") + 1]


def readable(run: Path) -> None:
    """Raises `UserError` where a checkpoint is not whole."""
    from nanogpt.runs import checkpoints

    for checkpoint in checkpoints.list_checkpoints(run):
        checkpoints.read(checkpoint.path)


def verify(run: Path, before: bytes, seen: int) -> bool:
    """Exits where anything is lost; tells whether the last line is torn."""
    from nanogpt.events import from_json

    readable(run)
    now = recorded(run)
    if (run / "run.toml").exists() and not now.startswith(before):
        sys.exit("earlier lines of the record have changed")
    added = now[len(before) :].splitlines()
    if len(added) < seen:
        sys.exit(f"{seen - len(added)} of {seen} events that were seen are not in the record")
    for line in added:
        from_json(line)
    path = run / "events.jsonl"
    return path.exists() and path.stat().st_size > len(now)


def compare(whole: Path, cut: Path) -> bool:
    from nanogpt.events import Step
    from nanogpt.runs import history, latest, read_events

    def digests(run: Path) -> list[str]:
        last = latest(run)
        assert last is not None
        files = [last.path / f"{name}.safetensors" for name in ("model", "optimizer")]
        return [hashlib.sha256(file.read_bytes()).hexdigest() for file in files]

    def losses(events: Callable[[Path], object], run: Path) -> list[tuple[int, float]]:
        return [(event.step, event.loss) for event in events(run) if isinstance(event, Step)]  # type: ignore[attr-defined]

    expected, every = losses(history, whole), losses(read_events, cut)
    weights = digests(whole) == digests(cut)
    in_the_end = losses(history, cut) == expected
    in_every_attempt = set(every) == set(expected)
    same = "identical" if weights else "DIFFERENT"
    print(f"{cut.name}: weights and optimizer {same} ({digests(cut)[0][:12]}), ", end="")
    print(f"{len(expected):,} losses {'identical' if in_the_end else 'DIFFERENT'}, ", end="")
    print(f"also in all {len(every):,} recorded steps" if in_every_attempt else "NOT in every attempt", flush=True)
    return weights and in_the_end and in_every_attempt


if __name__ == "__main__":
    sys.exit(main())
