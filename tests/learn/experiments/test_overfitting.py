"""The experiment with overfitting: what it measures, and that dropout and more text are what they are called."""

import pytest

from nanogpt.learn.figures import Curves, Table
from tests.lessons import all_figures, one, press, sentences, started

TINY = {"n_embd": 16, "n_layer": 1, "steps": 40, "characters": 400, "batch_size": 4, "block_size": 8}


def test_curves_are_the_losses_on_the_own_and_on_unseen_text() -> None:
    experiment, shown = started("overfitting", **TINY)
    own, unseen = one(Curves, shown).curves
    assert own.xs == unseen.xs == tuple(float(step) for step in range(2, 41, 2))  # 40 // 15 is 2
    run = experiment.runs[False, False]
    assert run.gap == pytest.approx(unseen.ys[-1] - own.ys[-1])
    assert run.best == min(zip(unseen.ys, unseen.xs, strict=True))


def test_dropout_changes_the_training_alone() -> None:
    """The first step's loss is without and with dropout of the same weights and batch; evaluation has none."""
    experiment, _ = started("overfitting", **TINY)
    shown = press(experiment, "dropout")
    assert experiment.has_dropout
    assert experiment.done
    first, second = experiment.runs[False, False], experiment.runs[True, False]
    assert (first.dropout, second.dropout) == (0.0, 0.2)
    assert first.own != second.own
    assert one(Curves, shown).title == "400 characters, dropout 0.2"
    assert [row[0] for row in one(Table, shown).rows] == ["400 characters", "400 characters, dropout 0.2"]
    narrows = second.gap < first.gap
    assert f"Dropout 0.2 {'narrows' if narrows else 'does not narrow'} the gap" in sentences(shown)


def test_a_run_is_trained_once() -> None:
    experiment, first = started("overfitting", **TINY)
    press(experiment, "dropout")
    run = experiment.runs[True, False]
    back = press(experiment, "dropout")
    assert one(Curves, back) == one(Curves, first)
    press(experiment, "dropout")
    assert experiment.runs[True, False] is run


def test_more_text_is_eight_times_as_much() -> None:
    experiment, _ = started("overfitting", **TINY)
    press(experiment, "more")
    assert experiment.runs[False, True].characters == 3200
    assert not experiment.done


def test_figures_are_live_until_a_training_has_ended() -> None:
    experiment, _ = started("overfitting", **TINY)
    *live, last = all_figures(experiment.act("dropout"))
    assert live
    assert all(each.live for each in live)
    assert not last.live


def test_a_cancelled_training_leaves_the_keys_as_they_were() -> None:
    experiment, _ = started("overfitting", **TINY)
    updates = experiment.act("dropout")
    next(updates)
    updates.close()
    assert not experiment.has_dropout
    assert [action.label for action in experiment.actions] == ["dropout on", "8 times more text"]
    assert press(experiment, "dropout")


def test_sentences_say_it_if_the_loss_on_unseen_text_does_not_rise() -> None:
    _, shown = started("overfitting", **TINY | {"steps": 1})
    assert "does not rise again" in sentences(shown)


@pytest.mark.slow
def test_a_model_that_has_learned_by_heart_recites() -> None:
    """300 characters, 250 steps of 128 characters: each is seen some 100 times."""
    values = {"characters": 300, "steps": 250, "n_embd": 48, "n_layer": 2, "block_size": 16, "batch_size": 8}
    experiment, shown = started("overfitting", **values)
    run = experiment.runs[False, False]
    assert run.recited[0] > run.recited[1] + 5
    assert "It overfits." in sentences(shown)
    assert run.unseen[-1] > run.best[0]
