"""The power law: against numpy's own straight line, against numbers that were put in, and its intervals."""

import math

import numpy as np
import pytest

from nanogpt.learn.power_law import fit_power_law, t_95

SIZES = (1_000, 4_000, 16_000, 64_000, 256_000)
SIX = (*SIZES, 512_000)


def noisy(losses: np.ndarray, seed: int, spread: float) -> list[float]:
    factors = np.exp(np.random.default_rng(seed).normal(0, spread, len(losses)))
    return [float(loss) for loss in losses * factors]


def test_slope_and_its_standard_error_are_those_of_numpy() -> None:
    losses = noisy(8.0 * np.array(SIZES, float) ** -0.12, seed=1, spread=0.01)
    law = fit_power_law(SIZES, losses)
    # numpy scales the covariance by the squared deviations over the degrees of freedom, n - 2, as the law does
    (slope, intercept), covariance = np.polyfit(np.log(SIZES), np.log(losses), 1, cov=True)
    assert law.b == pytest.approx(-slope)
    assert math.log(law.a) == pytest.approx(intercept)
    assert law.b_error == pytest.approx(math.sqrt(covariance[0, 0]))
    assert law.floor == 0


def test_exact_points_give_back_the_law_and_no_error() -> None:
    law = fit_power_law(SIZES, [5.0 * size**-0.1 for size in SIZES])
    assert law.a == pytest.approx(5.0)
    assert law.b == pytest.approx(0.1)
    assert law.b_error == pytest.approx(0, abs=1e-9)
    assert law.at(10**6) == pytest.approx(5.0 * 10**-0.6)


def test_a_floor_that_bends_the_line_is_found() -> None:
    losses = noisy(1.5 + 40.0 * np.array(SIZES, float) ** -0.5, seed=2, spread=1e-4)
    law = fit_power_law(SIZES, losses)
    assert law.floor == pytest.approx(1.5, rel=0.01)
    assert law.b == pytest.approx(0.5, rel=0.05)
    assert 0 < law.b_error < 0.05


def test_points_on_a_line_show_no_floor() -> None:
    found = [fit_power_law(SIZES, noisy(5.0 * np.array(SIZES, float) ** -0.1, s, 0.01)).floor > 0 for s in range(100)]
    assert sum(found) <= 10  # the test errs in 5 of 100, one side of which is no floor but a curve the other way


@pytest.mark.parametrize("sizes", [SIZES, (1_000, 1_010, 1_020, 1_030, 1_040), tuple(10**9 * size for size in SIZES)])
@pytest.mark.parametrize("later", [(2.460, 2.462, 2.461, 2.463), (2.46, 2.46, 2.46, 2.46)])
def test_losses_that_are_flat_after_the_first_size_have_no_curve(
    sizes: tuple[int, ...], later: tuple[float, ...]
) -> None:
    """Any curve that is steep enough goes through the first point: b has no bound."""
    law = fit_power_law(sizes, (2.478, *later))
    low, high = law.prediction(2 * sizes[-1])
    assert law.floor == 0
    assert 0 < low < high < math.inf


def test_four_points_are_too_few_for_a_floor() -> None:
    assert fit_power_law(SIZES[:4], [1.5 + 40.0 * size**-0.5 for size in SIZES[:4]]).floor == 0


@pytest.mark.parametrize("floor", [0.0, 1.5])
def test_prediction_holds_for_about_95_of_100_further_points(floor: float) -> None:
    """Four standard deviations of a binomial with 150 trials at 0.95 are 0.071."""
    sizes, hits = np.array(SIX, float), 0
    for seed in range(150):
        truth = floor + 40.0 * sizes**-0.5
        losses = noisy(np.append(truth, floor + 40.0 * 2e6**-0.5), seed, 0.001)
        low, high = fit_power_law(SIX, losses[:-1]).prediction(2e6)
        hits += low <= losses[-1] <= high
    assert hits / 150 >= 0.95 - 0.071


def test_interval_of_few_points_is_wider_than_that_of_many() -> None:
    assert t_95(1) > t_95(3) > t_95(100) == 1.96


def test_the_interval_of_a_few_dozen_points_is_that_of_student_s_t() -> None:
    assert [t_95(degrees) for degrees in (1, 10, 13, 30)] == [12.706, 2.228, 2.160, 2.042]  # a published table
