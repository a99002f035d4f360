"""The sparkline of one row."""

import math

import numpy as np
import pytest

from nanogpt_tui.widgets.sparkline import means, sparkline


def test_bars_grow_from_the_lowest_to_the_highest() -> None:
    assert sparkline(range(8), 8, "block") == "▁▂▃▄▅▆▇█"
    assert sparkline(range(8), 8, "ascii") == "_.-=+*#@"


def test_braille_is_a_joined_line_of_two_points_a_cell() -> None:
    assert sparkline([0, 1, 2, 3], 2) == "⡠⠊"
    assert sparkline([3, 2, 1, 0], 2) == "⠑⢄"


def test_few_values_stand_at_the_right_end() -> None:
    assert sparkline([1, 2], 4, "block") == "  ▁█"


def test_many_values_become_means_and_the_newest_is_the_last() -> None:
    assert means(np.arange(10.0), 5).tolist() == [0.5, 2.5, 4.5, 6.5, 8.5]
    assert means(np.array([1, np.nan, np.nan, np.nan]), 2).tolist()[0] == 1.0
    assert sparkline(np.r_[np.zeros(990), np.ones(10)], 100, "block")[-1] == "█"


def test_what_is_not_finite_is_a_gap_in_bars() -> None:
    assert sparkline([1, math.nan, math.inf, 2], 4, "block") == "▁  █"
    assert sparkline([math.nan] * 3, 3, "block") == "   "


@pytest.mark.parametrize("glyphs", ["braille", "block", "ascii"])
@pytest.mark.parametrize("values", [[], [math.nan], [5.0], [-1.0, 0.0, 1e300], [math.inf, -math.inf]])
def test_any_values_fill_the_width(glyphs: str, values: list[float]) -> None:
    assert [len(sparkline(values, width, glyphs)) for width in (0, 1, 12)] == [0, 1, 12]


def test_what_does_not_change_runs_through_the_middle() -> None:
    assert set(sparkline([3.0] * 8, 4, "block")) == {"▅"}
    assert sparkline([3.0, 3.0 + 1e-12] * 4, 4, "block") == sparkline([3.0] * 8, 4, "block")


def test_a_log_sparkline_is_even_in_factors() -> None:
    assert sparkline([1, 10, 100], 3, "block", log=True) == sparkline([0, 1, 2], 3, "block")


def test_a_long_series_looks_like_its_means() -> None:
    values = np.sin(np.linspace(0, 6, 1_000_000)) + 0.01 * np.random.default_rng(1).standard_normal(1_000_000)
    assert sparkline(values, 20) == sparkline(values.reshape(40, -1).mean(axis=1), 20)
