"""A training small enough to run many times in a test."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

from nanogpt.config import Config, resolve, with_settings

TINY = {
    "vocab_size": 11,
    "n_layer": 1,
    "n_head": 2,
    "n_embd": 16,
    "block_size": 8,
    "batch_size": 4,
    "max_iters": 12,
    "warmup_iters": 2,
    "learning_rate": 1e-2,
    "eval_interval": 6,
    "eval_iters": 2,
    "device": "cpu",
    "dtype": "float32",
    "compile": "false",
    "threads": 1,
}


@pytest.fixture(autouse=True)
def _evaluations_do_not_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that stands still for a second on a busy machine would yield an event more."""
    monkeypatch.setattr("nanogpt.training.evaluation.REPORT_INTERVAL_S", 3600.0)


@pytest.fixture
def tiny() -> Callable[..., Config]:
    """Makes the small configuration, with some settings changed; another architecture keeps those that it has."""

    def make(**changes: Any) -> Config:
        return with_settings(resolve(flags=TINY).config, changes)

    return make


@pytest.fixture
def tokens() -> dict[str, np.ndarray]:
    """Text with a rule to learn: mostly, the next token is the last one plus 1."""
    random = np.random.default_rng(7)
    steps = np.where(random.random(3000) < 0.9, 1, random.integers(0, 11, 3000))
    ids = (np.cumsum(steps) % 11).astype(np.uint16)
    return {"train": ids[:2500], "val": ids[2500:]}
