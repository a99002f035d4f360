"""Time and memory of counting a large text with `nanogpt train --preset=ngram`, as a user runs it.

    python benchmarks/ngram.py [--megabytes 100] [--tokenizers char gpt2] [--orders 5] [--text FILE]

The text is FILE, or Python sources of this installation, each once; what is missing is drawn again in random stretches
of lines. One row a tokenizer and order: tokens, seconds of counting, seconds of everything in the process (import of
torch, tables, evaluation of the whole validation split, checkpoint), its CPU seconds, its peak memory, distinct
n-grams, validation loss in bits per token. On a shared machine the seconds are provisional and the CPU seconds the
better guide; the load average is printed above the rows.
"""

import argparse
import json
import math
import os
import random
import subprocess
import sys
import sysconfig
import tempfile
import time
from pathlib import Path

NANOGPT = [sys.executable, "-m", "nanogpt"]


def sources(size: int) -> str:
    """Return `size` characters of Python sources."""
    chosen = random.Random(1)
    paths = sysconfig.get_paths()
    files = sorted({path for name in ("stdlib", "purelib") for path in Path(paths[name]).rglob("*.py")})
    chosen.shuffle(files)
    parts, length = [], 0
    for file in files:
        if length >= size:
            break
        parts.append(file.read_text("utf-8", "ignore"))
        length += len(parts[-1])
    lines = "".join(parts).splitlines(keepends=True)
    while length < size:
        start = chosen.randrange(len(lines))
        parts.append("".join(lines[start : start + chosen.randrange(1, 20)]))
        length += len(parts[-1])
    return "".join(parts)[:size]


def train(home: Path, dataset: str, order: int) -> str:
    """Train one run; return its row."""
    folder = home / f"{dataset}-{order}"
    command = [*NANOGPT, "train", "--preset=ngram", f"--dataset={dataset}", f"--order={order}", "--sample_tokens=0"]
    started = time.perf_counter()
    with (home / "log").open("wb") as log:
        process = subprocess.Popen([*command, f"--data_dir={home / 'data'}", f"--out_dir={folder}"], stderr=log)
        _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - started
    if status:
        sys.exit((home / "log").read_text()[-2000:])
    events = [json.loads(line) for line in (folder / "events.jsonl").read_text().splitlines()]
    steps = [event for event in events if "grad_norm" in event]
    evaluated = next(event for event in events if "val_loss" in event and "n_parameters" in event)
    cpu, peak = usage.ru_utime + usage.ru_stime, usage.ru_maxrss / 1e6
    return (
        f"{dataset:14} {order:5} {steps[-1]['tokens']:12,} {steps[-1]['elapsed_s']:10.1f} {seconds:8.1f} {cpu:6.1f} "
        f"{peak:9.2f} {evaluated['n_parameters']:12,} {evaluated['val_loss'] / math.log(2):9.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--megabytes", type=float, default=100)
    parser.add_argument("--tokenizers", nargs="+", default=["char", "gpt2"])
    parser.add_argument("--orders", nargs="+", type=int, default=[5])
    parser.add_argument("--text", type=Path, help="a text file, instead of Python sources")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        text = home / "text.txt"
        size = int(args.megabytes * 1e6)
        text.write_text(args.text.read_text("utf-8")[:size] if args.text else sources(size), encoding="utf-8")
        for tokenizer in args.tokenizers:
            prepare = [*NANOGPT, "prepare", "textfile", str(text), f"--tokenizer={tokenizer}", f"--output={tokenizer}"]
            subprocess.run([*prepare, "--val_ratio=0.01", f"--data_dir={home / 'data'}"], check=True)
        print(f"{text.stat().st_size / 1e6:.1f} MB; load average {os.getloadavg()[0]:.1f}")
        print("tokenizer      order       tokens  counting s  total s  CPU s   peak GB      n-grams  bits/token")
        for tokenizer in args.tokenizers:
            for order in args.orders:
                print(train(home, tokenizer, order), flush=True)


if __name__ == "__main__":
    main()
