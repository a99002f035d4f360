"""The palette: every command on one line with its key, and jumps to what there is."""

import re
import threading
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, OptionList

from nanogpt.runs.state import RunState
from nanogpt_tui.app import LabApp
from nanogpt_tui.screens.new_run.fields import Field
from nanogpt_tui.screens.sample.screen import SampleScreen
from nanogpt_tui.settings import Settings
from nanogpt_tui.widgets.palette import Palette, PaletteCommand, matching
from nanogpt_tui.widgets.preferences import Preferences
from tests.narrowing import expect
from tests.tui.conftest import Lab


async def opened(at: Any) -> Palette:
    """The palette, with everything in it."""
    await at.press("ctrl+p")
    await at.until(lambda: isinstance(at.app.screen, Palette) and "esc closes" in at.seen())
    palette: Palette = at.app.screen
    return palette


async def jump(at: Any, words: str, kind: str) -> None:
    """Types, and takes the first line, which has to be of that kind."""
    palette = await opened(at)
    await at.paste(words)
    await at.until(lambda: palette.query_one(OptionList).option_count)
    first = palette.query_one(OptionList).get_option_at_index(0).prompt
    assert str(first).endswith(kind)
    await at.press("enter")
    await at.until(lambda: not isinstance(at.app.screen, Palette))


def named(*titles: str, **fields: Any) -> list[PaletteCommand]:
    return [PaletteCommand(title=title, run=lambda: None, **fields) for title in titles]


def test_what_begins_with_the_words_comes_first_then_what_has_them_in_its_name() -> None:
    commands = [*named("Quit", about="runs go on"), *named("one run"), *named("Runs"), *named("other")]
    assert [each.title for each in matching(commands, "run")] == ["Runs", "one run", "Quit"]
    assert matching(commands, " ") == commands
    assert [each.title for each in matching(commands, "RUN one")] == ["one run"]


@pytest.mark.parametrize("size", [(80, 24), (200, 60)])
async def test_each_command_is_one_line_that_ends_with_its_key(lab: Any, size: tuple[int, int]) -> None:
    async with lab(size=size) as at:
        palette = await opened(at)
        lines = [line.rstrip() for line in at.seen().splitlines()]
        runs_line = next(line for line in lines if re.search(r"^\s*Runs  ", line))
        assert re.search(r"Runs  Go to the Runs screen +4\b", runs_line)
        rows = palette.query_one(OptionList)
        assert rows.virtual_size.height == rows.option_count


async def test_what_matches_nothing_is_said_and_no_key_runs_it(lab: Any) -> None:
    async with lab() as at:
        await opened(at)
        await at.paste("[bold]zzz")
        await at.sees("nothing matches '[bold]zzz'")
        await at.press("enter")
        assert isinstance(at.app.screen, Palette)
        await at.press("escape")
        assert at.app.current_mode == "train"
        assert not isinstance(at.app.screen, Palette)


async def test_a_run_is_shown_in_runs_also_where_a_filter_hides_it(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await jump(at, "one", "run")
        await at.until(lambda: at.app.current_mode == "runs" and at.app.screen.table.current == "one")
        await at.press("/")
        await at.paste("two")
        await at.press("enter")
        await at.until(lambda: at.app.screen.table.current == "two")
        await jump(at, "one", "run")
        await at.until(lambda: at.app.screen.table.current == "one")


async def test_a_checkpoint_is_what_sample_writes_with(lab: Any, two_runs: Path) -> None:
    (two_runs / "broken" / "run.toml").mkdir(parents=True)
    async with lab() as at:
        await jump(at, "one step 40", "checkpoint")
        await at.until(lambda: at.app.current_mode == "sample")
        await at.sees("one · step 40")
        assert [source.label for source in expect(SampleScreen, at.app.screen).sources] == ["one · step 40"]


async def test_a_data_set_is_shown_in_data(lab: Any) -> None:
    async with lab() as at:
        await jump(at, "rhymes", "data set")
        await at.until(lambda: at.app.current_mode == "data" and at.app.screen.entry is not None)
        assert at.app.screen.entry.name == "rhymes"


async def test_a_setting_of_a_run_is_a_field_of_the_form_and_what_is_typed_there_stays(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One at the top, one that is shown at first, one that is shown with the others; one of a component that is not
    chosen leads to the choice."""
    monkeypatch.setattr(LabApp, "NOTIFICATION_TIMEOUT", 600)  # a busy machine may need longer than a notice stays
    async with lab() as at:

        async def field_of(name: str) -> Field:
            await jump(at, name, "setting")
            await at.until(lambda: at.app.focused)
            field = next(node for node in at.app.focused.ancestors if isinstance(node, Field))
            await at.until(lambda: field.region.y > 0 and field.region.bottom < 40)
            return field

        assert (await field_of("dataset")).name == "dataset"
        form = at.app.screen
        form.field("name").editor.value = "mine"
        for name in ("learning_rate", "beta1"):
            assert (await field_of(name)).name == name
        assert (await field_of("ngram")).name == "architecture"
        await at.sees("ngram is a setting of")  # the notice has several lines
        assert at.app.screen is form
        assert form.field("name").editor.value == "mine"


async def test_a_setting_of_the_app_is_a_line_of_its_settings(lab: Any) -> None:
    async with lab() as at:
        await jump(at, "ssh", "setting")
        await at.until(lambda: isinstance(at.app.screen, Preferences))
        options = at.app.screen.query_one(OptionList)
        assert options.get_option_at_index(options.highlighted).id == "ssh_mode"


async def test_the_palette_works_while_a_disk_is_slow_and_enter_waits_for_what_it_needs(
    lab: Any, two_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = threading.Event()
    async with lab() as at:
        there = at.session.list_runs

        def slow() -> list[RunState]:
            gate.wait(60)
            return list(there())

        await at.until(lambda: at.session.discovered)
        monkeypatch.setattr(at.session, "list_runs", slow)
        await at.press("ctrl+p")
        await at.paste("quit")
        await at.sees("Quit", "reading runs and data sets …")
        at.app.screen.query_one(Input).value = "one step 20"
        await at.press("enter")
        assert isinstance(at.app.screen, Palette)
        gate.set()
        await at.until(lambda: at.app.current_mode == "sample")
        assert [source.label for source in expect(SampleScreen, at.app.screen).sources] == ["one · step 20"]


async def test_a_highlighted_command_stays_highlighted_when_better_matches_are_read_or_the_terminal_is_resized(
    lab: Any,
) -> None:
    gate, chosen = threading.Event(), list[PaletteCommand | None]()

    def read() -> list[PaletteCommand]:
        gate.wait(60)
        return named("one")

    async with lab() as at:
        palette = Palette(at.session, named("the one", "another one"), read)
        at.app.push_screen(palette, chosen.append)
        await at.until(lambda: palette.is_whole)
        await at.paste("one")
        await at.press("down")
        gate.set()
        await at.sees("esc closes")
        rows = palette.query_one(OptionList)
        assert (rows.option_count, rows.highlighted) == (3, 2)
        await at.pilot.resize_terminal(100, 30)
        await at.press("enter")
        assert [expect(PaletteCommand, each).title for each in chosen] == ["another one"]


async def test_a_name_in_markup_is_shown_as_it_is(lab: Any, two_runs: Path) -> None:
    (two_runs / "one").rename(two_runs / "[bold]x")
    async with lab() as at:
        await opened(at)
        await at.paste("[bold]")
        await at.sees("[bold]x")


async def test_who_only_looks_is_offered_no_setting_of_a_new_run(two_runs: Path) -> None:
    app = LabApp(Settings(), watched=two_runs / "one", readonly=True)
    async with app.run_test() as pilot:
        at = Lab(app, pilot)
        await at.press("ctrl+p")
        await at.until(lambda: isinstance(app.screen, Palette) and not app.screen._reading)
        palette = expect(Palette, app.screen)
        titles = [each.title for each in palette._commands]
        assert "theme" in titles
        assert "learning_rate" not in titles
    app.session.close()
