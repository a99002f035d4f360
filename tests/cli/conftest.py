"""A prepared data set, and the settings of a training that takes a second."""

from pathlib import Path

import pytest

from nanogpt.cli import main


@pytest.fixture
def dataset(text_file: Path, capsys: pytest.CaptureFixture[str]) -> str:
    assert main(["prepare", "textfile", str(text_file), "--output=small"]) == 0
    capsys.readouterr()
    return "small"


@pytest.fixture
def small(dataset: str) -> list[str]:
    settings = {
        "dataset": dataset,
        "n_layer": 1,
        "n_head": 2,
        "n_embd": 16,
        "block_size": 16,
        "batch_size": 4,
        "max_iters": 6,
        "eval_interval": 3,
        "eval_iters": 2,
        "device": "cpu",
        "dtype": "float32",
        "compile": "False",
        "threads": 1,
        "sample_tokens": 20,
    }
    return [f"--{name}={value}" for name, value in settings.items()]
