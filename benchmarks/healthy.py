"""Whether a healthy training lights a lamp: one of each architecture on a real text, with its health measured.

    python benchmarks/healthy.py --text tinyshakespeare.txt [--steps 2000] [--only gpt2 lstm] [--name=value …]

Each has the architecture's own defaults, but for a size that two cores train in minutes. Prints the problems
and spikes that were reported, which should be none, and exits with 1 if there are any.
"""

import argparse
import dataclasses
import sys
import time
from pathlib import Path

import numpy as np

from nanogpt.config import ARCHITECTURE, component, names, resolve
from nanogpt.events import Evaluated, LayerProblem, Spike
from nanogpt.inspection import HealthObserver, LayerHealthObserver, LayerProblemObserver, SpikeObserver
from nanogpt.training import train

SIZES = {"n_layer": 3, "n_head": 4, "n_embd": 64, "block_size": 64}
TRAINING = {
    "device": "cpu",
    "batch_size": 12,
    "learning_rate": 1e-3,
    "min_lr": 1e-4,
    "warmup_iters": 100,
    "eval_interval": 1000,
    "eval_iters": 20,
}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--text", type=Path, required=True)
    parser.add_argument("--steps", type=int, default=2000)
    parser.add_argument("--only", nargs="+", default=[], metavar="ARCHITECTURE")
    args, flags = parser.parse_known_args()
    changes = dict(flag.removeprefix("--").split("=", 1) for flag in flags)
    content = np.frombuffer(args.text.read_bytes(), dtype=np.uint8).astype(np.uint16)
    tokens = {"train": content[: len(content) * 9 // 10], "val": content[len(content) * 9 // 10 :]}
    found = 0
    for kind in args.only or names(ARCHITECTURE):
        architecture = component(ARCHITECTURE, kind)
        if architecture.capabilities.counted:
            continue
        own = {each.name for each in dataclasses.fields(architecture)}
        sizes = {name: min(size, getattr(architecture(), name)) for name, size in SIZES.items() if name in own}
        length = {"architecture": kind, "max_iters": args.steps, "lr_decay_iters": args.steps, "vocab_size": 256}
        config = resolve(flags=sizes | TRAINING | length | changes).config
        observers = [HealthObserver(), LayerHealthObserver(config), LayerProblemObserver(), SpikeObserver(str)]
        began, losses = time.monotonic(), []
        for event in train(config, tokens, observers=observers):
            match event:
                case Evaluated():
                    losses.append(event.val_loss)
                case LayerProblem() | Spike():
                    found += 1
                    print(f"  {kind}: {event}", flush=True)
        print(f"{kind}: {args.steps:,} steps, val loss {losses[-1]:.3f}, {time.monotonic() - began:.0f} s", flush=True)
    return int(found > 0)


if __name__ == "__main__":
    sys.exit(main())
