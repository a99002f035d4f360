"""The tables of docs/SCALING.md: memory, communication and time of training on several GPUs, from the settings alone.

python docs/scaling.py            print them
python docs/scaling.py --write    replace those in docs/SCALING.md
"""

import sys
from dataclasses import dataclass
from pathlib import Path

from nanogpt.config import Config, resolve
from nanogpt.training.estimate import memory

PAGE = Path(__file__).parent / "SCALING.md"
START, END = "<!-- made by docs/scaling.py -->\n", "<!-- end -->\n"
GPUS = (1, 2, 4, 8, 16, 32, 64)
TOKENS = 491_520  # in an iteration, as nanoGPT trains GPT-2
CONTEXT = 1024
# Of an H100 with 80 GB.
PEAK_FLOPS = 989e12  # in bfloat16
MFU = 0.4
MEMORY = 80e9
NVLINK, NETWORK = 300e9, 40e9  # bytes/s of a GPU in one direction, in a machine of 8 and between machines


@dataclass(frozen=True, slots=True)
class Model:
    """A shape to estimate."""

    name: str
    n_layer: int
    n_head: int
    n_embd: int

    def config(self, rows: int = 1, sharding: str = "none") -> Config:
        """Return the settings of a training with `rows` sequences in a micro-batch, and `TOKENS` tokens in a step."""
        shape = {"n_layer": self.n_layer, "n_head": self.n_head, "n_embd": self.n_embd, "block_size": CONTEXT}
        flags = {**shape, "vocab_size": 50_304, "batch_size": rows, "dropout": 0.0, "sharding": sharding}
        flags["gradient_accumulation_steps"] = TOKENS // (CONTEXT * rows)
        return resolve(flags={name: str(value) for name, value in flags.items()}).config


MODELS = (
    Model("124M", 12, 12, 768),
    Model("350M", 24, 16, 1024),
    Model("774M", 36, 20, 1280),
    Model("1.6B", 48, 25, 1600),
    Model("7B", 32, 32, 4096),
)


def held_bytes(config: Config, gpus: int) -> int:
    """Return the bytes that each process needs."""
    return memory(config, "bfloat16", "cuda", gpus).total


def n(config: Config) -> int:
    """Return the number of parameters."""
    return config.model.n_parameters()


def all_reduce_bytes(config: Config, gpus: int) -> float:
    """Return the bytes that a process sends for one all-reduce of float32 gradients around a ring."""
    return 2 * (gpus - 1) / gpus * 4 * n(config)


def fsdp_traffic(config: Config, gpus: int, micro_batches: int) -> float:
    """Return the bytes that a process sends for a step: parameters twice and gradients once, in every micro-batch."""
    return 3 * (gpus - 1) / gpus * 4 * n(config) * micro_batches


def micro_batches(config: Config, gpus: int) -> int:
    """Return the micro-batches of one process in an iteration of `TOKENS` tokens."""
    return -(-TOKENS // (CONTEXT * config.data.batch_size * gpus))


def compute_s(config: Config, gpus: int) -> float:
    """Return the seconds of arithmetic in a step."""
    return TOKENS * config.model.flops_per_token() / (gpus * PEAK_FLOPS * MFU)


def bandwidth(gpus: int) -> float:
    """Return the bytes/s that a process can send: the slowest link of the ring decides."""
    return NVLINK if gpus <= 8 else NETWORK


def step_s(config: Config, gpus: int, *, sharded: bool) -> float:
    """Return the seconds of a step with communication hidden behind the backward pass as far as it can be.

    DDP communicates in the backward pass of the last micro-batch only, two thirds of its time; FSDP all the time.
    """
    compute, parts = compute_s(config, gpus), micro_batches(config, gpus)
    if sharded:
        return max(compute, fsdp_traffic(config, gpus, parts) / bandwidth(gpus))
    overlapped = compute / parts * 2 / 3
    return compute + max(0.0, all_reduce_bytes(config, gpus) / bandwidth(gpus) - overlapped)


def table(head: list[str], rows: list[list[str]]) -> str:
    """Return a Markdown table, its columns after the first aligned to the right."""
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def fitted(model: Model, gpus: int, *, sharded: bool) -> Config | None:
    """Return the settings with the most sequences in a micro-batch that fit, None if not even one does.

    A power of two, and no more than there are in the share of a process.
    """
    found = None
    for rows in (1, 2, 4, 8, 16, 32):
        config = model.config(rows, "fsdp" if sharded else "none")
        if held_bytes(config, gpus) > MEMORY or rows * gpus * CONTEXT > TOKENS:
            break
        found = config
    return found


def tables() -> str:
    """Return all tables of the page."""
    gpus = [f"{count} GPU{'s' if count > 1 else ''}" for count in GPUS]
    configs = {model.name: model.config() for model in MODELS}
    sharded = {model.name: model.config(sharding="fsdp") for model in MODELS}
    held = [
        [name, f"{held_bytes(c, 1) / 1e9:.0f}", *(f"{held_bytes(sharded[name], g) / 1e9:.0f}" for g in GPUS[1:])]
        for name, c in configs.items()
    ]
    sent = [[name, *(f"{all_reduce_bytes(c, g) / 1e9:.2f}" for g in GPUS)] for name, c in configs.items()]
    collected = [[model.name, *(collected_cell(model, g) for g in GPUS)] for model in MODELS]
    took = [[model.name, *(hours_cell(model, g) for g in GPUS)] for model in MODELS]
    return "\n".join(
        (
            "GB in each GPU, with one sequence in a micro-batch: the whole state (DDP), or a part (FSDP):\n",
            table(["model", "DDP", *(f"FSDP, {name}" for name in gpus[1:])], held),
            "GB that each GPU sends in an iteration with DDP:\n",
            table(["model", *gpus], sent),
            "GB that each GPU sends in an iteration with FSDP, and the sequences of its micro-batches:\n",
            table(["model", *gpus], collected),
            "Hours for 20 tokens per parameter, with DDP (d) if it fits, else with FSDP (f):\n",
            table(["model", *gpus], took),
        )
    )


def collected_cell(model: Model, gpus: int) -> str:
    """Return what FSDP sends in an iteration, and the sequences of a micro-batch."""
    config = fitted(model, gpus, sharded=True)
    if config is None or gpus == 1:
        return "–"
    sent = fsdp_traffic(config, gpus, micro_batches(config, gpus))
    return f"{sent / 1e9:,.0f} ({config.data.batch_size})"


def hours_cell(model: Model, gpus: int) -> str:
    """Return the hours of a training with 20 tokens for each parameter (Hoffmann et al. 2022), and how it fits."""
    sharded = fitted(model, gpus, sharded=False) is None
    config = fitted(model, gpus, sharded=sharded)
    if config is None:
        return "–"
    hours = 20 * n(config) / TOKENS * step_s(config, gpus, sharded=sharded) / 3600
    return f"{hours:,.0f} {'f' if sharded else 'd'}" if hours >= 10 else f"{hours:.1f} {'f' if sharded else 'd'}"


def page(tables_text: str) -> str:
    """Return the page with these tables."""
    text = PAGE.read_text(encoding="utf-8")
    before, _, rest = text.partition(START)
    return before + START + "\n" + tables_text + "\n" + END + rest.partition(END)[2]


if __name__ == "__main__":
    if "--write" in sys.argv:
        PAGE.write_text(page(tables()), encoding="utf-8")
    else:
        print(tables())
