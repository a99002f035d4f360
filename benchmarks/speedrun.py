"""From launch to a validation loss: nanoGPT's recipe for a CPU beside `--preset=speedrun`, whole processes in turn.

    python benchmarks/speedrun.py NANOGPT_DIR TEXT_FILE [--rounds 2] [--preset speedrun]

NANOGPT_DIR is a checkout of nanoGPT, TEXT_FILE the tiny Shakespeare. Both find their data prepared. nanoGPT runs as its
README says for a CPU; its loss over the whole validation split is computed from its checkpoint afterwards, outside the
clock. Ours is the one that the run itself measured, over the same split, inside the clock.
"""

import argparse
import json
import os
import pickle
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np

RECIPE = [
    "config/train_shakespeare_char.py",
    *("--device=cpu", "--compile=False", "--eval_iters=20", "--log_interval=1", "--block_size=64", "--batch_size=12"),
    *("--n_layer=4", "--n_head=4", "--n_embd=128", "--max_iters=2000", "--lr_decay_iters=2000", "--dropout=0.0"),
]

# Run where nanoGPT lies: the mean loss over every token of the split but the first, in windows of block_size.
WHOLE_SPLIT = """
import sys, numpy as np, torch
from model import GPT, GPTConfig
kept = torch.load(sys.argv[1], map_location="cpu", weights_only=True)
model = GPT(GPTConfig(**kept["model_args"])).eval()
model.load_state_dict(kept["model"])
ids = torch.from_numpy(np.fromfile(sys.argv[2], dtype=np.uint16).astype(np.int64))
T, total = model.config.block_size, 0.0
with torch.inference_mode():
    for start in range(0, len(ids) - 1, T):
        x, y = ids[start : start + T][: len(ids) - 1 - start], ids[start + 1 : start + T + 1]
        total += model(x[None], y[None])[1].item() * len(y)
print(total / (len(ids) - 1))
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nanogpt", type=Path)
    parser.add_argument("text", type=Path)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--preset", default="speedrun")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        env = os.environ | {f"NANOGPT_{name}": scratch for name in ("HOME", "CACHE_DIR", "CONFIG_DIR")}
        ours = [sys.executable, "-m", "nanogpt"]
        prepare = [*ours, "prepare", "shakespeare_char", f"--source={options.text.resolve()}"]
        subprocess.run(prepare, env=env, check=True, capture_output=True)
        shutil.copytree(options.nanogpt, folder / "reference", ignore=shutil.ignore_patterns(".git", "out*"))
        val = data_for_nanogpt(options.text.read_text(encoding="utf-8"), folder / "reference")
        times: dict[str, list[float]] = {"nanoGPT": [], "ours": []}
        for number in range(options.rounds):
            times["nanoGPT"].append(timed([sys.executable, "train.py", *RECIPE, "--out_dir=out"], folder / "reference"))
            told = [sys.executable, "-c", WHOLE_SPLIT, "out/ckpt.pt", str(val)]
            measured = subprocess.run(told, cwd=folder / "reference", check=True, capture_output=True, text=True)
            train = [*ours, "train", f"--preset={options.preset}", f"--name=round-{number}"]
            times["ours"].append(timed(train, Path.cwd(), env))
            reference = float(measured.stdout.split()[-1])
            loss = run_loss(folder / "runs" / f"round-{number}" / "events.jsonl")
            print(
                f"round {number + 1}: nanoGPT {times['nanoGPT'][-1]:.1f} s, loss {reference:.4f}; "
                f"{options.preset} {times['ours'][-1]:.1f} s, loss {loss:.4f}",
                flush=True,
            )
        slow, fast = (median(times[name]) for name in ("nanoGPT", "ours"))
        print(f"median: nanoGPT {slow:.1f} s, {options.preset} {fast:.1f} s: {fast / slow:.3f} of its time")


def data_for_nanogpt(text: str, reference: Path) -> Path:
    """Writes what its preparation would write for this text; returns where the validation split lies."""
    folder = reference / "data" / "shakespeare_char"
    characters = sorted(set(text))
    ids = np.array([characters.index(c) for c in text], dtype=np.uint16)
    cut = len(ids) * 9 // 10
    ids[:cut].tofile(folder / "train.bin")
    ids[cut:].tofile(folder / "val.bin")
    meta = {
        "vocab_size": len(characters),
        "itos": dict(enumerate(characters)),
        "stoi": {c: place for place, c in enumerate(characters)},
    }
    (folder / "meta.pkl").write_bytes(pickle.dumps(meta))  # the form that it reads; nothing here loads one
    return folder / "val.bin"


def timed(command: list[str], folder: Path, env: dict[str, str] | None = None) -> float:
    began = time.monotonic()
    subprocess.run(command, cwd=folder, env=env, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    return time.monotonic() - began


def run_loss(events: Path) -> float:
    told = [json.loads(line) for line in events.read_text(encoding="utf-8").splitlines()]
    return next(float(event["val_loss"]) for event in reversed(told) if event.get("val_loss") is not None)


if __name__ == "__main__":
    main()
