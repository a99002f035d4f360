"""Named starting points: each says how it differs from the defaults. Knows nothing of how they are merged."""

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Preset:
    help: str
    values: dict[str, Any]


def _gpt2(size: str, n_layer: int, n_head: int, n_embd: int, learning_rate: float) -> Preset:
    """A published GPT-2 shape (Radford et al. 2019) with nanoGPT's recipe; learning rates after Brown et al. 2020."""
    return Preset(
        f"GPT-2 {size} as published, with nanoGPT's training recipe",
        {
            "dataset": "shakespeare",
            "n_layer": n_layer,
            "n_head": n_head,
            "n_embd": n_embd,
            "block_size": 1024,
            "bias": True,
            "batch_size": 12,
            "gradient_accumulation_steps": 40,
            "learning_rate": learning_rate,
            "beta2": 0.95,
            "warmup_iters": 2000,
            "max_iters": 600_000,
            "eval_interval": 2000,
            "eval_iters": 200,
        },
    )


# What both recipes with the modern block share; they are compared over the whole validation split.
_MODERN: dict[str, Any] = {
    "architecture": "modern",
    "optimizer": "muon",
    "min_lr": 0.0,
    "beta2": 0.95,
    "grad_clip": 0.0,
    "eval_iters": 0,
}

PRESETS: dict[str, Preset] = {
    # At nanoGPT's learning rate of 1e-3 this ends at 1.904 over the whole validation split of tiny Shakespeare, at 3e-3
    # at 1.757: so few iterations want larger steps.
    "macbook": Preset(
        "a small character model for a laptop's CPU: nanoGPT's advice for a MacBook, with larger steps",
        {
            "n_layer": 4,
            "n_head": 4,
            "n_embd": 128,
            "block_size": 64,
            "batch_size": 12,
            "learning_rate": 3e-3,
            "max_iters": 2000,
            "eval_interval": 250,
        },
    ),
    "quickstart": Preset(
        "readable text in the shortest time; `nanogpt quickstart` fits max_iters to a minute",
        {
            "n_layer": 4,
            "n_head": 4,
            "n_embd": 128,
            "block_size": 64,
            "batch_size": 16,
            "learning_rate": 3e-3,
            "max_iters": 2000,
            "eval_interval": 500,
            "sample_tokens": 400,
        },
    ),
    "baby": Preset(
        "nanoGPT's baby GPT on Shakespeare: 10.6M parameters, for a GPU or a patient CPU",
        {
            "n_layer": 6,
            "n_head": 6,
            "n_embd": 384,
            "block_size": 256,
            "dropout": 0.2,
            "batch_size": 64,
            "max_iters": 5000,
            "eval_interval": 250,
            "eval_iters": 200,
            "always_save_checkpoint": False,
        },
    ),
    "speedrun": Preset(
        "nanoGPT's loss on a laptop's CPU in a tenth of the time: n-grams, one modern block, and Muon",
        _MODERN
        | {
            "n_layer": 1,
            "n_head": 4,
            "n_embd": 128,
            "block_size": 64,
            "ngram": 4,
            "batch_size": 64,
            "learning_rate": 3e-2,
            "warmup_iters": 5,
            "max_iters": 40,
            "eval_interval": 1000,  # longer than the run: its end alone is evaluated
            "sample_tokens": 200,
        },
    ),
    "shakespeare": Preset(
        "a better loss on tiny Shakespeare than nanoGPT's baby GPT, on a CPU in minutes: four modern blocks and Muon",
        _MODERN
        | {
            "n_layer": 4,
            "n_head": 3,
            "n_embd": 192,
            "block_size": 256,
            "dropout": 0.1,
            "batch_size": 16,
            "learning_rate": 1.2e-2,
            "weight_decay": 0.2,
            "warmup_iters": 20,
            "max_iters": 1600,
            "eval_interval": 200,
            "always_save_checkpoint": False,
        },
    ),
    "gpt2": _gpt2("small (124M)", 12, 12, 768, 6e-4),
    "gpt2-medium": _gpt2("medium (355M)", 24, 16, 1024, 3e-4),
    "gpt2-large": _gpt2("large (774M)", 36, 20, 1280, 2.5e-4),
    "gpt2-xl": _gpt2("XL (1.6B)", 48, 25, 1600, 2e-4),
}


def preset_names() -> tuple[str, ...]:
    return tuple(PRESETS)
