"""A prepared data set and a run that takes a second."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from nanogpt.config import Config, resolve
from nanogpt.data import prepare, textfile_recipe


@pytest.fixture(autouse=True)
def _evaluations_do_not_report(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that stands still for a second on a busy machine would yield an event more."""
    monkeypatch.setattr("nanogpt.training.evaluation.REPORT_INTERVAL_S", 3600.0)


@pytest.fixture
def dataset(text_file: Path) -> str:
    for _ in prepare(textfile_recipe([text_file], name="small")):
        pass
    return "small"


@pytest.fixture
def small(dataset: str) -> Callable[..., Config]:
    """Makes a small configuration on the small data set, with some settings changed."""
    settings = {
        "dataset": dataset,
        "n_layer": 1,
        "n_head": 2,
        "n_embd": 16,
        "block_size": 16,
        "batch_size": 4,
        "max_iters": 12,
        "warmup_iters": 2,
        "eval_interval": 4,
        "eval_iters": 2,
        "device": "cpu",
        "dtype": "float32",
        "compile": "false",
        "threads": 1,
    }

    def make(**changes: Any) -> Config:
        return resolve(flags=settings | changes).config

    return make
