"""The frame around the screens: modes, help, palette, themes, sizes, leaving."""

import errno
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from textual.containers import VerticalScroll
from textual.widgets import Input

from nanogpt.runs import checkpoints
from nanogpt_tui import screens, theme
from nanogpt_tui.app import LabApp
from nanogpt_tui.palette_commands import screen_commands
from nanogpt_tui.settings import Settings
from nanogpt_tui.widgets.dialog import Ask
from nanogpt_tui.widgets.help import Help
from tests.tui.conftest import Lab

LONG = {"max_iters": 100_000, "eval_interval": 50_000, "sample_interval": 0}


async def test_each_number_key_shows_its_screen(lab: Any) -> None:
    async with lab() as at:
        for mode, (key, title) in screens.MODES.items():
            await at.press(key)
            assert at.app.current_mode == mode
            assert type(at.app.screen).__name__ == f"{title}Screen"


async def test_a_mode_is_chosen_with_the_mouse_too(lab: Any) -> None:
    async with lab() as at:
        await at.sees("Runs")
        await at.pilot.click("Header", offset=(at.seen().splitlines()[0].index("Runs"), 0))
        await at.until(lambda: at.app.current_mode == "runs")


async def test_question_mark_explains_the_figure_in_focus_or_under_the_mouse(lab: Any) -> None:
    async with lab() as at:
        await at.press("g")
        await at.until(lambda: at.session.history and at.session.history.phase == "finished")
        at.app.screen.run_view.figures.focus()
        await at.press(*["down"] * 10)  # from step to MFU
        await at.press("question_mark")
        assert isinstance(at.app.screen, Help)
        await at.sees("Model FLOPs utilization")
        await at.press("escape")
        assert not isinstance(at.app.screen, Help)
        at.app.screen.set_focus(None)
        await at.sees("grad norm")
        lines = at.seen().splitlines()
        row = next(y for y, line in enumerate(lines) if "grad norm" in line)
        await at.pilot.hover(offset=(lines[row].index("grad norm"), row))
        await at.press("question_mark")
        await at.sees("gradient norm")


async def test_help_shows_the_keys_and_searches_the_glossary(lab: Any) -> None:
    async with lab() as at:
        await at.press("question_mark")
        await at.sees("Train a small model for a minute")
        await at.paste("perplexity")
        await at.sees("perplexity = exp(loss)")


async def test_the_help_is_scrolled_from_its_search_field(lab: Any) -> None:
    async with lab(size=(80, 24)) as at:
        await at.press("3", "question_mark")
        text = at.app.screen.query_one(VerticalScroll)
        await at.until(lambda: text.max_scroll_y > 2)
        places = {}
        for key in ("down", "end", "up", "home", "pagedown", "pageup"):
            await at.press(key)
            places[key] = text.scroll_offset.y
        last = text.max_scroll_y
        page = places.pop("pagedown")
        assert places == {"down": 1, "end": last, "up": last - 1, "home": 0, "pageup": 0}
        assert page > 2


async def test_a_second_question_mark_closes_the_help_and_is_no_word_to_search_for(lab: Any) -> None:
    async with lab() as at:
        await at.press("question_mark")
        await at.until(lambda: isinstance(at.app.focused, Input))
        await at.press("?")
        await at.until(lambda: not isinstance(at.app.screen, Help))


async def test_what_is_said_of_a_key_stays_in_its_column(lab: Any) -> None:
    async with lab(size=(80, 24)) as at:
        at.app.push_screen(Help("", {"view": [("x", "again " * 20)]}, mouse=""))
        await at.until(lambda: at.seen().count("again") == 20)
        starts = [line.index("again") for line in at.seen().splitlines() if "again" in line]
        assert len(starts) > 1
        assert len(set(starts)) == 1


async def test_the_palette_has_the_screens_and_the_keys_of_this_one(lab: Any) -> None:
    async with lab() as at:
        commands = {command.title for command in screen_commands(at.app, at.app.screen)}
        assert {"Data", "Train", "Sample", "Runs", "Quick start", "Quit", "Theme: light"} <= commands


async def test_a_command_of_the_palette_does_what_its_key_does(lab: Any) -> None:
    async with lab() as at:
        await at.press("ctrl+p")
        await at.paste("quick start")
        await at.until(lambda: "Quick start" in at.seen())
        await at.press("enter")
        await at.until(lambda: at.session.history is not None)


async def test_the_quick_start_is_a_command_of_every_screen_and_makes_a_run_of_a_new_name(lab: Any) -> None:
    async with lab(max_iters=2) as at:
        await at.press("g")
        await at.until(lambda: at.session.history is not None and at.session.history.phase == "finished")
        await at.until(lambda: not at.session.is_training)
        await at.press("4")
        await at.sees("quickstart")
        commands = {each.title: each for each in screen_commands(at.app, at.app.screen)}
        at.app.call_later(commands["Quick start"].run)
        await at.sees("Train a small model for a minute, as a new run?")
        assert at.session.history.run == "quickstart"
        await at.press("enter")
        await at.until(lambda: at.session.history.run == "quickstart-2")


async def test_a_key_in_the_last_line_can_be_clicked(lab: Any) -> None:
    async with lab() as at:
        await at.until(lambda: "quick start" in at.seen().splitlines()[-1])
        await at.pilot.click("KeyBar", offset=(at.seen().splitlines()[-1].index("quick start"), 0))
        await at.until(lambda: at.session.history is not None)


async def test_a_key_of_the_focused_widget_can_be_clicked_too(lab: Any) -> None:
    async with lab() as at:
        await at.press("3", "i")
        await at.until(lambda: "leave" in at.seen().splitlines()[-1])
        prompt = at.app.focused
        await at.pilot.click("KeyBar", offset=(at.seen().splitlines()[-1].index("leave"), 0))
        await at.until(lambda: at.app.focused is not prompt)


async def test_a_remapped_key_does_what_the_old_one_did(rhymes: dict[str, Any]) -> None:
    app = LabApp(Settings(quickstart=rhymes, keymap={"train.quick_start": "f5"}))
    async with app.run_test() as pilot:
        at = Lab(app, pilot)
        await at.press("g")
        assert (at.session.answering, at.session.history) == (0, None)
        await at.press("f5")
        await at.until(lambda: at.session.history is not None)
    app.session.close()


async def test_the_theme_without_colours_of_its_own_draws_every_screen(rhymes: dict[str, Any], two_runs: Path) -> None:
    """The snapshots have the others."""
    app = LabApp(Settings(theme="ansi", quickstart=rhymes))
    async with app.run_test(size=(100, 30)) as pilot:
        at: Any = Lab(app, pilot)
        for key, title in screens.MODES.values():
            await at.press(key)
            assert type(at.app.screen).__name__ == f"{title}Screen"
            await at.until(lambda: not at.app.screen.is_reading)
            assert title in at.seen()  # which draws the screen
        assert app.theme == theme.NAMES["ansi"]
    app.session.close()


async def test_quitting_while_training_asks_and_escape_stays(lab: Any) -> None:
    async with lab(**LONG) as at:
        await at.press("g")
        await at.until(lambda: at.session.history and at.session.history.step > 3)
        await at.press("q")
        await at.until(lambda: isinstance(at.app.screen, Ask))
        await at.press("escape")
        assert at.session.is_training
        await at.press("q", "s")
        await at.until(lambda: not at.app.is_running)
        assert at.session.history.saves[-1].step == at.session.history.step


async def test_the_question_while_training_names_the_other_work_that_is_lost(
    lab: Any, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with lab(**LONG) as at:
        await at.press("g")
        await at.until(lambda: at.session.history and at.session.history.step > 3)
        request.getfixturevalue("slow_server")  # now: the training has its data
        worker = at.session.prepare("rhymes", lambda: None)
        await at.press("q")
        await at.sees("A run is training. A data set is being prepared.")
        await at.press("escape")
        monkeypatch.setattr(type(at.session), "is_starting", True)
        await at.press("q")
        await at.sees("A training process is still starting. A data set is being")  # and the rest on the next line
        worker.cancel()


async def test_the_app_stays_and_says_why_if_the_checkpoint_cannot_be_saved(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> Path:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    async with lab(**LONG) as at:
        await at.press("g")
        await at.until(lambda: at.session.history and at.session.history.step > 3)
        monkeypatch.setattr(checkpoints, "write", fail)
        await at.press("q", "s")
        await at.until(lambda: not at.session.is_training)
        await at.until(lambda: any("no checkpoint can be saved" in toast.message for toast in at.app._notifications))
        assert at.app.is_running
        await at.press("q")
        await at.until(lambda: not at.app.is_running)


async def test_quitting_ends_a_run_that_prepares_its_data(lab: Any, slow_server: None) -> None:
    async with lab() as at:
        await at.press("g")
        await at.until(lambda: at.session.history is not None and at.session.history.preparing)
        await at.press("q", "x")
        await at.until(lambda: not at.app.is_running)


async def test_quitting_with_nothing_to_lose_does_not_ask(lab: Any) -> None:
    async with lab() as at:
        await at.press("q")
        await at.until(lambda: not at.app.is_running)
        assert at.app.return_value == 0


def test_the_app_starts_without_torch_and_numpy() -> None:
    script = """
import asyncio, sys
from nanogpt_tui.app import LabApp
from nanogpt_tui.palette_commands import screen_commands
from nanogpt_tui.settings import Settings
async def main():
    app = LabApp(Settings())
    async with app.run_test() as pilot:
        await pilot.pause()
        print(sorted({"torch", "numpy"} & set(sys.modules)))
asyncio.run(main())
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout.strip() == "[]", done.stderr


async def test_quitting_while_a_data_set_is_prepared_asks(lab: Any, slow_server: None) -> None:
    async with lab() as at:
        worker = at.session.prepare("rhymes", lambda: None)
        await at.press("q")
        await at.sees("A data set is being prepared.", "quit, losing what is not saved")
        await at.press("escape")
        assert at.app.is_running
        await at.press("q", "x")
        await at.until(lambda: not at.app.is_running)
        worker.cancel()
