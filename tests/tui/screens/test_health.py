"""The Health screen: its heat map from made-up measurements, and the screen over a real run."""

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nanogpt.events import LayerHealth
from nanogpt.runs.thinned import MAX_ITEMS
from nanogpt_tui.screens.health.heat_map import (
    FIGURES,
    axis,
    column_of,
    columns_of,
    histogram_lines,
    label,
    shaded,
    table,
)
from nanogpt_tui.widgets.canvas import GLYPHS

BY_TITLE = {figure.title: figure for figure in FIGURES}


def measured(step: int, **changes: Any) -> LayerHealth:
    nothing: tuple[None, ...] = (None, None)
    figures: dict[str, Any] = {
        "layers": ("h.0.attn", "h.1.attn"),
        "gradient_norm": (1.0, 0.001),
        "weight_norm": (1.0, 1.0),
        "update_ratio": (-3.0, None),
        "dead_units": (0.0, 0.5),
        "activation_mean": nothing,
        "activation_std": nothing,
        "activation_kurtosis": nothing,
        "attention_entropy": ((1.0, 0.5), ()),
        "histograms": ((), (0, 1, 4, 2)),
        "clipped": None,
    }
    return LayerHealth(step=step, **figures | changes)


def test_a_table_has_a_row_for_each_layer_and_a_column_for_each_measurement() -> None:
    events = [measured(1), measured(50, dead_units=(0.25, None))]
    values = table(events, BY_TITLE["dead units"])
    assert values[0].tolist() == [0.0, 0.25]
    assert values[1][0] == 0.5
    assert math.isnan(values[1][1])
    assert table(events, BY_TITLE["attention entropy"])[0].tolist() == [0.75, 0.75]


def test_measurements_of_other_layers_are_unknown() -> None:
    values = table([measured(1, layers=("a", "b")), measured(2)], BY_TITLE["weight norm"])
    assert np.isnan(values[:, 0]).all()
    assert values[:, 1].tolist() == [1.0, 1.0]


def test_many_measurements_are_means_and_few_are_wide() -> None:
    assert columns_of(np.array([[1.0, 3.0, np.nan, 5.0]]), 2).tolist() == [[2.0, 5.0]]
    assert columns_of(np.array([[1.0, 2.0]]), 5).tolist() == [[1.0, 1.0, 2.0, 2.0]]


@pytest.mark.parametrize(("ascii_only", "expected"), [(False, ["█▓", " ░"]), (True, ["@+", " ."])])
def test_all_rows_share_a_scale_and_a_figure_of_magnitudes_is_shaded_by_its_logarithm(
    ascii_only: bool, expected: list[str]
) -> None:
    lines, (low, high) = shaded(np.array([[100.0, 10.0], [np.nan, 1.0]]), BY_TITLE["gradient norm"], ascii_only)
    assert lines == expected
    assert (low, high) == pytest.approx((1.0, 100.0))


def test_a_measurement_is_pointed_at_in_the_column_that_shows_it() -> None:
    for count, width in ((3, 10), (5, 5), (7, 3), (100, 9)):
        values = np.arange(count, dtype=float)[None]
        columns = columns_of(values, width)[0]
        for at in range(count):
            column = column_of(at, count, width)
            nearest = np.abs(columns - at).min()  # of several that share a column, the mean is shown
            assert abs(columns[column] - at) <= max(nearest, count / width)
    assert axis("step 1", "900", "▲ 50", None, 20) == "step 1           900"
    assert axis("step 1", "900", "▲ 50", 9, 20) == "step 1   ▲ 50    900"
    assert axis("step 1", "900", "▲ 50", 3, 20) == "   ▲ 50          900"
    assert axis("step 1", "900", "▲ 50", 14, 20) == "step 1        ▲ 50  "
    assert axis("step 1", "900", "▲ 50", 19, 20) == "step 1          ▲ 50"


def test_nothing_known_is_blank() -> None:
    lines, limits = shaded(np.full((2, 3), np.nan), FIGURES[0], False)
    assert lines == ["   ", "   "]
    assert all(map(math.isnan, limits))


def test_a_histogram_is_two_rows_high_and_shows_every_bin_that_is_not_empty() -> None:
    top, bottom = histogram_lines((0, 1, 100, 50), 4, " ▁▂▃▄▅▆▇█")
    assert bottom == " ▁██"
    assert top == "  █ "
    assert histogram_lines((), 4, " #") == []
    # four rows of eight heights: 100 fills 32 of them, 50 half, and 1 is drawn at least
    assert histogram_lines((0, 1, 100, 50), 4, " ▁▂▃▄▅▆▇█", 4) == ["  █ ", "  █ ", "  ██", " ▁██"]


def test_a_long_name_keeps_its_end() -> None:
    assert label("model.blocks.11.feed_forward.mlp").endswith("feed_forward.mlp")
    assert len(label("model.blocks.11.feed_forward.mlp")) == 22
    assert "\x1b" not in label("\x1b[31mh.0")


async def test_the_layers_of_a_run_and_its_problems(lab: Any, two_runs: Any) -> None:
    async with lab() as at:
        await at.app.switch_mode("train")
        await at.until(lambda: at.session.history and at.session.history.layer_health)
        await at.press("h")
        await at.sees("> wte", "h.0.attn", "no problem in any layer", "log10 of the size of an update")
        await at.press("down", "right")
        await at.sees("0 means that the layer does not learn")
        layers = at.session.history.layer_health[-1].layers
        await at.sees(f"> {layers[1]}")
        history, problem = at.session.history, "h.0.mlp: dead units: [bold]half[/bold] (try GELU)"
        history._event_state = replace(history.run_state, problems=(problem,))
        at.app.screen.training_changed()
        await at.sees(f"! {problem}")
        await at.press("escape")
        await at.until(lambda: len(at.app.screen_stack) == 1)


async def test_the_newest_of_many_measurements_is_always_shown(lab: Any, two_runs: Any) -> None:
    async with lab() as at:
        await at.app.switch_mode("train")
        await at.until(lambda: at.session.history and at.session.history.reading is None)
        await at.press("h", "down", "down")
        history = at.session.history
        newest = history.layer_health[-1]

        def add(count: int) -> None:
            nonlocal newest
            for _ in range(count):
                newest = replace(newest, step=newest.step + 1)
                history.add(newest)
            at.app.screen.training_changed()

        add(MAX_ITEMS + 1)
        for _ in range(3):  # every second one replaces the one before
            add(1)
            await at.sees(f"output at step {newest.step:,}")


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_the_histogram_of_a_layer_moves_with_the_step(lab: Any, two_runs: Any, size: tuple[int, int]) -> None:
    async with lab(size=size) as at:
        await at.app.switch_mode("train")
        await at.until(lambda: at.session.history and at.session.history.layer_health)
        await at.press("h", "down", "down")
        events = at.session.history.layer_health
        assert len(events) > 2
        rows = 6 if size == (120, 40) else 2

        def shape(event: LayerHealth) -> list[str]:
            return histogram_lines(event.histograms[2], 48, GLYPHS["braille"].bars, rows)

        await at.sees(f"output at step {events[-1].step:,}", *shape(events[-1]))
        await at.press("[")
        await at.sees(f"output at step {events[-2].step:,}", f"▲ {events[-2].step:,}", *shape(events[-2]))
        await at.press("home")
        await at.sees(f"output at step {events[0].step:,}", *shape(events[0]))
        await at.press("end")
        await at.sees(f"output at step {events[-1].step:,}")
        assert "▲" not in at.seen()


def test_figures_that_a_record_of_another_program_lacks_are_unknown() -> None:
    values = table([measured(1), measured(2, dead_units=(0.25,))], BY_TITLE["dead units"])
    assert values[0].tolist() == [0.0, 0.25]
    assert math.isnan(values[1][1])
    assert table([measured(1, weight_norm=(1.0, 1.0, 1.0))], BY_TITLE["weight norm"]).shape == (2, 1)
