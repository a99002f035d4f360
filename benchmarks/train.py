"""Training steps of nanoGPT and of this project in turn: seconds an iteration, their ratio, and the losses.

    python benchmarks/train.py NANOGPT_DIR TEXT_FILE [--shapes macbook baby baby-without-dropout]

NANOGPT_DIR is a checkout of nanoGPT, of which `model.py` is imported. Its side does what its `train.py` does as its
README tells users of a CPU: float32, not compiled, its own optimizer, a loss shown each iteration. This side is
`nanogpt.training.train` with every choice left to it. Both begin with the same weights, see the same windows of
TEXT_FILE, character by character, and follow the same learning rates, so the losses differ by number formats and
dropout's chance.

Each side has a process of its own, and they take turns. Printed are the median iteration of each, the median of the
ratios turn by turn, and the mean loss over the last turn.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from statistics import mean, median
from typing import Any, NamedTuple

import numpy as np

from nanogpt.config import Config, resolve
from nanogpt.hardware import share_cores


class Shape(NamedTuple):
    preset: str
    flags: dict[str, Any]
    steps: int  # in one turn
    turns: int  # after one that warms up


SHAPES = {
    "macbook": Shape("macbook", {}, 40, 5),
    "baby": Shape("baby", {}, 1, 2),
    "baby-without-dropout": Shape("baby", {"dropout": 0.0}, 1, 2),
}


def configured(name: str, vocab_size: int) -> Config:
    """The preset, with nanoGPT's learning rate, evaluated only at the ends."""
    shape = SHAPES[name]
    flags = {"vocab_size": vocab_size, "learning_rate": 1e-3, "device": "cpu", "eval_interval": 10**6, "eval_iters": 1}
    return resolve(preset=shape.preset, flags=flags | shape.flags).config


def characters(path: str) -> tuple[dict[str, Any], int]:
    """The text's two splits as ids of its characters, and how many characters there are."""
    text = Path(path).read_text(encoding="utf-8")
    places = {character: place for place, character in enumerate(sorted(set(text)))}
    ids = np.array([places[character] for character in text], dtype=np.uint16)
    return {"train": ids[: len(ids) * 9 // 10], "val": ids[len(ids) * 9 // 10 :]}, len(places)


def ours(config: Config, tokens: dict[str, Any]) -> Iterator[tuple[float, dict[str, Any]]]:
    """(loss, what else there is to say) after each step."""
    from nanogpt.events import Started, Step
    from nanogpt.training import train

    about: dict[str, Any] = {}
    for event in train(config, tokens):
        if isinstance(event, Started):
            about = {"dtype": event.dtype, "compile": event.compile}
        if isinstance(event, Step):
            yield event.loss, about | {"mfu": event.mfu}


def theirs(config: Config, tokens: dict[str, Any], folder: str) -> Iterator[tuple[float, dict[str, Any]]]:
    import torch

    from nanogpt.data.batches import Batches

    sys.path.insert(0, folder)
    from model import GPT, GPTConfig  # type: ignore[import-not-found]

    shape, asked = config.model, config.optimizer
    torch.manual_seed(config.system.seed)
    weights = shape.build().state_dict()
    names = ("block_size", "vocab_size", "n_layer", "n_head", "n_embd", "dropout", "bias")
    model = GPT(GPTConfig(**{name: getattr(shape, name) for name in names}))
    model.load_state_dict(
        {f"transformer.{name}": weight for name, weight in weights.items()} | {"lm_head.weight": weights["wte.weight"]}
    )
    optimizer = model.configure_optimizers(
        asked.weight_decay, asked.learning_rate, (asked.beta1, asked.beta2), device_type="cpu"
    )
    batches = Batches(tokens["train"], shape.block_size, config.data.batch_size, config.system.seed)
    for step in range(config.schedule.max_iters):
        for group in optimizer.param_groups:
            group["lr"] = config.schedule.learning_rate(step, asked.learning_rate, config.schedule.max_iters)
        window = torch.from_numpy(batches.next())
        _, loss = model(window[:, :-1].contiguous(), window[:, 1:].contiguous())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), asked.grad_clip)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        yield loss.item(), {"dtype": "float32", "compile": False}


def serve(args: argparse.Namespace) -> None:
    """In a process of its own: for each number read, as many steps; answers with their seconds and losses."""
    said, sys.stdout = sys.stdout, sys.stderr
    tokens, vocab_size = characters(args.text)
    config = configured(args.shape, vocab_size)
    steps = ours(config, tokens) if args.side == "ours" else theirs(config, tokens, args.nanogpt)
    for line in sys.stdin:
        seconds, losses, about = [], [], {}
        for _ in range(int(line)):
            begun = time.perf_counter()
            loss, about = next(steps)
            seconds.append(time.perf_counter() - begun)
            losses.append(loss)
        print(json.dumps({"seconds": seconds, "losses": losses, **about}), file=said, flush=True)


def compare(name: str, args: argparse.Namespace) -> None:
    shape = SHAPES[name]
    again = [sys.executable, __file__, args.nanogpt, args.text, "--shape", name, "--side"]
    sides = {
        side: subprocess.Popen([*again, side], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for side in ("nanoGPT", "ours")
    }

    def turn(side: str, steps: int) -> dict[str, Any]:
        process = sides[side]
        assert process.stdin is not None
        assert process.stdout is not None
        print(steps, file=process.stdin, flush=True)
        answer = process.stdout.readline()
        if not answer:
            sys.exit(f"{side} ended with exit code {process.wait()}")
        return dict(json.loads(answer))

    try:
        turns = [{side: turn(side, shape.steps) for side in sides} for _ in range(1 + shape.turns)][1:]
    finally:
        for process in sides.values():
            process.kill()
            with suppress(OSError):
                process.communicate()
    seconds = {side: median(second for each in turns for second in each[side]["seconds"]) for side in sides}
    ratios = [median(each["nanoGPT"]["seconds"]) / median(each["ours"]["seconds"]) for each in turns]
    losses = {side: mean(turns[-1][side]["losses"]) for side in sides}
    config = configured(name, 65)
    about = turns[-1]["ours"]
    print(f"{name}: {' against '.join(f'{side} {1e3 * s:,.1f} ms' for side, s in seconds.items())}", end="")
    print(f" an iteration ({config.tokens_per_iteration / seconds['ours']:,.0f} tokens/s)", end="")
    print(f": {median(ratios):.2f} times as fast (turns: {', '.join(f'{ratio:.2f}' for ratio in ratios)})")
    compiled = "compiled" if about["compile"] else "not compiled"
    mfu = f", MFU {about['mfu']:.0%}" if about["mfu"] else ""
    print(
        f"  ours: {about['dtype']}, {compiled}{mfu}; loss after {shape.steps * (1 + shape.turns)} iterations: ", end=""
    )
    print(", ".join(f"{side} {loss:.4f}" for side, loss in losses.items()), flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("nanogpt", metavar="NANOGPT_DIR")
    parser.add_argument("text", metavar="TEXT_FILE")
    parser.add_argument("--shapes", nargs="+", choices=SHAPES, default=list(SHAPES))
    parser.add_argument("--shape", choices=SHAPES, help=argparse.SUPPRESS)
    parser.add_argument("--side", choices=("ours", "nanoGPT"), help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        share_cores()  # for both: whoever waits spins less, so that a machine that is not quite idle matters less
        serve(args)
        return
    for name in args.shapes:
        compare(name, args)


if __name__ == "__main__":
    main()
