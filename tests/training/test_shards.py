"""Training over shards: the same losses and weights, bit for bit, as over one array."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

from nanogpt.config import ARCHITECTURE, Config, names
from nanogpt.data.token_files import TokenFiles, Tokens, TokenWriter
from nanogpt.events import Evaluated, Event, Finished, Step
from nanogpt.training import CommandQueue, Snapshot, Stop, train

SHARD_TOKENS = 7  # a window has 9 tokens, so each crosses from one shard into the next


@pytest.fixture
def shards(tokens: Mapping[str, np.ndarray], tmp_path: Path) -> dict[str, Tokens]:
    """The same tokens in shards."""
    found: dict[str, Tokens] = {}
    for split, ids in tokens.items():
        writer = TokenWriter(tmp_path, split, "uint16", SHARD_TOKENS)
        writer.append(ids)
        files = writer.finish(raw=False)
        found[split] = TokenFiles([tmp_path / file.name for file in files], [file.tokens for file in files], "uint16")
    return found


Losses = list[tuple[float, ...]]


def trained(
    config: Config, tokens: Mapping[str, Tokens], start: Snapshot | None = None, stop_after: int = 0
) -> tuple[Losses, Snapshot]:
    """Return the losses and the last snapshot of a training, which is stopped after a step."""
    snapshots: list[Snapshot] = []
    commands, losses = CommandQueue(), []

    def save(snapshot: Snapshot, is_best: bool) -> str:
        snapshots.append(snapshot)
        return "checkpoint"

    events = train(config, tokens, save=save, commands=commands, start=start, resume=start is not None)
    for event in events:
        losses += [figures(event)] if isinstance(event, Step | Evaluated | Finished) else []
        if isinstance(event, Step) and event.step == stop_after:
            commands.put(Stop())
    return losses, snapshots[-1]


def figures(event: Event) -> tuple[float, ...]:
    match event:
        case Step():
            found = [event.step, event.loss, event.grad_norm]
        case Evaluated():
            found = [event.step, event.train_loss, event.val_loss]
        case Finished():
            found = [event.step, event.train_loss or -1, event.val_loss or -1]
    return tuple(np.nan_to_num(found, nan=-1).tolist())  # a counted step has no loss


@pytest.mark.parametrize("architecture", names(ARCHITECTURE))
def test_training_over_shards_is_that_over_one_array(
    tiny: Callable[..., Config], tokens: dict[str, np.ndarray], shards: dict[str, Tokens], architecture: str
) -> None:
    config = tiny(architecture=architecture)
    expected, whole = trained(config, tokens)
    found, cut = trained(config, shards)
    assert found == expected
    assert cut.position == whole.position
    for name, weight in whole.model.items():
        assert torch.equal(cut.model[name], weight), name


def test_a_resume_over_shards_continues_at_the_sample(
    tiny: Callable[..., Config], tokens: dict[str, np.ndarray], shards: dict[str, Tokens]
) -> None:
    config = tiny(max_iters=160, eval_interval=80)  # 640 windows: over 2 epochs of (2500 - 1) // 8 - 1 = 311
    expected, whole = trained(config, tokens)
    before, part = trained(config, shards, stop_after=100)
    after, cut = trained(config, shards, start=part)
    assert before[:-1] + after == expected
    assert all(torch.equal(cut.model[name], weight) for name, weight in whole.model.items())
