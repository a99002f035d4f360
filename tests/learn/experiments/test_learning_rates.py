"""Lesson 4: three learning rates side by side."""

from contextlib import closing

import pytest

from nanogpt.learn.experiment import create
from nanogpt.learn.figures import Curves, Table
from tests.lessons import all_figures, figures_of, last_figures, prepare_text, sentences

pytestmark = pytest.mark.slow


@pytest.fixture
def rates(tmp_path, text):
    prepare_text(tmp_path, "small", text)

    def make(**values):
        return create("learning_rates", {"steps": 30, "n_layer": 1, "n_embd": 16, **values})

    return make


def test_the_best_is_the_one_with_the_lowest_loss(rates):
    experiment = rates(low=1e-6, middle=1e-2, high=10.0)
    *growing, shown = all_figures(experiment.start())
    assert [len(figures_of(Curves, each)[0].curves[0].xs) for each in (*growing, shown)] == [10, 20, 30]
    assert not figures_of(Table, growing[0])
    rows = figures_of(Table, shown)[0].rows
    ends = [run.end for run in experiment.runs]
    assert ends.index(min(ends)) == 1
    assert [row[-1] for row in rows] == ["", "best", ""]
    text = sentences(shown)
    assert f"The best of these rates is 0.01: its loss ended at {ends[1]:.2f}." in text
    assert "1e-06 is too low for 30 steps" in text
    assert "10 is too high" in text
    assert not experiment.done


def test_what_the_runs_do_not_show_is_not_claimed(rates):
    text = sentences(last_figures(rates(low=1e-3, middle=2e-3, high=4e-3).start()))
    assert "No rate here is too high: 0.004, the highest, did best." in text
    text = sentences(last_figures(rates(low=1e-2, middle=10.0, high=100.0).start()))
    assert "No rate here is too low: 0.01, the lowest, did best." in text


def test_a_run_that_diverges_ends_and_is_drawn_finite(rates, monkeypatch):
    experiment = rates(low=1e-6, middle=1e-2, high=10.0)
    from nanogpt.learn.trainer import Step, Trainer

    step = Trainer.step

    def diverging(self: Trainer) -> Step:
        done = step(self)
        return Step(done.number, float("nan"), 1.0) if self.learning_rate == 10 and done.number == 4 else done

    monkeypatch.setattr(Trainer, "step", diverging)
    shown = last_figures(experiment.start())
    assert "10 is too high: after 4 steps the loss was no longer a number." in sentences(shown)
    assert [len(curve.xs) for curve in figures_of(Curves, shown)[0].curves] == [30, 30, 3]


def test_a_rate_of_ones_own_is_compared(rates):
    experiment = rates(low=1e-6, middle=1e-5, high=10.0)
    last_figures(experiment.start())
    for typed in ("", "much", "0", "-1", "nan", "1e9"):
        assert "A learning rate is a number above 0" in sentences(last_figures(experiment.answer(typed)))
    assert not experiment.done
    shown = last_figures(experiment.answer(" 0,01 "))
    assert experiment.done
    assert "Your rate, 0.01, beats all others." in sentences(shown)
    assert "Your rate, 2e-06, does not beat 0.01." in sentences(last_figures(experiment.answer("2e-6")))
    for typed in ("1e-7", "2e-7", "3e-7"):
        shown = last_figures(experiment.answer(typed))
    assert len(experiment.runs) == 6
    assert [run.rate for run in experiment.runs[3:]] == [1e-7, 2e-7, 3e-7]


def test_a_rate_that_is_cancelled_does_not_keep_back_what_the_next_one_shows(rates):
    experiment = rates(low=1e-6, middle=1e-5, high=10.0)
    last_figures(experiment.start())
    with closing(experiment.answer("0.02")) as cancelled:
        next(cancelled)
    assert "Your rate, 0.01, beats all others." in sentences(last_figures(experiment.answer("0.01")))
    assert [run.rate for run in experiment.runs[3:]] == [0.01]
