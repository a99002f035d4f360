"""Fine-tuning a GPT-2 of 124M parameters on a CPU: steps and memory of this project, transformers' Trainer and llm.c.

    python benchmarks/fine_tuning.py [--llmc FOLDER] [--shapes 4x64 1x1024] [--steps 6] [--rounds 2] [--compile]

A shape is the number of windows in a batch and their length. All sides begin with the same random weights, and train
them with AdamW on random tokens without dropout: neither their values nor the tokens' change the time of a step. This
side is `nanogpt.training.train` with every choice left to it, once for all weights and once for LoRA adapters of rank
8. The Trainer is tried with both kinds of attention and, if this CPU computes in bfloat16, with `bf16`; with --compile
compiled too, which takes minutes. It needs the package accelerate. llm.c is a checkout whose `train_gpt2.c` is
compiled with gcc for this machine and for the shape, in float32, as it has no other format.

Each turn of a side is a process of its own, and the sides take turns. Printed are the median step after the first, the
peak memory of the process, the first loss, and how many times as fast and as large this side is as the fastest
Trainer and llm.c. Needs 6 GB of memory. The speeds are only comparable on an idle machine.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

from nanogpt.config import Config, resolve
from nanogpt.hardware import cpu_has_bfloat16, share_cores

VOCAB_SIZE = 50_257
RANK = 8
LLMC_CHECKPOINT, LLMC_TOKENS, LLMC_VERSION, LLMC_HEADER = 20240326, 20240520, 3, 256  # magic numbers; int32 values
LLMC_PADDED_VOCAB = 50_304
LLMC_STEP = re.compile(r"step \d+: train loss (\S+) \(took (\S+) ms\)")
# in the order of llm.c's checkpoint: the names of Hugging Face, those within a layer for all layers at once
LLMC_LAYER = (
    "ln_1.weight",
    "ln_1.bias",
    "attn.c_attn.weight",
    "attn.c_attn.bias",
    "attn.c_proj.weight",
    "attn.c_proj.bias",
    "ln_2.weight",
    "ln_2.bias",
    "mlp.c_fc.weight",
    "mlp.c_fc.bias",
    "mlp.c_proj.weight",
    "mlp.c_proj.bias",
)


class Shape(NamedTuple):
    windows: int
    length: int

    @classmethod
    def parse(cls, text: str) -> "Shape":
        windows, _, length = text.partition("x")
        return cls(int(windows), int(length))

    def __str__(self) -> str:
        return f"{self.windows}x{self.length}"


class Turn(NamedTuple):
    """The median seconds of a step after the first, the peak memory in bytes, and the first loss."""

    step_s: float
    peak_bytes: int
    loss: float


def main() -> None:
    """Take turns and print the table of each shape."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--llmc", type=Path, metavar="FOLDER", help="a checkout of llm.c; without it llm.c is left out")
    parser.add_argument("--shapes", nargs="+", type=Shape.parse, default=[Shape(4, 64), Shape(1, 1024)])
    parser.add_argument("--steps", type=int, default=6)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.side:
        run_side(args.side, args.shapes[0], args.folder, args.steps)
        return
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_weights(folder)
        for shape in args.shapes:
            sides = ["ours", "ours, LoRA", *trainer_sides(args.compile)]
            if args.llmc:
                compile_llmc(args.llmc.resolve(), shape, folder)
                sides.append("llm.c")
            turns: dict[str, list[Turn]] = {side: [] for side in sides}
            for _ in range(args.rounds):
                for side in sides:
                    turns[side].append(take_turn(side, shape, folder, args.steps))
            report(shape, turns)


def trainer_sides(compiled: bool) -> Iterator[str]:
    for attention in ("sdpa", "eager"):
        for number_format in ("float32", *(["bfloat16"] if cpu_has_bfloat16() else [])):
            yield f"Trainer, {attention}, {number_format}"
            if compiled:
                yield f"Trainer, {attention}, {number_format}, compiled"


def configured(shape: Shape, *, lora: bool = False) -> Config:
    flags = {
        "vocab_size": VOCAB_SIZE,
        "block_size": shape.length,
        "batch_size": shape.windows,
        "gradient_accumulation_steps": 1,
        "learning_rate": 1e-4,
        "device": "cpu",
        "max_iters": 10_000,
        "eval_interval": 10**6,
        "eval_iters": 1,
        "log_interval": 1,
    }
    adapters = {"lora_rank": RANK, "init_from": "gpt2"} if lora else {}
    return resolve(preset="gpt2", flags=flags | adapters).config


def write_weights(folder: Path) -> None:
    """Write the same random weights as Hugging Face and llm.c store them, and random tokens for llm.c."""
    import torch
    from safetensors.torch import save_file

    from nanogpt.interop.huggingface import to_huggingface

    torch.manual_seed(1)
    described, tensors = to_huggingface(configured(Shape(1, 1024)).model.build())
    (folder / "config.json").write_text(json.dumps(described))
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, folder / "model.safetensors")
    weights = {name.removeprefix("transformer."): tensor.numpy() for name, tensor in tensors.items()}
    header = np.zeros(LLMC_HEADER, np.int32)
    sizes = (1024, VOCAB_SIZE, 12, 12, 768, LLMC_PADDED_VOCAB)
    header[: 2 + len(sizes)] = (LLMC_CHECKPOINT, LLMC_VERSION, *sizes)
    with (folder / "gpt2_124M.bin").open("wb") as file:
        file.write(header.tobytes())
        embedding = np.zeros((LLMC_PADDED_VOCAB, 768), np.float32)
        embedding[:VOCAB_SIZE] = weights["wte.weight"]
        file.write(embedding.tobytes())
        file.write(weights["wpe.weight"].astype(np.float32).tobytes())
        for name in LLMC_LAYER:
            for layer in range(12):
                weight = weights[f"h.{layer}.{name}"]  # a matrix is (in, out) there and (out, in) in llm.c
                file.write(np.ascontiguousarray(weight.T, np.float32).tobytes())
        for name in ("ln_f.weight", "ln_f.bias"):
            file.write(weights[name].astype(np.float32).tobytes())
    ids = random_tokens()
    header = np.zeros(LLMC_HEADER, np.int32)
    header[:3] = (LLMC_TOKENS, 1, len(ids))
    (folder / "tokens.bin").write_bytes(header.tobytes() + ids.tobytes())


def random_tokens() -> Any:
    """Return ids, (100,000,) uint16."""
    return np.random.default_rng(1).integers(0, VOCAB_SIZE, 100_000, dtype=np.uint16)


def compile_llmc(checkout: Path, shape: Shape, folder: Path) -> None:
    """Compile llm.c for a shape, as its Makefile does; exit if it cannot be compiled."""
    source = (checkout / "train_gpt2.c").read_text()
    for name, size in (("B", shape.windows), ("T", shape.length)):
        source, found = re.subn(rf"\bint {name} = \d+;", f"int {name} = {size};", source)
        if found != 1:
            sys.exit(f"{checkout}: this version of llm.c sets {name} in another way")
    source = re.sub(r'"dev/data/[^"]*"', '"tokens.bin"', source)
    (folder / "shaped.c").write_text(source)
    command = [
        "gcc",
        "-Ofast",
        "-march=native",
        "-fopenmp",
        "-DOMP",
        f"-I{checkout}",
        "shaped.c",
        "-o",
        f"llmc-{shape}",
    ]
    subprocess.run([*command, "-lm", "-lgomp"], cwd=folder, check=True)


def take_turn(side: str, shape: Shape, folder: Path, steps: int) -> Turn:
    """Run a side in a process of its own; exit if it fails."""
    again = [
        sys.executable,
        str(Path(__file__).resolve()),
        "--side",
        side,
        "--shapes",
        str(shape),
        "--folder",
        str(folder),
    ]
    command = [str(folder / f"llmc-{shape}")] if side == "llm.c" else [*again, f"--steps={steps}"]
    process = subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    losses, seconds = [], []
    for line in process.stdout:
        if found := LLMC_STEP.match(line):
            losses.append(float(found[1]))
            seconds.append(float(found[2]) / 1e3)
            if len(seconds) == steps:
                process.kill()
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if len(seconds) < steps:
        sys.exit(f"{side} ended with exit code {process.returncode} after {len(seconds)} steps")
    return Turn(median(seconds[1:]), usage.ru_maxrss * 1024, losses[0])


def run_side(side: str, shape: Shape, folder: Path, steps: int) -> None:
    """Train `steps` steps and print each as llm.c does."""
    timed = ours(shape, folder, lora="LoRA" in side) if side.startswith("ours") else trainer(side, shape, folder, steps)
    for step, (loss, seconds) in zip(range(steps), timed, strict=False):
        print(f"step {step}: train loss {loss:f} (took {1e3 * seconds:f} ms)", flush=True)


def ours(shape: Shape, folder: Path, *, lora: bool) -> Iterator[tuple[float, float]]:
    """Yield the loss and the seconds of each step."""
    share_cores()  # as the command `nanogpt` does, before torch is imported
    from nanogpt.events import Step
    from nanogpt.interop.huggingface import from_huggingface
    from nanogpt.training import train
    from nanogpt.training.snapshot import Snapshot

    model = from_huggingface(folder)
    model.crop_block_size(shape.length)
    start = Snapshot(model.config, model.state_dict())
    del model
    tokens = random_tokens()
    last = time.perf_counter()
    for event in train(configured(shape, lora=lora), {"train": tokens, "val": tokens[:2048]}, start=start):
        start.release()  # as a run does
        now = time.perf_counter()
        if isinstance(event, Step):
            yield event.loss, now - last
        last = now


def trainer(side: str, shape: Shape, folder: Path, steps: int) -> Iterator[tuple[float, float]]:
    """Yield the loss and the seconds of each step, once all are done."""
    # transformers would take this project's folder `datasets` for the package of that name
    sys.path[:] = [entry for entry in sys.path if not Path(entry, "datasets", "fineweb_edu.toml").exists()]
    import torch
    from transformers import GPT2LMHeadModel, Trainer, TrainerCallback, TrainingArguments

    _, attention, number_format, *compiled = side.split(", ")
    no_dropout = {"resid_pdrop": 0.0, "embd_pdrop": 0.0, "attn_pdrop": 0.0}
    model = GPT2LMHeadModel.from_pretrained(folder, attn_implementation=attention, **no_dropout)
    rows = torch.from_numpy(random_tokens().astype(np.int64))
    rows = rows[: len(rows) // shape.length * shape.length].view(-1, shape.length)
    times: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        def on_step_begin(self, *_: object, **__: object) -> None:
            times.append(-time.perf_counter())

        def on_step_end(self, *_: object, **__: object) -> None:
            times[-1] += time.perf_counter()

    arguments = TrainingArguments(
        output_dir=str(folder / "trainer"),
        per_device_train_batch_size=shape.windows,
        max_steps=steps,
        learning_rate=1e-4,
        optim="adamw_torch_fused",
        bf16=number_format == "bfloat16",
        torch_compile=bool(compiled),
        use_cpu=True,
        logging_steps=1,
        save_strategy="no",
        report_to="none",
        disable_tqdm=True,
    )
    dataset = [{"input_ids": row, "labels": row} for row in rows]
    running = Trainer(model=model, args=arguments, train_dataset=dataset, callbacks=[Clock()])
    running.train()
    losses = [entry["loss"] for entry in running.state.log_history if "loss" in entry]
    yield from zip(map(float, losses), times, strict=True)


def report(shape: Shape, turns: dict[str, list[Turn]]) -> None:
    """Print the table of a shape."""
    print(f"\n{shape.windows} windows of {shape.length}: {'seconds a step':>40} {'peak MB':>9} {'first loss':>11}")
    step_s = {side: median(turn.step_s for turn in own) for side, own in turns.items()}
    peak = {side: max(turn.peak_bytes for turn in own) for side, own in turns.items()}
    for side, own in turns.items():
        shown = ", ".join(f"{turn.step_s:.3f}" for turn in own)
        print(f"  {side:<34}{step_s[side]:>8.3f} ({shown}) {peak[side] / 1e6:>9,.0f} {own[0].loss:>11.3f}")
    best = min((side for side in turns if side.startswith("Trainer")), key=lambda side: step_s[side])
    for side in ("ours", "ours, LoRA"):
        for other in (best, *(["llm.c"] if "llm.c" in turns else [])):
            factor, memory = step_s[other] / step_s[side], peak[side] / peak[other]
            print(f"  {side}: {factor:.2f} times as fast as {other}, with {memory:.2f} times its memory", flush=True)


if __name__ == "__main__":
    main()
