"""The learning rate over a run."""

from itertools import pairwise
from typing import Any

import pytest

from nanogpt.config import SCHEDULE, component_settings, names, resolve


def rates(steps, **settings):
    config = resolve(
        flags={"learning_rate": 1.0, "min_lr": 0.1, "warmup_iters": 10, "max_iters": 110} | settings
    ).config
    return [config.schedule.learning_rate(step, 1.0, config.schedule.max_iters) for step in steps]


def test_it_rises_evenly_during_the_warm_up_and_never_is_zero():
    assert rates(range(10)) == pytest.approx([(step + 1) / 11 for step in range(10)])


def test_the_cosine_starts_at_the_highest_is_halfway_in_the_middle_and_ends_at_the_lowest():
    assert rates([10, 60, 110]) == pytest.approx([1.0, 0.55, 0.1])


def test_after_lr_decay_iters_the_lowest_rate_holds():
    assert rates([50, 51, 109], lr_decay_iters=50) == pytest.approx([0.1] * 3)


def test_without_decay_the_rate_is_constant_from_the_first_step():
    assert rates([0, 5, 200], decay_lr=False) == [1.0, 1.0, 1.0]


def test_a_warm_up_longer_than_the_decay_divides_nothing_by_zero():
    assert rates([9, 10, 11], lr_decay_iters=10) == pytest.approx([10 / 11, 0.1, 0.1])


def test_the_lowest_rate_is_a_tenth_of_the_highest_unless_it_is_set():
    config = resolve(flags={"learning_rate": 0.5}).config
    assert config.schedule.learning_rate(2000, 0.5, 2000) == pytest.approx(0.05)


def test_a_constant_rate_holds_after_its_warm_up():
    config = resolve(flags={"schedule": "constant", "warmup_iters": 3}).config
    assert [config.schedule.learning_rate(step, 1.0, 9) for step in range(6)] == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0]


SCHEDULES: dict[str, tuple[dict[str, Any], dict[int, float]]] = {
    "linear": ({"final_lr": 0.2}, {2: 0.75, 3: 1.0, 53: 0.6, 103: 0.2, 200: 0.2}),
    "wsd": ({"decay_fraction": 52 / 103, "final_lr": 0.1}, {2: 0.75, 3: 1.0, 51: 1.0, 77: 0.55, 103: 0.1, 200: 0.1}),
    "step": ({"step_iters": 10, "step_factor": 0.5}, {2: 0.75, 3: 1.0, 12: 1.0, 13: 0.5, 22: 0.5, 33: 0.125}),
    "inverse_sqrt": ({}, {0: 1 / 3, 2: 1.0, 11: 0.5, 26: 1 / 3}),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_a_schedule_has_the_rates_of_its_formula(name):
    """With a warm-up of 3 iterations in a run of 103."""
    settings, expected = SCHEDULES[name]
    config = resolve(flags={"schedule": name, "warmup_iters": 3, "max_iters": 103} | settings).config
    assert {step: config.schedule.learning_rate(step, 1.0, 103) for step in expected} == pytest.approx(expected)


@pytest.mark.parametrize("name", names(SCHEDULE))
def test_no_schedule_has_a_rate_below_zero_or_above_the_highest(name):
    for settings in ({}, {"warmup_iters": 0}, {"warmup_iters": 500}):
        if set(settings) <= set(component_settings(SCHEDULE, name)):
            config = resolve(flags={"schedule": name, "max_iters": 100} | settings).config
            assert all(0 <= config.schedule.learning_rate(step, 1.0, 100) <= 1 for step in range(300))


@pytest.mark.parametrize("name", names(SCHEDULE))
def test_every_schedule_warms_up_in_even_steps_to_the_highest_rate(name):
    config = resolve(flags={"schedule": name, "warmup_iters": 8, "max_iters": 100}).config
    rates = [config.schedule.learning_rate(step, 1.0, 100) for step in range(9)]
    rises = [after - before for before, after in pairwise(rates)]
    assert 0 < rates[0] <= 1 / 8
    assert rises[:7] == pytest.approx([rates[0]] * 7)
    assert rates[8] == pytest.approx(1.0, abs=0.06)  # inverse_sqrt is past its highest by one step: √(8/9) = 0.943
