"""A training that does not wait for its device after each step, as on a GPU, but here on the CPU."""

import copy
import math
from itertools import count

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from nanogpt.events import Evaluated, Finished, Health, Saved, Step
from nanogpt.training import CommandQueue, Stop, train, train_run
from nanogpt.training.loop import MAX_PENDING_STEPS
from nanogpt.training.optimizer_step import OptimizerStep
from nanogpt.training.throughput import Throughput
from tests.narrowing import expect


@pytest.fixture
def deferred_metrics(monkeypatch):
    monkeypatch.setattr(train_run, "defers_metrics", lambda _machine: True)


class Reads(TorchDispatchMode):
    """Counts how often a number is asked of a tensor: for each, a GPU has to be waited for."""

    count = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.count += func is torch.ops.aten._local_scalar_dense.default
        return func(*args, **(kwargs or {}))


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def saving_to(steps):
    """A `save` that only adds the step of each checkpoint to a list."""

    def save(snapshot, is_best):
        steps.append(snapshot.progress.step)
        return ""

    return save


def metrics(events):
    """What was reported, by kind: a checkpoint is reported once it is on disk, whichever step that is at."""
    found = [
        (type(e).__name__, e.step, getattr(e, "loss", None), getattr(e, "val_loss", None))
        for e in events
        if isinstance(e, Step | Evaluated | Saved | Health | Finished)
    ]
    return sorted(found, key=lambda row: row[0])


SETTINGS = [
    {},
    {"architecture": "modern", "optimizer": "muon"},
    {"grad_clip": 0.1, "gradient_accumulation_steps": 2},
    {"ema_decay": 0.9, "max_norm": 1.0, "label_smoothing": 0.1},
]


@pytest.mark.parametrize("changes", SETTINGS)
def test_it_takes_the_same_steps_as_one_that_waits(tiny, tokens, changes, monkeypatch):
    config = tiny(**changes, log_interval=4, checkpoint_interval=5, max_iters=20)
    waits = metrics(train(config, tokens, save=lambda snapshot, _best: "saved"))
    monkeypatch.setattr(train_run, "defers_metrics", lambda _machine: True)
    deferred = metrics(train(config, tokens, save=lambda snapshot, _best: "saved"))
    assert [row[:2] for row in deferred] == [row[:2] for row in waits]
    for one, other in zip(deferred, waits, strict=True):
        assert one[2:] == pytest.approx(other[2:], abs=1e-5)


@pytest.mark.parametrize("changes", SETTINGS)
def test_nothing_is_asked_of_the_device_in_a_step_that_nobody_reads(
    tiny, tokens, deferred_metrics, monkeypatch, changes
):
    monkeypatch.setattr("nanogpt.training.optimizer_step.clip_gradients", on_device)
    monkeypatch.setattr("nanogpt.models.layers.cross_entropy.is_eager_cpu", lambda _x: False)  # that of GPUs
    taken, step = [], OptimizerStep.run

    def counted(self):
        with Reads() as reads:
            metrics = step(self)
        taken.append(reads.count)
        return metrics

    monkeypatch.setattr(OptimizerStep, "run", counted)
    list(train(tiny(**changes, log_interval=10, max_iters=20, eval_interval=20), tokens))
    assert taken == [0] * 20


def on_device(parameters, limit, flat=None):
    """`clip_gradients` as it is where the gradients are on a GPU."""
    from nanogpt.training.clipping import clip_factor

    gradients = [parameter.grad for parameter in parameters]
    norm = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    torch._foreach_mul_(gradients, clip_factor(norm, limit))
    return norm


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
@pytest.mark.parametrize("where", ["loss", "gradient"])
def test_a_step_that_is_not_finite_moves_nothing_nor_do_those_after_it_and_it_ends_the_run(
    tiny, tokens, deferred_metrics, monkeypatch, optimizer, where
):
    """The seventh step goes wrong; the next one that is reported is the tenth."""
    seen, update = {}, OptimizerStep.update_on_device

    def poisoned(self, loss, skip_flag):
        step = self.progress.step
        if step == 6:
            next(self.model.parameters()).grad.fill_(math.nan)
            loss = loss * math.nan if where == "loss" else loss
        result = update(self, loss, skip_flag)
        state = {str(k): copy.deepcopy(v) for k, v in enumerate(self.optimizer.state.values())}
        seen[step + 1] = [parameter.detach().clone() for parameter in self.model.parameters()], state
        return result

    monkeypatch.setattr(OptimizerStep, "update_on_device", poisoned)
    events = list(train(tiny(optimizer=optimizer, log_interval=5, eval_interval=12, max_iters=24), tokens))
    assert [event.step for event in of(Step, events)] == [5]
    finished = expect(Finished, events[-1])
    assert (finished.reason, finished.step) == ("nan", 6)
    assert "after step 6" in of(Health, events)[-1].message
    assert sorted(seen) == list(range(1, 11))
    torch.testing.assert_close(seen[10], seen[6], rtol=0, atol=0)
    assert not all(torch.equal(a, b) for a, b in zip(seen[5][0], seen[6][0], strict=True)), "it did move before"


def test_a_stop_after_a_step_that_is_not_finite_saves_nothing(tiny, tokens, deferred_metrics, monkeypatch):
    """The seventh step goes wrong, and the stop comes during the eighth; the next one that is reported is the tenth."""
    saved: list[int] = []
    commands, update = CommandQueue(), OptimizerStep.update_on_device

    def poisoned(self, loss, skip_flag):
        if self.progress.step == 7:
            commands.put(Stop())
        return update(self, loss * math.nan if self.progress.step == 6 else loss, skip_flag)

    monkeypatch.setattr(OptimizerStep, "update_on_device", poisoned)
    config = tiny(log_interval=10, eval_interval=24, max_iters=24)
    finished = expect(Finished, list(train(config, tokens, commands=commands, save=saving_to(saved)))[-1])
    assert (finished.reason, finished.step, saved) == ("nan", 6, [])


def test_a_stop_while_metrics_are_pending_ends_after_the_next_step_also_while_training_waits(
    tiny, tokens, deferred_metrics
):
    """The disk is full from the third look on, after the second step; the next one that is reported is the fourth."""
    losses = {event.step: event.loss for event in train(tiny(eval_interval=100), tokens) if isinstance(event, Step)}
    saved: list[int] = []
    commands, looks = CommandQueue(), count(1)

    def disk():
        return "the disk is full" if next(looks) > 2 else ""

    config = tiny(eval_interval=100, log_interval=4)
    for event in train(config, tokens, commands=commands, save=saving_to(saved), wait_reason=disk):
        if isinstance(event, Health) and event.state == "waiting":
            commands.put(Stop())
    finished = expect(Finished, event)
    assert (finished.reason, finished.step, saved) == ("stopped", 3, [3])
    assert finished.train_loss == pytest.approx(losses[3], abs=1e-5)


def test_a_loss_that_is_never_reported_is_read_all_the_same(tiny, tokens, deferred_metrics, monkeypatch):
    synced, sync_metrics = [], OptimizerStep.sync_metrics

    def counted(self):
        synced.append(self.progress.step)
        return sync_metrics(self)

    monkeypatch.setattr(OptimizerStep, "sync_metrics", counted)
    list(train(tiny(log_interval=1000, max_iters=120, eval_interval=200), tokens))
    assert synced == [MAX_PENDING_STEPS, 2 * MAX_PENDING_STEPS, 120]


def test_the_time_of_steps_that_were_not_waited_for_is_shared_out(monkeypatch):
    clock = iter([0.0, 9.0, 10.0, 10.5, 11.0, 11.5, 12.0, 17.0])  # begin and end of four steps
    monkeypatch.setattr("nanogpt.training.throughput.time.perf_counter", lambda: next(clock))
    speed = Throughput(10, 1, None)
    for deferred in (False, True, True, False):
        with speed.step():
            if deferred:
                speed.mark_unsynchronized()
    assert speed.seconds_per_step == pytest.approx((0.5 + 0.5 + 5.0) / 3), "the first warms up"
