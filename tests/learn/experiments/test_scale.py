"""The experiment with scale: its sizes, its fit, and the prediction that is made before the model is trained."""

import numpy as np
import pytest

from nanogpt.learn.experiments.scale import Prediction, next_width, widths
from nanogpt.learn.figures import Curves, Table
from tests.lessons import all_figures, one, press, sentences, started

TINY = {"largest": 24, "steps": 6, "batch_size": 8, "block_size": 4}


def test_five_sizes_at_about_equal_ratios() -> None:
    assert widths(8, 128, 5) == [8, 16, 32, 64, 128]
    assert widths(4, 8, 5) == [4, 8, 12, 16, 20]  # multiples of 4, each larger than the one before
    assert next_width(64) == 128


def test_law_is_the_line_through_what_was_trained() -> None:
    experiment, shown = started("scale", **TINY)
    table = one(Table, shown)
    assert [row[0] for row in table.rows] == ["8", "12", "16", "20", "24"]
    sizes = [each.parameters for each in experiment.trained]
    losses = [each.loss for each in experiment.trained]
    law = experiment.law
    if not law.floor:
        slope, _ = np.polyfit(np.log(sizes), np.log(losses), 1)
        assert law.b == pytest.approx(-slope)
    assert f"b = {law.b:.3f} ± {law.b_error:.3f}" in sentences(shown)
    points, line, above, below = one(Curves, shown).curves
    assert points.ys == tuple(losses)
    assert line.ys == pytest.approx([law.at(x) for x in line.xs])
    # at the mean of ln(size) the standard error of a line is s / √n
    middle = float(np.exp(np.mean(np.log(sizes))))
    if not law.floor:
        assert law.standard_error(middle) == pytest.approx(law.spread / 5**0.5)
    assert all(low < y < high for low, y, high in zip(below.ys, line.ys, above.ys, strict=True))


def test_one_more_size_is_predicted_before_it_is_trained() -> None:
    experiment, shown = started("scale", **TINY)
    law = experiment.law
    assert not experiment.done
    shown = press(experiment, "more")
    added = experiment.trained[-1]
    assert added.width == 48
    low, high = law.prediction(added.parameters)
    assert experiment.prediction == Prediction(law.at(added.parameters), low, high)
    verdict = "inside" if low <= added.loss <= high else "outside"
    assert f"It is {added.loss:.3f}, {verdict}" in sentences(shown)
    assert experiment.law.points == 6
    assert experiment.done


def test_another_seed_gives_the_same_sizes_again() -> None:
    experiment, _ = started("scale", **TINY)
    press(experiment, "seed")
    sizes = [each.width for each in experiment.trained]
    assert sizes == [8, 12, 16, 20, 24] * 2
    assert experiment.law.points == 10
    losses = [each.loss for each in experiment.trained]
    assert losses[:5] != losses[5:]


def test_figures_are_live_until_a_training_has_ended() -> None:
    experiment, _ = started("scale", **TINY)
    *live, last = all_figures(experiment.act("more"))
    assert live
    assert all(each.live for each in live)
    assert not last.live


def test_a_cancelled_training_adds_no_point() -> None:
    experiment, _ = started("scale", **TINY)
    for name in ("more", "seed"):
        updates = experiment.act(name)
        next(updates)
        updates.close()
    assert len(experiment.trained) == 5
    assert len(experiment.widths) == 5
    press(experiment, "more")
    assert len(experiment.trained) == 6


def test_two_more_sizes_at_most() -> None:
    experiment, _ = started("scale", **TINY | {"steps": 2})
    press(experiment, "more", "more")
    assert [action.name for action in experiment.actions] == ["seed"]
