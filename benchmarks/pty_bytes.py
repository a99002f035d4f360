"""How many bytes a second the app sends its terminal, at 120 × 40, while it watches a run that another process trains.

    python benchmarks/pty_bytes.py [--minutes 5] [--limit 2048] [--steps_per_s 20] [--dataset D]

Two apps watch the same run at the same time, in pseudo-terminals of their own: one as over SSH, one as at home. What is
counted arrives at the pseudo-terminal; the first picture is left out. The run is a small one that is slowed down to
`--steps_per_s`, with evaluations, checkpoints and samples on the way. Exit code 1 where SSH mode is above the limit.
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import terminals

TRAINER = """
import sys, time
from pathlib import Path
from nanogpt import runs
from nanogpt.config import resolve
from nanogpt.events import Step
pause_s, runs_dir, changes = 1 / float(sys.argv[1]), Path(sys.argv[2]), dict(word.split("=") for word in sys.argv[3:])
config = resolve(preset="quickstart", flags=changes).config
for event in runs.start(config, runs_dir / "watched", runs_dir=runs_dir):
    if isinstance(event, Step):
        time.sleep(pause_s)
"""
SMALL = ("n_layer=1", "n_head=2", "n_embd=32", "block_size=32", "batch_size=8", "threads=1", "max_iters=1000000")
SCHEDULE = ("eval_interval=200", "eval_iters=5", "sample_interval=200", "sample_tokens=200", "warmup_iters=20")


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--limit", type=float, default=2048.0, help="bytes a second in SSH mode")
    parser.add_argument("--steps_per_s", type=float, default=20.0)
    parser.add_argument("--dataset", default="python_stdlib")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        runs_dir = Path(home) / "runs"
        env = os.environ | {"NANOGPT_RUNS_DIR": str(runs_dir), "NANOGPT_CONFIG_DIR": home}
        at_home = {name: value for name, value in env.items() if name not in ("SSH_CONNECTION", "COLORTERM")}
        over_ssh = at_home | {"SSH_CONNECTION": "192.0.2.1 50000 192.0.2.2 22"}
        words = [f"dataset={options.dataset}", *SMALL, *SCHEDULE]
        command = [sys.executable, "-c", TRAINER, str(options.steps_per_s), str(runs_dir), *words]
        with subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL) as training:
            try:
                terminals.until(lambda: len(terminals.steps(runs_dir / "watched")) > 10)
                with (
                    terminals.app(over_ssh, f"--runs_dir={runs_dir}") as ssh,
                    terminals.app(at_home | {"COLORTERM": "truecolor"}, f"--runs_dir={runs_dir}") as local,
                ):
                    shown = {"SSH mode": ssh, "normal mode": local}
                    terminals.until(lambda: all(b"train loss" in each.last for each in shown.values()))
                    time.sleep(5)
                    before, began = {name: each.read for name, each in shown.items()}, time.monotonic()
                    worst = dict.fromkeys(shown, 0)
                    while time.monotonic() - began < 60 * options.minutes:
                        last = {name: each.read for name, each in shown.items()}
                        time.sleep(1)
                        worst = {name: max(worst[name], each.read - last[name]) for name, each in shown.items()}
                    elapsed = time.monotonic() - began
                    step = terminals.steps(runs_dir / "watched")[-1]["step"]
                    print(f"watched for {elapsed:.0f} s at 120 × 40; the run is at step {step:,}")
                    rates = {name: (each.read - before[name]) / elapsed for name, each in shown.items()}
                    for name, rate in rates.items():
                        print(f"{name}: {rate:,.0f} bytes/s, at most {worst[name]:,} in one second")
                    return int(rates["SSH mode"] > options.limit)
            finally:
                training.kill()


if __name__ == "__main__":
    sys.exit(main())
