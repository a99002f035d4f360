"""What `dtype=auto` and `compile=auto` rest on: times of a training step on this machine, and what compiling costs.

    python benchmarks/auto_choices.py [--shapes macbook middle …] [--rounds 7] [--threads 0]

One line a shape and variant: milliseconds of a training step (forward, backward, clipping, fused AdamW; least and
median over the rounds), seconds that torch.compile takes once with an empty cache (cold) and with one that has been
filled (warm), for the training step and for the first evaluation. All variants of a shape take turns in one process,
so that what else the machine does falls on each alike; still, on a shared machine the figures are provisional, and
the least is the better guide. Behind it: what the rules of `nanogpt.hardware` choose for a run of that shape.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import torch

from nanogpt import hardware
from nanogpt.models.gpt2 import Config


@dataclass(frozen=True)
class Shape:
    model: Config
    batch_size: int
    max_iters: int


def _shape(layers: int, heads: int, width: int, block: int, vocabulary: int, dropout: float) -> Config:
    return Config(n_layer=layers, n_head=heads, n_embd=width, block_size=block, vocab_size=vocabulary, dropout=dropout)


SHAPES = {
    "macbook": Shape(_shape(4, 4, 128, 64, 65, 0.0), 12, 2000),
    "macbook-bpe": Shape(_shape(4, 4, 128, 64, 50257, 0.0), 12, 2000),
    "middle": Shape(_shape(4, 4, 256, 128, 65, 0.0), 16, 2000),
    "middle-dropout": Shape(_shape(4, 4, 256, 128, 65, 0.2), 16, 2000),
    "baby": Shape(_shape(6, 6, 384, 256, 65, 0.0), 8, 5000),
    "baby-dropout": Shape(_shape(6, 6, 384, 256, 65, 0.2), 8, 5000),
}
VARIANTS = tuple(product(("eager", "compiled"), ("float32", "bfloat16")))


class Trainer:
    """One variant of one shape: a model, its optimizer, and a batch of random tokens."""

    def __init__(self, shape: Shape, mode: str, dtype: str, device: str) -> None:
        torch.manual_seed(0)
        model = shape.model.build().to(device)
        self.device, self.dtype = device, dtype
        self.parameters = list(model.parameters())
        groups = [
            {"params": group.parameters, "weight_decay": 0.1 if group.decay else 0.0}
            for group in model.parameter_groups()
        ]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, fused=True)
        self.model: Any = torch.compile(model) if mode == "compiled" else model
        size = (shape.batch_size, shape.model.block_size)
        self.ids = torch.randint(shape.model.vocab_size, size, device=device)

    def step(self) -> float:
        """Seconds of one training step."""
        begun = time.perf_counter()
        with hardware.autocast(self.device, self.dtype):
            _, loss = self.model(self.ids, self.ids)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        loss.item()  # waits for the device
        return time.perf_counter() - begun

    def evaluate(self) -> float:
        """Seconds of one evaluated batch; leaves the model in training mode."""
        begun = time.perf_counter()
        self.model.eval()
        with torch.no_grad(), hardware.autocast(self.device, self.dtype):
            self.model(self.ids, self.ids)[1].item()
        self.model.train()
        return time.perf_counter() - begun


def compile_once(name: str, dtype: str, device: str) -> None:
    """In a process of its own: prints the seconds that compiling adds to the first step and the first evaluation."""
    trainer = Trainer(SHAPES[name], "compiled", dtype, device)
    first, first_evaluation = trainer.step(), trainer.evaluate()
    step, evaluation = min(trainer.step() for _ in range(3)), min(trainer.evaluate() for _ in range(3))
    print(json.dumps([first - step, first_evaluation - evaluation]))


def compile_seconds(name: str, dtype: str, arguments: list[str], cache: str) -> list[float]:
    """[training, evaluation] seconds, by `compile_once` in a fresh process."""
    command = [sys.executable, __file__, *arguments, "--once", name, dtype]
    environment = {**os.environ, "TORCHINDUCTOR_CACHE_DIR": cache}
    done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    seconds: list[float] = json.loads(done.stdout)
    return seconds


def measure(name: str, device: str, rounds: int) -> dict[tuple[str, str], list[float]]:
    """Seconds of a step in each round, for each variant, all taking turns."""
    shape = SHAPES[name]
    trainers = {variant: Trainer(shape, *variant, device) for variant in VARIANTS}
    pace = {variant: min(trainer.step() for _ in range(3)) for variant, trainer in trainers.items()}
    times: dict[tuple[str, str], list[float]] = {variant: [] for variant in VARIANTS}
    for _ in range(rounds):
        for variant, trainer in trainers.items():
            count = max(1, min(40, round(0.4 / pace[variant])))
            times[variant].append(sum(trainer.step() for _ in range(count)) / count)
    return times


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--once", nargs=2, help=argparse.SUPPRESS)
    args = parser.parse_args()
    device = hardware.resolve_device(args.device)
    torch.set_num_threads(hardware.resolve_threads(args.threads))
    if args.once:
        name, dtype = args.once
        compile_once(name, dtype, device)
        return
    print(", ".join(f"{name} {value}" for name, value in hardware.describe().items()))
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = folder
        for name in args.shapes:
            report(name, device, args, Path(folder))


def report(name: str, device: str, args: argparse.Namespace, folder: Path) -> None:
    again = ["--device", device, "--threads", str(torch.get_num_threads())]
    once = {}
    for dtype in ("float32", "bfloat16"):
        cache = str(folder / f"{name}-{dtype}")
        once[dtype] = [compile_seconds(name, dtype, again, cache) for _ in ("cold", "warm")]
    times = measure(name, device, args.rounds)
    print(f"\n{name:<15}{'':16}  least ms  median ms  cold: train + eval s  warm: train + eval s")
    for (mode, dtype), seconds in times.items():
        print(f"  {mode:<9} {dtype:<9} {1e3 * min(seconds):18.2f} {1e3 * statistics.median(seconds):10.2f}", end="")
        compiling = once[dtype] if mode == "compiled" else []
        print(*(f"{train:15.1f} + {evaluation:4.1f}" for train, evaluation in compiling), flush=True)
    shape = SHAPES[name]
    tokens = shape.batch_size * shape.model.block_size
    dtype, why_dtype = hardware.resolve_dtype("auto", device, width=shape.model.width, tokens=tokens)
    compiled, why_compiled = hardware.resolve_compile(
        "auto",
        device,
        dtype=dtype,
        tokens=tokens * shape.max_iters,
        flops_per_token=shape.model.flops_per_token(),
        estimate=shape.model.compile_estimate(dtype),
    )
    mode = "compiled" if compiled else "eager"
    print(f"  auto for {shape.max_iters} iterations: {dtype} ({why_dtype}), {mode} ({why_compiled})", flush=True)


if __name__ == "__main__":
    main()
