"""A terminal that is too small for the screens: the training alone, and what was in front comes back as it was."""

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from textual.widgets import Input

from nanogpt.training import Save
from nanogpt_tui.screens.runs import run_table
from nanogpt_tui.screens.train.compact import FULL_SIZE, MIN_SIZE, CompactScreen, CompactView, fits
from nanogpt_tui.widgets.dialog import Ask
from nanogpt_tui.widgets.sparkline import curve


@pytest.fixture(autouse=True)
def no_time_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run_table, "age", lambda seconds: "1 d")


SLOW = {"max_iters": 1_000_000, "eval_interval": 500_000, "eval_iters": 1, "sample_interval": 0, "compile": "false"}


async def resize(at: Any, columns: int, rows: int) -> None:
    """The terminal gets that size, and the app has painted for it."""
    await at.pilot.resize_terminal(columns, rows)
    await at.until(lambda: at.app.size == (columns, rows) and at.app.screen.size == (columns, rows))


async def for_a_moment_too_small(at: Any, size: tuple[int, int], keys: str = "") -> None:
    """The terminal gets `size`, and large again; `keys` are pressed meanwhile."""
    before = at.app.size
    await resize(at, *size)
    await at.until(lambda: isinstance(at.app.screen, CompactScreen))
    await at.press(*keys)
    await resize(at, *before)
    await at.until(lambda: not isinstance(at.app.screen, CompactScreen))


def left_side(at: Any) -> list[str]:
    """What the screen shows, without the estimate at the right of the form, which comes when it is measured."""
    return [line[:48] for line in at.seen().splitlines()]


@pytest.mark.parametrize("mode", ["1", "3", "4", "n"])
async def test_the_same_widget_has_the_focus_again(lab: Any, two_runs: Path, mode: str) -> None:
    async with lab(size=(80, 24)) as at:
        await at.until(lambda: at.session.discovered)
        await at.press(mode)
        if mode == "3":
            await at.press("i")
        await at.until(lambda: at.app.focused is not None)
        if mode == "n":
            await at.press("tab")
        if mode == "4":
            await at.sees("◆ validation")  # the chart, which is read in a thread
        await at.until(lambda: not getattr(at.app.screen, "is_reading", False))
        held, seen = at.app.focused, left_side(at)
        for size in ((79, 24), (10, 3)):
            await for_a_moment_too_small(at, size)
            assert at.app.focused is held
            await at.until(lambda: left_side(at) == seen)


async def test_what_is_typed_goes_into_the_prompt_again(lab: Any, two_runs: Path) -> None:
    async with lab(size=(80, 24)) as at:
        await at.press("3", "i")
        await at.until(lambda: at.app.focused is not None)
        await at.press(*"Hel")
        knobs = at.app.screen.knobs
        await for_a_moment_too_small(at, (79, 24))
        await at.press(*"kTq")
        assert at.app.focused.text == "HelkTq"
        assert at.app.screen.knobs == knobs
        await for_a_moment_too_small(at, (39, 9), keys="qxs1n?")  # where nothing is to be seen, nothing is done
        await resize(at, 60, 15)
        await at.press("q")
        await at.sees("Quit?")  # a text is being written
        await at.press("escape")
        await resize(at, 80, 24)
        await at.press("!")
        await at.until(lambda: at.app.focused.text == "HelkTq!")


async def test_a_question_in_front_is_asked_again_and_a_size_beside_it_is_none_of_its_own(
    lab: Any, rhymes: dict[str, Any]
) -> None:
    async with lab(size=(120, 40), **SLOW) as at:
        await at.press("g")
        await at.until(lambda: at.session.can_send and at.session.history.phase == "training")
        await at.press("m")
        await at.until(lambda: isinstance(at.app.focused, Input))
        asked = at.app.focused
        await for_a_moment_too_small(at, (50, 12))
        assert at.app.focused is asked
        await resize(at, 90, 30)  # the screen below has another layout by now
        await at.press("escape")
        await at.until(lambda: at.app.screen.has_class("-narrow") and at.app.screen.has_class("-short"))


async def test_a_command_that_is_written_after_the_terminal_has_grown_updates_nothing(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab(size=(60, 15)) as at:
        await at.until(lambda: isinstance(at.app.screen, CompactScreen))
        small = at.app.screen
        written: list[Callable[[str], None]] = []
        monkeypatch.setattr(at.session, "post", lambda command, then: written.append(then))
        small.send(Save())
        await resize(at, 120, 40)
        await at.until(lambda: not small.query(CompactView))
        written[0]("")


@pytest.mark.parametrize("size", [(40, 10), (200, 12), (50, 60)])
async def test_the_training_is_seen_and_steered_in_a_small_terminal(lab: Any, size: tuple[int, int]) -> None:
    async with lab(size=size, **SLOW) as at:
        await at.sees("Nothing has been trained here yet.", "quick start")
        await at.press("g")
        await at.until(lambda: at.session.can_send and at.session.history.last is not None)
        await at.sees("quickstart", "training", "step", "loss", "tokens/s", "ETA", "space pause", "s save", "x stop")
        await at.until(lambda: len(at.session.history) > 20)
        await at.until(lambda: any("\u2800" < char < "\u2900" for char in at.seen()))
        assert all(len(line) == size[0] for line in at.seen().splitlines())
        await at.press("space")
        await at.sees("paused")
        await at.press("s")
        await at.until(lambda: at.session.history.saves)
        await at.press("x")
        await at.until(lambda: isinstance(at.app.screen, Ask))
        await at.sees("checkpoint and stop", "stop now, losing", "escape")  # the whole question
        await at.press("s")
        await at.until(lambda: at.session.history.phase == "stopped")
        await at.sees("stopped", "r resume", "q quit")
        for key in "1234n?":
            await at.press(key)
            assert isinstance(at.app.screen, CompactScreen)
        await at.press("q")
        await at.until(lambda: not at.app.is_running)


async def test_a_validation_loss_that_is_no_number_is_a_dash(lab: Any, two_runs: Path) -> None:
    async with lab(size=(40, 10)) as at:
        await at.until(lambda: at.session.history and at.session.history.reading is None)
        evaluations = at.session.history.evaluations
        evaluations.append(replace(evaluations[-1], val_loss=math.nan))
        at.app.screen.training_changed()
        await at.until(lambda: "val loss –" in at.seen())


async def test_below_the_least_size_one_line_says_so(lab: Any) -> None:
    async with lab(size=(39, 9)) as at:
        await at.sees("nanogpt needs 40 × 10 or more")
        assert [line.strip() for line in at.seen().splitlines() if line.strip()] == ["nanogpt needs 40 × 10 or more"]
        await at.press("g", "q")
        assert at.app.is_running
        assert (at.session.answering, at.session.history) == (0, None)


async def test_in_ascii_nothing_else_is_sent(lab: Any) -> None:
    async with lab(size=(60, 15)) as at:
        at.app.change_settings({"glyphs": "ascii"})
        await at.press("g")
        await at.until(lambda: at.session.history is not None and len(at.session.history) > 20)
        await at.until(lambda: "loss" in at.seen())
        assert at.seen().isascii()


def test_both_sides_have_to_fit() -> None:
    assert fits(FULL_SIZE, FULL_SIZE)
    assert not fits(FULL_SIZE._replace(width=79), FULL_SIZE)
    assert not fits(MIN_SIZE._replace(height=9), MIN_SIZE)


@pytest.mark.parametrize("glyphs", ["braille", "block", "ascii"])
def test_a_curve_goes_from_the_first_value_at_the_left_to_the_last_at_the_right(glyphs: str) -> None:
    falling = curve(np.linspace(3, 1, 500), 20, 4, glyphs)
    assert [len(row) for row in falling] == [20] * 4
    assert falling[0][0] != " "
    assert falling[-1][-1] != " "
    assert falling[0][10:].strip() == ""
    assert curve([np.nan], 6, 2, glyphs) == [" " * 6] * 2
    assert "".join(curve([2.0, 2.0], 6, 2, glyphs)[0]).strip()


async def test_one_key_of_each_command_is_in_the_last_line(lab: Any) -> None:
    """Quit has two, the quick start too."""
    async with lab(size=(60, 16)) as at:
        await at.until(lambda: isinstance(at.app.screen, CompactScreen))
        await at.sees("quick start", "quit")
        assert at.seen().splitlines()[-1].split() == ["⏎", "quick", "start", "q", "quit"]
