"""nanoGPT's own checkpoint against the run that `nanogpt import` makes of it: the losses of both on the same batches.

    git clone https://github.com/karpathy/nanoGPT
    python benchmarks/nanogpt_checkpoint.py nanoGPT [--bias] [--steps 20]

nanoGPT's `train.py` trains a tiny model on characters for a few steps on the CPU, in a copy of its folder, and saves a
`ckpt.pt`. The loss is then computed once by nanoGPT's `model.py` and once by the imported run, over 32 windows of the
validation text. NANOGPT may also be a bare repository.
"""

import argparse
import os
import pickle
import random
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import torch

from nanogpt.models.base import compute_loss
from nanogpt.runs import load_model
from nanogpt.runs.importing import import_nanogpt

BLOCK, WINDOWS = 64, 32
TINY = f"--n_layer=3 --n_head=4 --n_embd=64 --block_size={BLOCK} --batch_size=8 --gradient_accumulation_steps=1"
CPU = "--device=cpu --dtype=float32 --compile=False --dataset=tiny --out_dir=out-tiny --eval_iters=2 --warmup_iters=2"
LOSS = """
import sys, numpy, torch
from model import GPT, GPTConfig
saved = torch.load("out-tiny/ckpt.pt")
model = GPT(GPTConfig(**saved["model_args"]))
model.load_state_dict(saved["model"])
windows = torch.from_numpy(numpy.load("windows.npy"))
with torch.inference_mode():
    print("loss", model.eval()(windows[:, :-1], windows[:, 1:].contiguous())[1].item())
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nanogpt", type=Path, metavar="NANOGPT")
    parser.add_argument("--bias", action="store_true")
    parser.add_argument("--steps", type=int, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        git = options.nanogpt / ".git" if (options.nanogpt / ".git").exists() else options.nanogpt
        archive = subprocess.run(["git", "--git-dir", git, "archive", "HEAD"], stdout=subprocess.PIPE, check=True)
        subprocess.run(["tar", "-x", "-C", folder], input=archive.stdout, check=True)
        windows = write_data(folder)
        training = [*TINY.split(), *CPU.split(), f"--max_iters={options.steps}", f"--eval_interval={options.steps}"]
        run(folder, "train.py", *training, f"--bias={options.bias}")
        theirs = float(run(folder, "-c", LOSS).split("loss ")[-1])
        import_nanogpt(folder / "out-tiny", folder / "run")
        ids = torch.from_numpy(windows)
        with torch.inference_mode():
            ours = compute_loss(load_model(str(folder / "run")).model, ids[:, :-1], ids[:, 1:]).item()
    print(f"{options.steps} steps: nanoGPT {theirs:.7f}, imported {ours:.7f}, difference {abs(theirs - ours):.1e}")
    sys.exit(abs(theirs - ours) > 1e-5)


def write_data(folder: Path) -> "np.ndarray[tuple[int, int], np.dtype[np.int64]]":
    """Write a data set of nanoGPT's and return windows (32, 65) of its validation text."""
    draw = random.Random(1)
    text = "".join(draw.choices("abcdefgh \n", weights=range(10, 0, -1), k=20_000))
    characters = sorted(set(text))
    ids = np.array([characters.index(character) for character in text], np.uint16)
    data = folder / "data" / "tiny"
    data.mkdir(parents=True)
    ids[:18_000].tofile(data / "train.bin")
    ids[18_000:].tofile(data / "val.bin")
    by_id = dict(enumerate(characters))
    meta = {"vocab_size": len(by_id), "itos": by_id, "stoi": {character: id for id, character in by_id.items()}}
    (data / "meta.pkl").write_bytes(pickle.dumps(meta))
    windows = np.stack([ids[18_000 + at * 60 :][: BLOCK + 1] for at in range(WINDOWS)]).astype(np.int64)
    np.save(folder / "windows.npy", windows)
    return windows


def run(folder: Path, *words: str) -> str:
    """Run Python in nanoGPT's folder and return what it prints."""
    environment = os.environ | {"TORCH_FORCE_NO_WEIGHTS_ONLY_LOAD": "1"}
    done = subprocess.run([sys.executable, *words], cwd=folder, env=environment, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr)
    return done.stdout


if __name__ == "__main__":
    main()
