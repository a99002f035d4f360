"""A run ends when its validation loss does not improve any more, and continues exactly with a larger patience."""

import math

import pytest

from nanogpt.events import Evaluated, Finished, Health, Step
from nanogpt.training import Snapshot, train
from nanogpt.training.early_stopping import count_evaluation, early_stopping_event, is_over
from nanogpt.training.snapshot import Progress

STILL = {"learning_rate": 1e-12, "min_lr": 0, "eval_interval": 2}  # no loss improves by 0.01


def trained(config, tokens, **more):
    snapshots: dict[int, Snapshot] = {}

    def save(snapshot, is_best):
        snapshots[snapshot.progress.step] = snapshot
        return ""

    return list(train(config, tokens, save=save, **more)), snapshots


@pytest.mark.parametrize(
    ("losses", "min_delta", "without"),
    [
        ([3.0, 2.0, 1.0], 0.0, [0, 0, 0]),
        ([3.0, 3.0, 3.5, 2.9], 0.0, [0, 1, 2, 0]),
        ([3.0, 2.95, 2.9, 2.85], 0.125, [0, 1, 2, 0]),  # many small improvements are one
        ([3.0, math.nan, 2.0], 0.0, [0, 1, 0]),
        ([math.nan, math.inf, 3.0, 2.0], 0.0, [1, 2, 0, 0]),
    ],
)
def test_evaluations_without_an_improvement_are_counted(losses, min_delta, without):
    progress, counts = Progress(), []
    for loss in losses:
        count_evaluation(progress, loss, min_delta)
        counts.append(progress.evaluations_without_improvement)
    assert counts == without


def test_a_checkpoint_of_an_earlier_version_whose_best_loss_is_nan_counts_as_one_without_any():
    progress = Progress(best_val_loss=math.nan, improved_val_loss=math.nan, evaluations_without_improvement=1)
    count_evaluation(progress, 2.5, 0.0)
    assert (progress.improved_val_loss, progress.evaluations_without_improvement) == (2.5, 0)


def test_a_run_without_any_finite_loss_ends_early_too():
    message = early_stopping_event(Progress(evaluations_without_improvement=2)).message
    assert "no better validation loss in 2 evaluations; it was never a finite number. To continue" in message


def test_a_checkpoint_without_the_counters_has_its_best_loss_to_compare_with():
    progress = Progress(best_val_loss=2.0)
    count_evaluation(progress, 2.5, 0.0)
    assert progress.evaluations_without_improvement == 1


def test_it_ends_after_so_many_evaluations_with_a_checkpoint_and_a_reason(tiny, tokens):
    events, snapshots = trained(tiny(patience=3, min_delta=0.01, **STILL), tokens)
    assert [event.step for event in events if isinstance(event, Evaluated)] == [0, 2, 4, 6]
    *_, health, finished = events
    assert isinstance(finished, Finished)
    assert (finished.reason, finished.step) == ("patience", 6)
    assert isinstance(health, Health)
    assert health.message.startswith("ended early: no better validation loss in 3 evaluations; the best is 2.")
    assert max(snapshots) == 6


def test_a_run_that_improves_and_one_without_patience_go_to_their_last_step(tiny, tokens):
    improving = {"patience": 1, "eval_interval": 4, "eval_iters": 0, "learning_rate": 1e-2}
    for changes in (improving, STILL | {"patience": 0}):
        events, _ = trained(tiny(**changes), tokens)
        finished = events[-1]
        assert isinstance(finished, Finished)
        assert (finished.reason, finished.step) == ("max_iters", 12)


def test_the_counters_survive_a_resume(tiny, tokens):
    config = tiny(patience=3, min_delta=0.01, checkpoint_interval=1, **STILL)
    _, snapshots = trained(config, tokens)
    for step in (1, 2, 5):
        rest, _ = trained(config, tokens, start=snapshots[step], resume=True)
        assert isinstance(rest[-1], Finished)
        assert (rest[-1].reason, rest[-1].step) == ("patience", 6)


def test_with_a_larger_patience_it_continues_bit_identically(tiny, tokens):
    changes = {"dropout": 0.1, "eval_interval": 2, "learning_rate": 1e-3, "min_delta": 1.0}
    ended, snapshots = trained(tiny(patience=2, **changes), tokens)
    whole, expected = trained(tiny(patience=0, **changes), tokens)
    assert isinstance(ended[-1], Finished)
    assert (ended[-1].reason, ended[-1].step) == ("patience", 4)
    assert is_over(snapshots[4].progress, 2)
    rest, final = trained(tiny(patience=4, **changes), tokens, start=snapshots[4], resume=True)
    assert isinstance(rest[-1], Finished)
    assert (rest[-1].reason, rest[-1].step) == ("patience", 8)
    at_8 = {event.step: event.loss for event in whole if isinstance(event, Step)}
    assert [event.loss for event in rest if isinstance(event, Step)] == [at_8[step] for step in (5, 6, 7, 8)]
    for name, tensor in final[8].model.items():
        assert tensor.equal(expected[8].model[name])
