"""What all optimizers share."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanogpt.config import OPTIMIZER, names, resolve
from nanogpt.events import Finished
from nanogpt.training import train
from nanogpt.training.snapshot import Snapshot


def train_resume_and_list_compilers() -> None:
    shape = {
        "architecture": "modern",
        "n_layer": 1,
        "n_embd": 8,
        "n_head": 2,
        "block_size": 8,
        "batch_size": 2,
        "vocab_size": 5,
    }
    tokens = {split: (np.arange(400) % 5).astype(np.uint16) for split in ("train", "val")}
    snapshots: list[Snapshot] = []

    def save(snapshot: Snapshot, is_best: bool) -> str:
        snapshots.append(snapshot)
        return "saved"

    for optimizer in names(OPTIMIZER):
        flags: dict[str, Any] = shape | {"eval_iters": 1, "device": "cpu", "optimizer": optimizer}
        config = resolve(flags=flags | {"max_iters": 2}).config
        assert isinstance(list(train(config, tokens, save=save))[-1], Finished)
        snapshots[-1].progress.max_iters = 3
        last = list(train(config, tokens, start=snapshots[-1], resume=True))[-1]
        assert isinstance(last, Finished)
        assert last.step == 3
        print(optimizer, compilers())
    counted = resolve(flags={"architecture": "ngram", "vocab_size": 5, "block_size": 8, "device": "cpu"}).config
    assert isinstance(list(train(counted, tokens))[-1], Finished)
    print("counted", compilers())


def compilers() -> list[str]:
    return [name for name in ("torch._dynamo", "torch._inductor", "sympy") if name in sys.modules]


@pytest.mark.slow
def test_training_and_resuming_without_compiling_imports_no_compiler() -> None:
    # not a forked child: the process that those come from has the compiler already
    command = "from tests.optimizers.test_base import train_resume_and_list_compilers as f; f()"
    done = subprocess.run(
        [sys.executable, "-c", command], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    lines = [*(f"{name} []" for name in names(OPTIMIZER)), "counted []"]
    assert (done.stdout.splitlines(), done.returncode) == (lines, 0), done.stderr
