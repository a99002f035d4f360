"""The loss chart: dots to characters, axes, curves, the picture, and the widget under keys and mouse."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from rich.color import Color as RichColor
from rich.color import ColorSystem
from rich.style import Style
from textual.app import App, ComposeResult
from textual.color import Color
from textual.geometry import Region
from textual.pilot import Pilot
from textual.theme import Theme

from nanogpt.loss_units import UNITS, TextSize, convert
from nanogpt_tui import theme
from nanogpt_tui.widgets import curve as curve_module
from nanogpt_tui.widgets.canvas import GLYPHS, Canvas, pack, plain, polyline, spans
from nanogpt_tui.widgets.chart import LossChart
from nanogpt_tui.widgets.curve import FIELDS, Curve, in_unit, merged, moving_average, summarize_columns
from nanogpt_tui.widgets.plot import (
    BEST,
    HEADER,
    LINE,
    MARGIN,
    MIN_SIZE,
    RAW,
    UNIFORM,
    VALIDATION_LINE,
    Mark,
    Picture,
    draw,
)
from nanogpt_tui.widgets.scales import Scale, loss_text, nice_step, x_end, x_text, y_labels, y_scale, y_ticks


def text(codes: np.ndarray) -> list[str]:
    return ["".join(map(chr, row)) for row in codes]


def dots(*rows: str) -> np.ndarray:
    return np.array([[char == "#" for char in row] for row in rows])


# canvas


def test_each_glyph_set_shows_dots_where_they_are() -> None:
    assert text(pack(dots("#.", ".#", "#.", ".#"), GLYPHS["braille"])[0]) == ["⢕"]
    assert text(pack(dots("#..#", ".##."), GLYPHS["block"])[0]) == ["▚▞"]
    assert text(pack(dots("#...", ".#..", "..#."), GLYPHS["ascii"])[0]) == ["'-_ "]


def test_braille_table_has_every_pattern_once() -> None:
    assert sorted(GLYPHS["braille"].table.tolist()) == list(range(0x2800, 0x2900))


def test_spans_fill_from_top_to_bottom_and_nothing_for_nan() -> None:
    filled = spans(np.array([0.0, 1, np.nan]), np.array([1.0, 1, 2]), 3)
    assert filled.tolist() == dots("#..", "##.", "...").tolist()


def test_a_line_is_one_dot_thin_where_flat_and_joined_where_steep() -> None:
    assert polyline(np.arange(4.0), np.array([0.0, 1, 2, 2]), 4, 3).tolist() == dots("#...", ".#..", "..##").tolist()
    steep = polyline(np.arange(2.0), np.array([0.0, 5]), 2, 6)
    assert steep.tolist() == dots("#.", "#.", "#.", ".#", ".#", ".#").tolist()
    assert polyline(np.arange(2.0), np.array([5.0, 0]), 2, 6).tolist() == steep[::-1].tolist()


def test_a_line_ends_at_its_last_point_and_enters_from_points_outside() -> None:
    line = polyline(np.array([-2.0, 2.0]), np.array([0.0, 4.0]), 5, 5)
    assert np.argmax(line[:, :3], axis=0).tolist() == [2, 3, 4]
    assert not line[:, 3:].any()


def test_no_finite_point_draws_no_line() -> None:
    assert not polyline(np.arange(3.0), np.full(3, np.nan), 3, 2).any()


def test_a_row_is_one_segment_for_each_run_of_a_style_and_blanks_start_none() -> None:
    canvas = Canvas(8, 1, GLYPHS["ascii"])
    canvas.text(1, 0, "ab", 1)
    canvas.text(5, 0, "c", 1)
    canvas.text(6, 0, "d", 2)
    styles = [Style(), Style(color="red"), Style(color="blue")]
    assert [(each.text, each.style) for each in canvas.segments(0, styles)] == [
        (" ab  c", styles[1]),
        ("d ", styles[2]),
    ]


def test_changes_names_only_the_rows_and_columns_that_differ() -> None:
    before, after = Canvas(6, 3, GLYPHS["ascii"]), Canvas(6, 3, GLYPHS["ascii"])
    after.text(2, 1, "xyz", 1)
    assert list(after.changes(before)) == [(1, 2, 5)]
    assert list(after.changes(None)) == [(0, 0, 6), (1, 0, 6), (2, 0, 6)]


def test_text_is_cut_at_both_edges() -> None:
    canvas = Canvas(4, 1, GLYPHS["ascii"])
    canvas.text(-2, 0, "abcdefgh", 1)
    assert canvas.lines() == ["cdef"]


def test_names_cannot_break_the_grid() -> None:
    assert plain("a\x1b[31m\x00\u202eb语é") == "a?[31m??b?é"


# scales


@pytest.mark.parametrize(
    ("span", "count", "step"), [(10, 5, 2), (1, 10, 0.1), (7, 5, 2), (0.03, 6, 0.005), (1200, 5, 500)]
)
def test_steps_are_1_2_or_5_times_a_power_of_ten(span: float, count: int, step: float) -> None:
    assert nice_step(span, count) == pytest.approx(step)


def test_linear_ticks_are_the_multiples_inside() -> None:
    assert y_ticks(Scale(1.3, 4.2), 6) == pytest.approx([1.5, 2, 2.5, 3, 3.5, 4])


def test_log_ticks_are_1_2_5_over_decades_and_linear_steps_under_one() -> None:
    assert y_ticks(Scale(0.1, 12, True), 9) == pytest.approx([0.1, 0.2, 0.5, 1, 2, 5, 10])
    assert y_ticks(Scale(1e-6, 1e3, True), 10) == pytest.approx([10.0**power for power in range(-6, 4)])
    assert y_ticks(Scale(2.29, 4.4, True), 2) == pytest.approx([3, 4])
    assert y_ticks(Scale(1.4, 4.4, True), 4) == pytest.approx([2, 3, 4])


def test_a_log_scale_is_even_in_factors_and_has_no_place_for_zero() -> None:
    scale = Scale(1, 100, True)
    assert scale.fraction(np.array([1.0, 10, 100])).tolist() == [0, 0.5, 1]
    assert np.isnan(scale.fraction(np.array([0.0, -1, np.nan]))).all()


@pytest.mark.parametrize(("low", "high"), [(1.612, 4.2), (2.0, 2.0), (0.0, 0.0), (-3.0, 5.0), (1e-9, 1e9)])
def test_the_y_range_holds_what_it_is_for_and_is_never_empty(low: float, high: float) -> None:
    scale = y_scale(low, high, False)
    assert scale.low <= low
    assert high <= scale.high
    assert scale.low < scale.high


def test_the_ranges_stand_still_while_data_creep_on() -> None:
    assert y_scale(1.6123, 4.2, False) == y_scale(1.6119, 4.2, False)
    assert x_end("step", 1210) == x_end("step", 1390) == 1400
    assert all(last <= x_end("tokens", last) <= 1.25 * last for last in (101.0, 777.0, 1e6 + 1))


def test_labels_tell_neighbours_apart_in_six_cells() -> None:
    assert y_labels([1.0, 1.5, 2.0]) == ["1.0", "1.5", "2.0"]
    assert y_labels([0.001, 0.002]) == ["0.001", "0.002"]
    assert y_labels([1e-6, 1e-3, 1.0]) == ["1e-6", "1e-3", "1e0"]


@pytest.mark.parametrize(
    ("axis", "value", "step", "shown"),
    [
        ("step", 1500, 500, "1,500"),
        ("tokens", 20_500_000, 500_000, "20.5M"),
        ("tokens", 40_000, 20_000, "40k"),
        ("time", 65, 5, "1:05"),
        ("time", 3900, 300, "1:05:00"),
        ("time", 172800, 86400, "2d"),
    ],
)
def test_x_labels_speak_in_the_units_of_the_axis(axis: str, value: float, step: float, shown: str) -> None:
    assert x_text(axis, value, step) == shown


@pytest.mark.parametrize("value", [0.0, 1.6123, 10.8249, 123.4, 54321.0, 9.9e7, math.nan, math.inf])
def test_a_loss_is_always_six_wide(value: float) -> None:
    assert len(loss_text(value)) == 6


# curves


def brute_average(values: np.ndarray, decay: float) -> list[float]:
    """One value at a time, with a decay that grows to its full size."""
    mean, out = values[0], []
    for t, value in enumerate(values):
        now = min(decay, (1 + t) / (10 + t))
        mean = now * mean + (1 - now) * value
        out.append(mean)
    return out


def filled(losses: np.ndarray, smoothing: float = 0.9) -> Curve:
    curve = Curve(smoothing)
    steps = np.arange(1, len(losses) + 1)
    curve.append(steps, steps * 100, steps * 0.5, losses)
    return curve


@pytest.mark.parametrize("decay", [0.0, 0.3, 0.9, 0.998])
def test_smoothing_equals_the_recurrence(decay: float) -> None:
    losses = 2 + np.random.default_rng(0).standard_normal(3000)
    assert filled(losses, decay).field("smooth") == pytest.approx(brute_average(losses, decay), rel=1e-9)
    assert len(moving_average(np.empty(0), decay, 1.0, 5)) == 0


def test_smoothing_is_not_dragged_behind_a_steep_beginning() -> None:
    losses = 2 + 3 * np.exp(-np.arange(400) / 40)
    assert np.abs(filled(losses, 0.99).field("smooth")[:100] - losses[:100]).max() < 0.4


def test_smoothing_goes_on_where_it_stood_whatever_the_chunks() -> None:
    losses = 2 + np.random.default_rng(1).standard_normal(500)
    whole, parts = filled(losses), Curve(0.9)
    for start in range(0, 500, 7):
        steps = np.arange(start, min(start + 7, 500)) + 1
        parts.append(steps, steps * 100, steps * 0.5, losses[start : start + 7])
    assert parts.field("smooth") == pytest.approx(whole.field("smooth"), rel=1e-12)


def test_smoothing_passes_over_what_is_not_finite_and_adds_no_points() -> None:
    curve = Curve(0.5)
    curve.append([10, 500, 1000, 1500], [0, 0, 0, 0], [0, 0, 0, 0], [2.0, math.nan, math.inf, 4.0])
    assert len(curve) == 4
    assert np.isnan(curve.field("smooth")[1:3]).all()
    assert curve.field("smooth")[[0, 3]] == pytest.approx(brute_average(np.array([2.0, 4.0]), 0.5))


def test_changing_the_smoothing_equals_having_begun_with_it() -> None:
    losses = 2 + np.random.default_rng(2).standard_normal(100)
    curve = filled(losses, 0.99)
    curve.smoothing = 0.5
    assert curve.field("smooth").tolist() == filled(losses, 0.5).field("smooth").tolist()


def brute_columns(x: np.ndarray, edges: np.ndarray, loss: np.ndarray, smooth: np.ndarray) -> list[list[float]]:
    out = []
    for number, (left, right) in enumerate(pairwise(edges)):
        last = number == len(edges) - 2
        inside = (x >= left) & ((x <= right) if last else (x < right))
        raw, mean = loss[inside & np.isfinite(loss)], smooth[inside & np.isfinite(smooth)]
        out.append([raw.min(), raw.max(), mean.mean()] if len(raw) else [math.nan] * 3)
    return out


@pytest.mark.parametrize("width", [1, 7, 200, 1500])
def test_columns_equal_a_search_through_all_points(width: int) -> None:
    losses = 2 + np.random.default_rng(3).standard_normal(1000)
    losses[::13] = np.nan
    losses[200:260] = np.nan
    curve = filled(losses)
    x, edges = curve.field("tokens"), np.linspace(150.0, 90_000.0, width + 1)
    found = curve.columns("tokens", edges)
    wanted = np.array(brute_columns(x, edges, curve.field("loss"), curve.field("smooth"))).T
    np.testing.assert_allclose([found.low, found.high, found.smooth], wanted, rtol=1e-12)


def test_columns_kept_from_before_equal_columns_made_anew() -> None:
    losses = 2 + np.random.default_rng(4).standard_normal(900)
    edges, grown = np.linspace(0.0, 1000.0, 61), Curve(0.9)
    for start in range(0, 900, 45):
        steps = np.arange(start, start + 45) + 1
        grown.append(steps, steps, steps, losses[start : start + 45])
        kept = grown.columns("step", edges)
        fresh = summarize_columns(grown.field("step"), edges, grown.field("loss"), grown.field("smooth"))
        for name in ("low", "high", "smooth"):
            np.testing.assert_allclose(getattr(kept, name), getattr(fresh, name), rtol=1e-12)


def test_appending_to_an_unchanged_range_reads_only_the_newest_column(monkeypatch: pytest.MonkeyPatch) -> None:
    read = []

    def counted(x: Any, edges: Any, loss: Any, smooth: Any) -> Any:
        read.append(len(x))
        return summarize_columns(x, edges, loss, smooth)

    monkeypatch.setattr("nanogpt_tui.widgets.curve.summarize_columns", counted)
    curve, edges = filled(np.ones(9000)), np.linspace(0.0, 10_000.0, 101)
    curve.columns("step", edges)
    curve.append([9001, 9002], [900_100, 900_200], [4500.5, 4501], [1, 1])
    curve.columns("step", edges)
    curve.columns("step", edges)
    assert read[0] == 9000
    assert len(read) == 2
    assert read[1] <= 103


def test_steps_that_come_again_replace_what_was_there_from_them_on() -> None:
    curve = filled(np.full(10, 3.0))
    curve.append([6, 7], [600, 700], [3, 3.5], [1.0, 1.0])
    assert curve.field("step").tolist() == [1, 2, 3, 4, 5, 6, 7]
    assert curve.field("loss").tolist() == [3.0] * 5 + [1.0] * 2
    assert curve.field("smooth") == pytest.approx(brute_average(curve.field("loss"), 0.9))


def test_truncating_forgets_the_points_and_their_smoothing() -> None:
    losses = 2 + np.random.default_rng(5).standard_normal(50)
    curve = filled(losses)
    curve.columns("step", np.linspace(0, 50, 11))
    curve.truncate(20)
    assert curve.field("smooth").tolist() == filled(losses[:20]).field("smooth").tolist()
    assert np.isnan(curve.columns("step", np.linspace(0, 50, 11)).low[5:]).all()


def test_the_nearest_point_is_found_from_both_sides_and_beyond_the_ends() -> None:
    curve = Curve()
    curve.append([10, 20, 40], [0, 0, 0], [0, 0, 0], [1, 1, 1])
    assert [curve.nearest("step", x) for x in (-5, 14, 16, 31, 99)] == [0, 0, 1, 2, 2]


def test_validation_points_are_in_order_and_the_last_of_a_step_counts() -> None:
    steps, losses = merged((np.array([100.0, 200.0]), np.array([2.0, 1.8])), [150, 200], [1.9, 1.7])
    assert steps.tolist() == [100, 150, 200]
    assert losses.tolist() == [2.0, 1.9, 1.7]


# the picture


def plot_of(picture: Picture, width: int = 40, height: int = 12) -> tuple[list[str], np.ndarray]:
    """The plot's characters and styles, without what stands around it."""
    canvas = draw(picture, width, height)
    rows = slice(HEADER, height - 2)
    return [line[MARGIN:] for line in canvas.lines()[rows]], canvas.styles[rows, MARGIN:]


def test_a_falling_loss_falls_from_the_top_left_to_the_bottom_right() -> None:
    _, styles = plot_of(Picture(filled(np.linspace(5, 1, 300), 0.0)))
    rows = [np.flatnonzero(styles[:, column] == LINE) for column in range(styles.shape[1])]
    assert rows[0].min() == 0
    assert rows[-1].max() == styles.shape[0] - 1
    means = [row.mean() for row in rows if len(row)]
    assert means == sorted(means)
    assert len(means) == styles.shape[1]


@pytest.mark.parametrize("glyphs", ["braille", "block", "ascii"])
@pytest.mark.parametrize("size", [MIN_SIZE, (80, 24), (200, 60)])
@pytest.mark.parametrize("log_y", [False, True])
def test_every_glyph_set_draws_at_every_size_with_anything_in_the_data(
    glyphs: str, size: tuple[int, int], log_y: bool
) -> None:
    losses = np.array([math.nan, 5, math.inf, -1, 0, 3, -math.inf, 1e30])
    picture = Picture(filled(losses), log_y=log_y, glyphs=glyphs, cursor=3, marks=[Mark(2, "change", "x")])
    picture.validation = np.array([0.0, 4, 8]), np.array([math.nan, 3, 2])
    picture.overlays["other\n"] = filled(np.full(3, math.nan))
    canvas = draw(picture, *size)
    assert all(len(line) == size[0] and line.isprintable() for line in canvas.lines())
    assert glyphs != "ascii" or all(ord(char) < 128 for line in canvas.lines()[HEADER:] for char in line)


def test_a_single_point_is_drawn() -> None:
    _, styles = plot_of(Picture(filled(np.array([4.2]))))
    assert (styles == LINE).any()


def test_validation_is_a_diamond_at_its_step_and_height() -> None:
    picture = Picture(filled(np.linspace(4, 2, 100)))
    picture.validation = np.array([50.0]), np.array([3.0])
    lines, styles = plot_of(picture)
    (row,), (column,) = np.nonzero(np.array([list(line) for line in lines]) == "◆")
    assert abs(column - styles.shape[1] // 2) <= 1
    assert abs(row - styles.shape[0] // 2) <= 1


@pytest.mark.parametrize("trim", [True, False])
def test_a_run_that_diverged_is_drawn_in_perplexity_on_a_logarithmic_axis(trim: bool) -> None:
    curve = filled(np.array([3.0, 800.0, 800.0, 800.0]), 0.0)
    _, styles = plot_of(Picture(curve, unit="perplexity", log_y=True, trim=trim))
    assert (styles[0] == LINE).any()


def test_the_best_validation_point_is_the_lowest_even_by_a_hair() -> None:
    picture = Picture(filled(np.linspace(4, 2, 100)))
    picture.validation = np.array([20.0, 50.0, 80.0]), np.array([2.5, 2.4999, 2.5])
    _, styles = plot_of(picture)
    assert np.flatnonzero((styles == BEST).any(axis=0)).tolist() == [16]  # 33 columns, the middle one


def test_the_validation_line_lies_behind_the_smoothed_one() -> None:
    picture = Picture(filled(np.full(100, 3.0)))
    without = plot_of(picture)[1]
    picture.validation = np.array([0.0, 100.0]), np.array([3.0, 3.0])
    with_line = plot_of(picture)[1]
    assert (with_line[:, 5:-5] == LINE).sum() == (without[:, 5:-5] == LINE).sum() > 0


def test_one_spike_does_not_flatten_the_rest() -> None:
    losses = np.full(1000, 2.0)
    losses[::2] = 1.5
    losses[500] = 1000.0
    labels = [line[:MARGIN].strip() for line in draw(Picture(filled(losses, 0.99)), 60, 20).lines()[HEADER:-2]]
    # the smoothed line may rise to about 2 % of the spike, the axis no further
    assert 2 <= max(float(label) for label in labels if label) < 25


def test_the_first_fall_may_leave_the_plot_unless_asked_not_to() -> None:
    steps = np.arange(10_000)
    picture = Picture(filled(1.5 + 3.5 * np.exp(-steps / 60) - steps * 1e-5, 0.0))

    def top() -> float:
        return max(float(line[:MARGIN]) for line in draw(picture, 100, 20).lines()[HEADER:-2] if line[:MARGIN].strip())

    assert top() < 2
    picture.trim = False
    assert top() >= 3


@pytest.mark.parametrize("log_y", [False, True])
@pytest.mark.parametrize("last", [60, 150, 2000])
def test_after_the_first_fall_a_short_run_has_most_of_the_height_by_itself(last: int, log_y: bool) -> None:
    steps = np.arange(last)
    picture = Picture(filled(1.6 + 2.6 * np.exp(-10 * steps / last), 0.0), log_y=log_y, show_raw=False)

    def used() -> float:
        """Which part of the height the line takes from a quarter of the run on."""
        rows = np.flatnonzero((plot_of(picture, 107, 43)[1][:, 25:] == LINE).any(axis=1))
        return float((rows.max() - rows.min() + 1) / 40)

    # two thirds, less what rounding the axis to steps (two of 20) and the line to a column (a tenth of its height) take
    assert 0.5 <= used() <= 0.7
    picture.trim = False
    assert used() < 0.25


@pytest.mark.parametrize("last", [0, 1, 2, 5, 30])
@pytest.mark.parametrize("log_y", [False, True])
def test_a_run_that_has_only_begun_is_drawn_with_its_first_evaluation(last: int, log_y: bool) -> None:
    picture = Picture(filled(np.linspace(4.1, 3.5, last)), log_y=log_y, uniform=math.log(65))
    picture.validation = np.array([0.0]), np.array([4.174])
    lines, styles = plot_of(picture)
    assert any("◆" in line for line in lines)
    assert bool((styles == LINE).any()) == (last > 0)


def test_an_overlay_that_runs_on_leaves_a_short_run_in_sight() -> None:
    picture = Picture(filled(1.6 + 2.6 * np.exp(-np.arange(100) / 10), 0.0), show_raw=False)
    picture.overlays["long"] = filled(np.full(5000, 1.0), 0.0)
    _, styles = plot_of(picture, 107, 43)
    assert (styles == LINE).any(axis=1).sum() >= 10


def test_a_loss_that_only_rises_is_not_cut() -> None:
    _, styles = plot_of(Picture(filled(np.linspace(2, 5, 200), 0.0), show_raw=False))
    assert [bool((styles[:, column] == LINE).any()) for column in (0, -1)] == [True, True]


def test_the_uniform_guess_is_a_line_where_it_is_in_sight_and_its_value_stands_in_the_legend() -> None:
    picture = Picture(filled(np.linspace(5, 3, 100), 0.0), uniform=math.log(65), trim=False)
    _, styles = plot_of(picture, 120, 23)
    assert (styles == UNIFORM).any(axis=1).nonzero()[0] == [8]  # 4.17 lies 0.41 of the way down 20 rows
    assert "╌ uniform guess 4.17" in draw(picture, 120, 23).lines()[0]
    picture.curve = filled(np.linspace(2, 1.5, 100), 0.0)
    assert not (plot_of(picture, 120, 23)[1] == UNIFORM).any()
    assert "uniform guess 4.17" in draw(picture, 120, 23).lines()[0]
    assert "uniform" not in draw(picture, 30, 23).lines()[0]


def test_the_legend_stands_at_the_left_in_80_columns() -> None:
    picture = Picture(filled(np.linspace(4, 2, 100), 0.95), uniform=math.log(65))
    picture.validation = np.array([50.0]), np.array([3.0])
    legend = "loss  ━ train (EMA 0.95)  ⢕ raw  ◆ validation  ╌ uniform guess 4.17"
    assert draw(picture, 76, 12).lines()[0].rstrip() == legend


@pytest.mark.parametrize("each", [theme for theme in theme.THEMES if not theme.ansi], ids=lambda each: each.name)
@pytest.mark.parametrize("system", [ColorSystem.TRUECOLOR, ColorSystem.EIGHT_BIT])
def test_the_raw_band_is_seen_and_told_from_line_and_labels(each: Theme, system: ColorSystem) -> None:
    def shown(colour: str) -> Color:
        triplet = RichColor.parse(colour).downgrade(system).get_truecolor()
        return Color(*triplet)

    raw = shown(each.variables["raw"])
    # 3 : 1 is what WCAG 2.1 asks of what is drawn (success criterion 1.4.11)
    assert each.background is not None
    assert contrast(raw, shown(each.background)) >= 3
    assert len({raw, *(shown(each.variables[name]) for name in ("alive", "quiet", "rule"))}) == 4


def contrast(one: Color, other: Color) -> float:
    """The contrast ratio of WCAG 2.1, from 1 to 21."""

    def luminance(colour: Color) -> float:
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in colour.normalized]
        return float(np.dot(linear, (0.2126, 0.7152, 0.0722)))

    dark, light = sorted((luminance(one), luminance(other)))
    return (light + 0.05) / (dark + 0.05)


def test_the_raw_band_reaches_from_the_lowest_to_the_highest_loss() -> None:
    losses = np.tile([1.0, 3.0], 200)
    picture = Picture(filled(losses, 0.99))
    _, styles = plot_of(picture, 60, 20)
    assert (styles == RAW).any(axis=1).sum() >= styles.shape[0] - 2
    picture.show_raw = False
    assert not (plot_of(picture, 60, 20)[1] == RAW).any()


def test_marks_stand_on_the_axis_at_their_step() -> None:
    marks = [Mark(25, "best"), Mark(50, "change", "learning rate × 0.5"), Mark(75, "best")]  # the first is so no more
    canvas = draw(Picture(filled(np.ones(100)), marks=marks), MARGIN + 100, 12)
    axis = canvas.lines()[-2][MARGIN:]
    assert [axis.index(char) for char in "△●▲"] == [25, 50, 75]


def test_the_legend_stays_above_the_plot_and_leaves_out_what_does_not_fit() -> None:
    picture = Picture(filled(np.ones(10)))
    for name in ("a-run-with-a-long-name", "another-run-with-a-name"):
        picture.overlays[name] = filled(np.ones(10))
    assert "another-run" in draw(picture, 120, 12).lines()[0]
    assert "another-run" not in draw(picture, 50, 12).lines()[0]
    assert "train" in draw(picture, 30, 12).lines()[0]


def test_the_crosshair_reads_the_point_it_stands_on_and_invents_none_for_other_runs() -> None:
    curve, other = Curve(0.0), Curve(0.0)
    curve.append([100, 200, 300], [1, 2, 3], [1, 2, 3], [4.0, 3.0, 2.5])
    other.append([100, 900], [1, 9], [1, 9], [3.5, 1.5])
    picture = Picture(curve, {"other": other}, cursor=210.0)
    picture.validation = np.array([150.0]), np.array([3.125])
    header = draw(picture, 100, 12).lines()[0]
    assert "step 200" in header
    assert "train  3.000" in header
    assert "validation  3.125" in header
    assert header.rstrip().endswith("–")


def test_the_crosshair_and_the_lines_of_changes_are_seen_over_the_raw_band() -> None:
    curve = filled(np.tile([1.0, 3.0], 200), 0.999)
    lines, _ = plot_of(Picture(curve, marks=[Mark(100, "change")], cursor=300), 60, 20)
    assert sum("│" in line for line in lines) >= len(lines) - 2
    assert sum("┊" in line for line in lines) >= len(lines) - 2


def test_the_line_between_validation_points_is_dotted_alike_where_flat_and_where_steep() -> None:
    for first in (3.0, 9.0):
        picture = Picture(Curve(), glyphs="block")
        picture.validation = np.array([0.0, 10.0]), np.array([first, 3.0])
        _, styles = plot_of(picture, 60, 40)
        drawn, columns = (styles == VALIDATION_LINE).sum(), np.flatnonzero((styles == VALIDATION_LINE).any(axis=0))
        assert 0.15 * max(styles.shape) < drawn < 0.75 * max(styles.shape)
        assert np.diff(columns).max() <= 2


def test_the_crosshair_tells_of_a_change_that_was_made_there() -> None:
    picture = Picture(filled(np.ones(100)), marks=[Mark(50, "change", "lr × 0.5\x1b[2J")], cursor=50)
    assert "lr × 0.5?[2J" in draw(picture, 100, 12).lines()[0]


# the widget


class Shown(App[None]):
    def __init__(self) -> None:
        super().__init__()
        self.steps: list[float | None] = []

    def get_theme_variable_defaults(self) -> dict[str, str]:
        return theme.DEFAULTS

    def compose(self) -> ComposeResult:
        yield LossChart()

    def on_loss_chart_cursor_moved(self, message: LossChart.CursorMoved) -> None:
        self.steps.append(message.step)


def screen(chart: LossChart) -> list[str]:
    return [chart.render_line(y).text for y in range(chart.size.height)]


async def feed(pilot: Pilot[None], count: int = 1000, start: int = 0) -> LossChart:
    chart = pilot.app.query_one(LossChart)
    steps = np.arange(start + 1, start + count + 1)
    chart.append(steps, steps * 100, steps * 0.5, 1.5 + 3 * np.exp(-steps / 150))
    chart.focus()
    await pilot.pause()
    return chart


async def test_before_the_first_point_it_says_what_to_expect() -> None:
    async with Shown().run_test(size=(80, 24)) as pilot:
        chart = pilot.app.query_one(LossChart)
        assert "the loss appears here" in "".join(screen(chart))
        chart.empty_text = "preparing [bold]data"
        await pilot.pause()
        assert "preparing [bold]data" in "".join(screen(chart))


async def test_new_points_repaint_only_rows_that_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Shown().run_test(size=(80, 24)) as pilot:
        chart = await feed(pilot, 910)
        before, asked = screen(chart), []
        monkeypatch.setattr(chart, "refresh", lambda *areas, **options: asked.extend(areas))
        steps = np.arange(911, 961)
        chart.append(steps, steps * 100, steps * 0.5, np.full(50, 1.55))
        await pilot.pause()
        changed = {y for y, (old, new) in enumerate(zip(before, screen(chart), strict=True)) if old != new}
        assert {area.y for area in asked} == changed
        assert 0 < len(changed) < 5
        assert all(isinstance(area, Region) and area.height == 1 for area in asked)


async def test_calls_of_one_turn_are_drawn_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async with Shown().run_test(size=(80, 24)) as pilot:
        chart = await feed(pilot)
        drawn, draw_once = [], chart._draw

        def draw_and_count() -> Canvas:
            drawn.append(1)
            return draw_once()

        monkeypatch.setattr(chart, "_draw", draw_and_count)
        chart.append(1001, 1, 1, 1.5)
        chart.add_validation(1001, 1.6)
        chart.add_mark(1001, "saved")
        chart.log_y = True
        await pilot.pause()
        assert len(drawn) == 1


async def test_it_fits_whatever_the_size_becomes() -> None:
    async with Shown().run_test(size=(80, 24)) as pilot:
        chart = await feed(pilot)
        for size in ((200, 60), (30, 8), (10, 3), (80, 24)):
            await pilot.resize_terminal(*size)
            await pilot.pause()
            assert {len(line) for line in screen(chart)} == {size[0]}
        assert "train" in screen(chart)[0]


async def test_zoom_keeps_the_crosshair_where_it_is() -> None:
    async with Shown().run_test(size=(107, 24)) as pilot:
        chart = await feed(pilot)
        chart.cursor = 400.0
        await pilot.pause()
        column = screen(chart)[-2].rindex("●")
        for factor in (0.5, 0.5, 2.0):
            chart.action_zoom(factor)
            await pilot.pause()
            assert screen(chart)[-2].rindex("●") == pytest.approx(column, abs=1)
            assert chart.cursor == 400.0
        assert chart.window is not None
        chart.action_reset_view()
        assert chart.window is None


async def test_pan_stops_at_both_ends() -> None:
    async with Shown().run_test(size=(80, 24)) as pilot:
        chart = await feed(pilot)
        chart.action_zoom(0.25)
        for _ in range(30):
            chart.action_pan(-0.25)
        assert chart.window == pytest.approx((0, 250))
        for _ in range(30):
            chart.action_pan(0.25)
        assert chart.window == pytest.approx((750, 1000))


async def test_a_window_with_the_newest_point_goes_along_and_another_stays() -> None:
    async with Shown().run_test(size=(80, 24)) as pilot:
        chart = await feed(pilot)
        chart.action_zoom(0.25)
        await feed(pilot, 50, 1000)
        assert chart.window is not None
        assert chart.window[1] >= 1050
        assert np.ptp(chart.window) == pytest.approx(250)
        chart.window = (100, 200)
        await feed(pilot, 50, 1050)
        assert chart.window == (100, 200)


async def test_the_points_of_a_run_that_are_read_again_leave_the_view_as_it_is() -> None:
    async with Shown().run_test(size=(80, 24)) as pilot:
        chart = await feed(pilot)
        chart.window, chart.cursor = (0.0, 100.0), 50.0
        chart.clear(keep_view=True)
        await feed(pilot, 1050)
        assert (chart.window, chart.cursor) == ((0.0, 100.0), 50.0)
        chart.window = (800.0, 1050.0)
        chart.clear(keep_view=True)
        await feed(pilot, 1100)
        assert chart.window[1] >= 1100, "it shows the newest point"
        chart.clear()
        assert [chart.window, chart.cursor] == [None, None]


async def test_the_crosshair_moves_over_recorded_points_and_tells_of_it() -> None:
    app = Shown()
    async with app.run_test(size=(80, 24)) as pilot:
        chart = app.query_one(LossChart)
        chart.append([100, 200, 900], [1, 2, 9], [1, 2, 9], [4.0, 3.0, 2.0])
        for columns in (-1, -1, -1, -1, 1):
            chart.action_move_cursor(columns)
            await pilot.pause()
        for act in (chart.action_cursor_end, chart.action_cursor_start, chart.action_hide_cursor):
            act()
            await pilot.pause()
        # the first move puts it on the newest point; the fourth finds it at the first already
        assert app.steps == [900, 200, 100, 200, 900, 100, None]


async def test_the_crosshair_takes_the_window_along() -> None:
    async with Shown().run_test(size=(80, 24)) as pilot:
        chart = await feed(pilot)
        chart.window = (400.0, 500.0)
        chart.action_cursor_start()
        assert chart.window == pytest.approx((1, 101))
        chart.action_cursor_end()
        assert chart.window == pytest.approx((900, 1000))


async def test_the_window_shows_the_same_points_on_another_axis() -> None:
    async with Shown().run_test(size=(80, 24)) as pilot:
        chart = await feed(pilot)
        chart.window, chart.cursor = (200.0, 400.0), 300.0
        chart.action_next_x_axis()
        assert (chart.x_axis, chart.window) == ("tokens", (20_000.0, 40_000.0))
        chart.action_next_x_axis()
        assert (chart.x_axis, chart.window) == ("time", (100.0, 200.0))
        await pilot.pause()
        assert "step 300  2:30" in screen(chart)[0]
        chart.action_next_x_axis()
        assert (chart.x_axis, chart.window) == ("step", (200.0, 400.0))


TEXT = TextSize(tokens=100, characters=200, bytes=400)


def test_losses_of_a_curve_are_converted_as_one_is() -> None:
    losses = np.array([0.5, 2.0])
    for unit in UNITS:
        assert in_unit(losses, unit, TEXT).tolist() == pytest.approx([convert(loss, unit, TEXT) for loss in (0.5, 2.0)])
    assert np.isnan(in_unit(losses, "bits per byte", None)).all()


async def test_the_unit_converts_curve_validation_and_uniform_guess() -> None:
    """Of 4 nats a token with 4 bytes: e^4 = 54.6, 4 / 2 / ln 2 = 2.885 bits a character, half of it a byte."""
    async with Shown().run_test(size=(80, 24)) as pilot:
        chart = pilot.app.query_one(LossChart)
        chart.append([100, 200], [1, 2], [1, 2], [4.0, 4.0])
        chart.add_validation([200], [4.0])
        chart.uniform, chart.cursor = math.log(256), 200.0
        chart.describe(TEXT, 0)
        for unit, shown in zip(UNITS, ("4.000", "54.598", "2.885", "1.443"), strict=True):
            assert chart.unit == unit
            await pilot.pause()
            head = screen(chart)[0]
            assert f"train  {shown}" in head or f"train {shown}" in head, head
            assert f"validation  {shown}" in head or f"validation {shown}" in head, head
            chart.action_next_unit()
        chart.cursor, chart.unit = None, "bits per byte"
        await pilot.pause()
        assert screen(chart)[0].startswith("bits per byte  ")
        assert "uniform guess 2.00" in screen(chart)[0]  # ln 256 = 8 bits a token of 4 bytes


async def test_a_run_without_the_size_of_its_text_is_shown_in_the_units_that_are_known() -> None:
    async with Shown().run_test(size=(80, 24)) as pilot:
        chart = await feed(pilot)
        chart.unit = "bits per byte"
        seen = [chart.shown_unit]
        for _ in range(2):
            chart.action_next_unit()
            seen.append(chart.unit)
        assert seen == ["loss", "perplexity", "loss"]
        chart.set_overlay("newer", [1, 1000], [1, 1000], [1, 1000], [4.0, 2.0], text=TEXT)
        chart.uniform, chart.unit, chart.x_axis = math.log(65), "bits per byte", "tokens"
        chart.add_mark(900, "saved")
        await pilot.pause()
        assert not len(chart.picture.curve)
        assert len(chart.picture.overlays["newer"]) == 2
        lines = screen(chart)
        assert "uniform guess" not in lines[0], "which is not known in this unit either"
        assert GLYPHS["braille"].saved not in "".join(lines), "a mark has no place without its run"


async def test_the_axis_of_flops_is_tokens_times_flops_per_token_and_only_where_they_are_known() -> None:
    async with Shown().run_test(size=(80, 24)) as pilot:
        chart = await feed(pilot)  # 100 tokens a step
        chart.describe(None, 6_000)
        seen = []
        for _ in range(4):
            chart.action_next_x_axis()
            seen.append(chart.x_axis)
        assert seen == ["tokens", "time", "flops", "step"]
        chart.x_axis, chart.cursor = "flops", 300.0
        await pilot.pause()
        lines = screen(chart)
        assert "step 300  1.80e8" in lines[0]  # 300 · 100 · 6,000
        assert lines[-1].rstrip().endswith("FLOPs")
        assert "4e8" in lines[-1]
        await feed(pilot, 100, 1000)  # points that come later have them too
        assert chart.picture.curve.newest("flops") == 1100 * 100 * 6_000
        chart.describe(None, 0)
        assert chart.x_axis == "step"


async def test_without_the_run_that_has_flops_the_axis_is_steps_again() -> None:
    async with Shown().run_test(size=(80, 24)) as pilot:
        chart = await feed(pilot)
        chart.set_overlay("newer", [1, 1000], [1, 1000], [1, 1000], [4.0, 2.0], flops_per_token=6_000)
        chart.x_axis = "flops"
        chart.remove_overlay("newer")
        assert chart.x_axis == "step"
        chart.action_next_x_axis()
        assert chart.x_axis == "tokens"


async def test_actions_switch_log_y_raw_and_smoothing() -> None:
    async with Shown().run_test(size=(80, 24)) as pilot:
        chart = await feed(pilot)
        chart.action_toggle_log_y()
        chart.action_toggle_raw()
        chart.action_next_smoothing()
        await pilot.pause()
        assert (chart.log_y, chart.show_raw, chart.smoothing) == (True, False, 0.99)
        assert "log" in screen(chart)[0]
        assert "raw" not in screen(chart)[0]
        assert "EMA 0.99" in screen(chart)[0]


async def test_the_mouse_points_zooms_and_drags() -> None:
    app = Shown()
    async with app.run_test(size=(107, 24)) as pilot:
        chart = await feed(pilot)
        await pilot.hover(LossChart, offset=(57, 10))
        await pilot.pause()
        assert app.steps
        assert app.steps[-1] == pytest.approx(505, abs=6)
        assert chart.cursor is None
        await pilot.click(LossChart, offset=(57, 10))
        assert chart.cursor == app.steps[-1]
        chart.window = (400.0, 600.0)
        await pilot.mouse_down(LossChart, offset=(57, 10))
        await pilot.hover(LossChart, offset=(77, 10))
        await pilot.mouse_up(LossChart, offset=(77, 10))
        assert chart.window == pytest.approx((360, 560))


async def test_clearing_removes_points_validation_and_marks() -> None:
    async with Shown().run_test(size=(80, 24)) as pilot:
        chart = await feed(pilot)
        chart.add_validation([200, 900], [2.0, 1.6])
        chart.add_mark(900, "best")
        chart.clear()
        assert (len(chart.picture.curve), chart.picture.validation[0].tolist(), list(chart.picture.marks)) == (
            0,
            [],
            [],
        )
        await pilot.pause()
        assert "appears here" in "".join(screen(chart))


async def test_other_runs_are_drawn_without_a_run_of_its_own() -> None:
    async with Shown().run_test(size=(80, 24)) as pilot:
        chart = pilot.app.query_one(LossChart)
        chart.set_overlay("first", [1, 2, 3], [1, 2, 3], [1, 2, 3], [4.0, 3.0, 2.0])
        chart.set_overlay("second", [1, 2, 3], [1, 2, 3], [1, 2, 3], [4.0, 2.0, 1.0])
        await pilot.pause()
        assert chart.overlays == ["first", "second"]
        assert "first" in screen(chart)[0]
        chart.remove_overlay("first")
        await pilot.pause()
        assert "first" not in screen(chart)[0]


async def test_points_are_drawn_once_there_is_something_to_see_or_when_the_run_rests(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with Shown().run_test(size=(80, 20)) as pilot:
        chart = pilot.app.query_one(LossChart)
        steps = np.arange(1, 10_001)
        chart.append(steps, steps, steps, 2 + np.cos(steps / 500))
        await pilot.pause()
        drawn: list[float] = []
        redraw = chart._redraw

        def redraw_and_count() -> None:
            drawn.append(len(chart._curve))
            redraw()

        monkeypatch.setattr(chart, "_redraw", redraw_and_count)
        for step in range(10_001, 10_021):
            chart.append(step, step, step, 9.0)
            await pilot.pause()
        assert drawn == []
        chart.flush()
        await pilot.pause()
        assert drawn == [10_020]
        for step in range(10_021, 10_400):
            chart.append(step, step, step, 9.0)
        await pilot.pause()
        assert drawn == [10_020, 10_399]


def test_a_long_curve_that_is_appended_at_once_is_the_one_that_grew(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(curve_module, "TOGETHER", 7)
    steps = np.array([1, 2, 3, 3, *range(4, 40)], float)  # a step that was recorded twice
    losses = np.cos(steps)
    losses[20] = np.inf
    at_once, grown = Curve(0.9), Curve(0.9)
    at_once.append(steps, 8 * steps, steps / 2, losses)
    grown.append(steps[:4], 8 * steps[:4], steps[:4] / 2, losses[:4])
    for step, loss in zip(steps[4:], losses[4:], strict=True):
        grown.append(step, 8 * step, step / 2, loss)
    assert len(at_once) == len(steps)
    for name in FIELDS:
        np.testing.assert_allclose(at_once.field(name), grown.field(name), err_msg=name)
    shuffled = Curve(0.9)
    shuffled.append(steps[::-1], 8 * steps[::-1], steps[::-1] / 2, losses[::-1])
    assert shuffled.field("step").tolist() == steps.tolist()
