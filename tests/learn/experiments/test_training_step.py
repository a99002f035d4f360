"""Lesson 3: a training step by hand."""

import math

import pytest
import torch

from nanogpt.learn.experiment import create
from nanogpt.learn.figures import Bars, Curves, Table
from tests.lessons import figures_of, last_figures, prepare_text, sentences


@pytest.fixture
def step(tmp_path, text):
    prepare_text(tmp_path, "small", text)
    experiment = create("training_step", {"warm_up": 5, "n_embd": 16})
    return experiment, last_figures(experiment.start())


def test_the_figures_are_those_of_the_model(step):
    experiment, shown = step
    model, window = experiment.trainer.model, experiment.window
    probabilities = torch.softmax(model.logits(window[None, :-1])[0], -1)
    right = probabilities[torch.arange(8), window[1:]]
    assert f"is {float(-right.detach().log().mean()):.2f} nats" in sentences(shown)
    guesses = figures_of(Bars, shown)[0]
    marked = [row for row in guesses.rows if row.marked]
    assert [row.value for row in marked] == [pytest.approx(float(right[-1].detach()))]
    assert all(row.before is None for row in guesses.rows)
    rows = figures_of(Table, shown)[0].rows
    assert [float(row[-1]) for row in rows] == pytest.approx((-right.detach().log()).tolist(), abs=0.0051)
    size = experiment.tokenizer.vocab_size
    assert f"ln {size} = {math.log(size):.2f}" in sentences(shown)


def test_a_step_shows_its_gradient_and_what_it_changed(step):
    experiment, before = step
    old = figures_of(Bars, before)[0]
    shown = last_figures(experiment.act("step"))
    new, gradients = figures_of(Bars, shown)
    marked = next(row for row in new.rows if row.marked)
    assert marked.before == pytest.approx(next(row.value for row in old.rows if row.marked))
    norm = math.sqrt(sum(float((p.grad**2).sum()) for p in experiment.trainer.model.parameters() if p.grad is not None))
    # AdamW clips at 1 after the norm was taken, so what is left is at most 1
    total = math.sqrt(sum(row.value**2 for row in gradients.rows))
    assert min(total, 1.0) == pytest.approx(norm, rel=1e-3)
    first, second = (state.loss for state in experiment.states)
    verb = "fell" if second < first else "did not fall: it went"
    assert f"The loss {verb} from {first:.3f} to {second:.3f}" in sentences(shown)
    assert not experiment.done


def test_ten_steps_draw_a_curve_and_end_the_lesson(step):
    experiment, _ = step
    shown = last_figures(experiment.act("ten"))
    (curve,) = figures_of(Curves, shown)[0].curves
    assert curve.ys == tuple(state.loss for state in experiment.states)
    assert len(curve.ys) == 11
    assert curve.ys[-1] < curve.ys[0]
    assert experiment.done


def test_another_passage_begins_again(step):
    experiment, _ = step
    passage = experiment.passage
    last_figures(experiment.act("step"))
    shown = last_figures(experiment.act("next"))
    assert experiment.passage != passage
    assert len(experiment.states) == 1
    assert not figures_of(Curves, shown)
