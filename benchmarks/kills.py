"""Kills a training with SIGKILL at random moments, resumes it each time, and compares it with one left alone.

    python benchmarks/kills.py TEXT_FILE [--kills 20] [--seed 1]

Everything happens in real processes of the `nanogpt` command, on a CPU in float32, in a temporary home. Prints what was
compared; exit code 1 where anything differs or any checkpoint is unreadable.
"""

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

SETTINGS = [
    "--dataset=kills",
    "--n_layer=2",
    "--n_head=2",
    "--n_embd=32",
    "--block_size=32",
    "--dropout=0.1",
    "--max_iters=3000",
    "--eval_interval=10",
    "--eval_iters=2",
    "--device=cpu",
    "--dtype=float32",
    "--compile=false",
    "--threads=1",
    "--sample_tokens=0",
]


def command(*words: str) -> list[str]:
    return [sys.executable, "-m", "nanogpt", *words]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("text", help="a text file to train on")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seed", type=int, default=1)
    args = parser.parse_args()
    draw = random.Random(args.seed)
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"NANOGPT_HOME": home, "NANOGPT_CACHE_DIR": f"{home}/cache"}
        subprocess.run(command("prepare", "textfile", args.text, "--output=kills"), check=True, capture_output=True)
        began = time.monotonic()
        subprocess.run(command("train", "--name=whole", *SETTINGS), check=True, capture_output=True)
        whole_s = time.monotonic() - began
        print(f"left alone: {whole_s:.1f} s")
        kills = while_saving = 0
        cut = Path(home, "runs", "cut")
        words = command("train", "--name=cut", *SETTINGS)
        while kills < args.kills:
            process = subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            # Anywhere from its first import on; a third are aimed at the middle of a checkpoint.
            patience = time.monotonic() + draw.uniform(0.5, 3.0 + whole_s / args.kills)
            aimed = draw.random() < 1 / 3
            while time.monotonic() < patience or (aimed and process.poll() is None):
                if process.poll() is not None or (aimed and list(cut.glob("checkpoints/*.partial"))):
                    break
                time.sleep(0.0005)
            if process.poll() is not None:
                print(f"finished before kill {kills + 1}")
                break
            while_saving += bool(list(cut.glob("checkpoints/*.partial")))
            process.kill()
            process.wait()
            kills += 1
            verify(cut)
            started = (cut / "run.toml").exists()
            words = command("train", "--init_from=resume", "--name=cut") if started else words
        else:
            subprocess.run(words, check=True, capture_output=True)
        print(f"{kills} kills, {while_saving} of them while a checkpoint was being written")
        return compare(Path(home, "runs", "whole"), cut)


def verify(run: Path) -> None:
    """Every checkpoint that is there can be read."""
    from nanogpt.runs import checkpoints

    for checkpoint in checkpoints.list_checkpoints(run):
        checkpoints.read(checkpoint.path)


def compare(whole: Path, cut: Path) -> int:
    from nanogpt.events import Step
    from nanogpt.runs import history, latest

    same = True
    for name in ("model", "optimizer"):
        sums = []
        for run in (whole, cut):
            last = latest(run)
            assert last is not None
            sums.append(hashlib.sha256((last.path / f"{name}.safetensors").read_bytes()).hexdigest())
        same &= sums[0] == sums[1]
        print(f"{name}.safetensors at the end: {'identical' if sums[0] == sums[1] else 'DIFFERENT'} ({sums[0][:12]})")
    losses = [[(e.step, e.loss) for e in history(run) if isinstance(e, Step)] for run in (whole, cut)]
    print(f"losses of {len(losses[0]):,} steps: {'identical' if losses[0] == losses[1] else 'DIFFERENT'}")
    return 0 if same and losses[0] == losses[1] else 1


if __name__ == "__main__":
    sys.exit(main())
