"""The training of a counted model: one pass over the training split, one evaluation, one checkpoint."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from nanogpt.cli.training_display import step_line
from nanogpt.config import Config, resolve
from nanogpt.errors import SettingError
from nanogpt.events import Evaluated, Event, Finished, Saved, Started, Step
from nanogpt.runs.state import RunState, reduce
from nanogpt.training import CommandQueue, Snapshot, Stop, runtime, train
from nanogpt.training.distributed import World
from nanogpt.training.step_timing import time_step_parts
from tests.architectures import build

Tokens = dict[str, np.ndarray]


def configured(**changes: Any) -> Config:
    """Return a configuration with 32 tokens in a step: 79 steps for 2500 tokens."""
    flags = {"architecture": "ngram", "order": 3, "block_size": 8, "batch_size": 4, "vocab_size": 11, "device": "cpu"}
    return resolve(flags=flags | {"threads": 1} | changes).config


class Saves:
    """Keeps the snapshots, as a disk would."""

    def __init__(self) -> None:
        self.snapshots: list[Snapshot] = []

    def __call__(self, snapshot: Snapshot, is_best: bool) -> str:
        self.snapshots.append(snapshot)
        return "checkpoint"


def counted(config: Config, tokens: Tokens, **more: Any) -> tuple[list[Event], list[Snapshot]]:
    saves = Saves()
    return list(train(config, tokens, save=saves, **more)), saves.snapshots


def of(kind: type[Event], events: list[Event]) -> list[Any]:
    return [event for event in events if isinstance(event, kind)]


def test_each_token_is_counted_once_then_comes_one_evaluation_and_one_checkpoint(tokens: Tokens) -> None:
    events, snapshots = counted(configured(eval_interval=3), tokens)
    steps, (evaluated,), (finished,) = of(Step, events), of(Evaluated, events), of(Finished, events)
    assert [step.step for step in steps] == list(range(1, 80))  # 2500 / 32 = 78.1
    assert steps[-1].tokens == 2500
    assert len(of(Saved, events)) == len(snapshots) == 1
    assert snapshots[0].model["counts"].sum() == 2500 - 2  # the first two tokens are context only
    assert finished.reason == "max_iters"
    model = build(architecture="ngram", order=3, block_size=8, vocab_size=11)
    model.count(tokens["train"], 0, 2500)
    assert evaluated.n_parameters == model.n_parameters()
    windows = torch.from_numpy(tokens["val"].astype(np.int64))
    losses = [  # over the whole split, each target once, from windows of 8
        (model(ids[None], targets[None])[1].item(), len(targets))  # type: ignore[union-attr]
        for ids, targets in zip(windows[:-1].split(8), windows[1:].split(8), strict=True)
    ]
    assert evaluated.tokens == 499
    assert evaluated.val_loss == pytest.approx(sum(loss * n for loss, n in losses) / 499, rel=1e-9)
    assert evaluated.val_loss < math.log(11) / 2  # 9 of 10 tokens are the last one plus 1


def test_a_resume_continues_at_the_token_where_counting_stopped(tokens: Tokens) -> None:
    _, (whole,) = counted(configured(), tokens)
    commands, saves = CommandQueue(), Saves()
    for event in train(configured(), tokens, save=saves, commands=commands):
        if isinstance(event, Step) and event.step == 30:
            commands.put(Stop())
    (part,) = saves.snapshots
    assert part.progress.tokens == 30 * 32
    events, (again,) = counted(configured(), tokens, start=part, resume=True)
    assert [step.step for step in of(Step, events)] == list(range(31, 80))
    assert all(torch.equal(tensor, again.model[name]) for name, tensor in whole.model.items())
    assert again.progress.val_loss == whole.progress.val_loss
    with_larger_steps, (third,) = counted(configured(batch_size=40), tokens, start=part, resume=True)
    assert len(of(Step, with_larger_steps)) == 5  # (2500 - 960) / 320 = 4.8
    assert third.progress.val_loss == pytest.approx(whole.progress.val_loss)


@pytest.mark.parametrize(
    "changes",
    [
        {"max_iters": 5},
        {"learning_rate": 100.0, "ema_decay": 0.9, "max_norm": 0.1},
        {"optimizer": "muon"},
        {"schedule": "wsd"},
    ],
)
def test_settings_of_optimizer_and_schedule_have_no_effect_and_the_run_says_so(
    tokens: Tokens, changes: dict[str, Any]
) -> None:
    _, (plain,) = counted(configured(), tokens)
    events, (changed,) = counted(configured(**changes), tokens)
    assert all(torch.equal(tensor, changed.model[name]) for name, tensor in plain.model.items())
    started = of(Started, events)[0]
    assert started.max_iters == 79
    assert "settings of optimizer and schedule have no effect" in started.choices["training"]


def test_other_weights_are_counts_to_which_the_text_is_added(tokens: Tokens) -> None:
    _, (once,) = counted(configured(), tokens)
    _, (twice,) = counted(configured(), tokens, start=replace(once, optimizer={}))
    assert torch.equal(twice.model["keys"], once.model["keys"])
    assert torch.equal(twice.model["counts"], 2 * once.model["counts"])


def test_several_processes_are_refused(tokens: Tokens, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runtime, "join_process_group", lambda *_: World(0, 2, 0))
    with pytest.raises(SettingError, match="architecture=ngram: it is counted by one process; start it without torch"):
        runtime.resolve_runtime(configured(gradient_accumulation_steps=2))


def test_a_step_without_a_loss_is_shown_without_one(tokens: Tokens) -> None:
    events, _ = counted(configured(), tokens)
    step = of(Step, events)[0]
    line = step_line(step, 79)
    assert "nan" not in line
    assert "loss" not in line
    state = reduce(reduce(RunState("run"), of(Started, events)[0]), step)
    assert (state.train_loss, state.n_parameters) == (None, 0)
    assert reduce(state, of(Evaluated, events)[0]).n_parameters > 0  # type: ignore[operator]


def test_the_benchmark_of_a_short_text_cuts_its_burn_in(tokens: Tokens) -> None:
    timing = time_step_parts(configured(batch_size=80), tokens, burn_in=10, steps=50, limit_s=60)
    while True:
        try:
            next(timing)
        except StopIteration as end:
            started, _, parts = end.value
            break
    assert started.max_iters == 4  # of 640 tokens
    assert len(parts) == 2  # after two of burn-in
