"""Settings and keys, changed in the app: obeyed at once, and written down."""

from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, OptionList

from nanogpt_tui import theme
from nanogpt_tui.app import LabApp
from nanogpt_tui.keys import remappable
from nanogpt_tui.screens.sample.knobs import KnobRow
from nanogpt_tui.settings import Settings, load, path, save
from nanogpt_tui.widgets.chart import LossChart
from nanogpt_tui.widgets.preferences import Preferences


async def choose(at: Any, name: str) -> None:
    options = at.app.screen.query_one(OptionList)
    options.highlighted = options.get_option_index(name)
    await at.press("enter")


async def test_a_theme_is_put_on_at_once_and_written_down(lab: Any) -> None:
    async with lab() as at:
        await at.press("f2")
        await choose(at, "theme")
        assert at.app.theme == theme.NAMES["light"]
        assert at.saved().theme == "light"


async def test_a_read_only_session_says_that_it_writes_no_settings(lab: Any) -> None:
    async with lab() as at:
        at.session.readonly = True
        await at.press("f2")
        await at.sees("for this session only: it is read-only")
        assert str(path()) not in at.seen()


async def test_what_is_chosen_is_explained_whole_where_the_list_has_no_room_for_it(lab: Any) -> None:
    async with lab(size=(80, 24)) as at:
        await at.press("f2", "down", "down")
        await at.sees("auto · on · off: one repaint per second, 256 colours, no animation")
        await at.press("down")
        await at.sees("hidden · shown: bytes per second sent to the terminal, in the bottom")
        assert "no animation" not in at.seen()


async def test_ascii_glyphs_reach_what_is_already_drawn(lab: Any) -> None:
    async with lab() as at:
        await at.press("g")
        await at.until(lambda: at.session.history and at.session.history.phase == "finished")
        await at.press("f2")
        await choose(at, "glyphs")
        await choose(at, "glyphs")
        await at.press("escape")
        assert at.saved().glyphs == "ascii"
        await at.until(lambda: at.seen().isascii())


@pytest.mark.parametrize("mode", ["runs", "sample"])
async def test_ascii_glyphs_reach_the_screens_behind(lab: Any, two_runs: Path, mode: str) -> None:
    async with lab(size=(120, 60)) as at:
        at.app.switch_mode(mode)
        await at.until(lambda: at.app.screen.query("LossChart, KnobRow") and "━" in at.seen())
        at.app.change_settings({"glyphs": "ascii"})
        await at.until(lambda: at.seen().isascii())
        drawn = {widget.glyphs for widget in at.app.screen.query(LossChart)}
        assert drawn <= {"ascii"}
        assert all(row.ascii_only for row in at.app.screen.query(KnobRow))
        assert drawn or at.app.screen.query(KnobRow)


async def test_a_key_is_changed_by_pressing_the_new_one(lab: Any) -> None:
    async with lab() as at:
        await at.press("f2")
        await choose(at, "key train.quick_start")
        await at.press("k")
        assert at.saved().keymap == {"train.quick_start": "k"}
        await at.press("escape")
        await at.press("g")
        assert (at.session.answering, at.session.history) == (0, None)
        await at.press("k")
        await at.until(lambda: at.session.history is not None)


@pytest.mark.parametrize("key", ["alt+S", "alt+backspace"])
async def test_a_new_key_may_have_alt(lab: Any, key: str) -> None:
    async with lab() as at:
        at.app.change_settings({"keymap": {"train.save": "f10"}})
        await at.press("f2")
        await choose(at, "key train.save")
        await at.press(key)
        assert at.saved().keymap == {"train.save": key}


async def test_a_key_that_is_taken_is_refused_with_what_it_does(lab: Any) -> None:
    async with lab() as at:
        await at.press("f2")
        await choose(at, "key train.save")
        await at.press("x")
        await at.sees("x is already train.stop")
        assert at.saved().keymap == {}
        assert isinstance(at.app.screen, Preferences)


def test_no_screen_takes_a_key_of_the_whole_app() -> None:
    keys = {name: set(binding.key.split(",")) for name, binding in remappable().items()}
    taken = {key for name, own in keys.items() if name.startswith("app.") for key in own}
    assert [name for name, own in keys.items() if own & taken and not name.startswith("app.")] == []


async def test_backspace_brings_the_default_back(lab: Any) -> None:
    save(Settings(theme="light", keymap={"train.save": "w"}))
    async with lab() as at:
        at.app.apply_settings(load())
        await at.press("f2")
        options = at.app.screen.query_one(OptionList)
        for name in ("theme", "key train.save"):
            options.highlighted = options.get_option_index(name)
            await at.press("backspace")
        assert at.app.theme == theme.NAMES["dark"]
        assert at.saved() == Settings()


async def test_glyphs_that_are_reset_are_again_those_of_each_terminal(lab: Any) -> None:
    save(Settings(theme="light", glyphs="ascii"))
    async with lab() as at:
        at.app.apply_settings(load())
        await at.press("f2")
        at.app.screen.highlight("glyphs")
        await at.press("backspace")
        assert at.saved() == Settings(theme="light")
        assert path().read_text(encoding="utf-8") == 'theme = "light"\n'


async def test_a_letter_that_suspends_can_be_typed(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    suspended: list[Any] = []
    monkeypatch.setattr(LabApp, "action_suspend_process", lambda app: suspended.append(app))
    async with lab() as at:
        at.app.change_settings({"keymap": {"app.suspend": "U,ctrl+z"}})
        await at.press("f2")
        await choose(at, "quickstart")
        field = at.app.screen.query_one(Input)
        before = field.value
        await at.press("end", "U")
        assert (field.value, suspended) == (f"{before}U", [])
        await at.press("ctrl+z")
        assert len(suspended) == 1
        await at.press("escape", "escape", "U")
        assert len(suspended) == 2


async def test_a_default_that_another_has_now_is_not_brought_back(lab: Any) -> None:
    swapped = {"train.save": "x", "train.stop": "s"}
    save(Settings(keymap=swapped))
    async with lab() as at:
        at.app.apply_settings(load())
        await at.press("f2")
        options = at.app.screen.query_one(OptionList)
        options.highlighted = options.get_option_index("key train.save")
        await at.press("backspace")
        await at.sees("train.stop=s: that key is already train.save")
        assert at.saved().keymap == swapped


async def test_two_open_apps_keep_the_keys_that_each_has_changed(lab: Any) -> None:
    save(Settings(keymap={"train.save": "w"}))
    async with lab() as at:
        at.app.apply_settings(load())
        save(Settings(keymap={"train.save": "w", "runs.note": "f10"}))  # as the other app does
        at.app.change_settings({"keymap": {"train.save": "w", "train.stop": "f9"}})
        assert at.saved().keymap == {"train.save": "w", "train.stop": "f9", "runs.note": "f10"}
        at.app.change_settings({"keymap": {"train.stop": "f9"}})
        assert at.saved().keymap == {"train.stop": "f9", "runs.note": "f10"}


async def test_a_key_that_another_open_app_has_given_away_is_not_saved(lab: Any) -> None:
    async with lab(size=(160, 40)) as at:
        save(Settings(keymap={"train.stop": "k"}))  # as the other app does
        at.app.change_settings({"keymap": {"train.save": "k"}})
        await at.until(lambda: [each.message for each in at.app._notifications])
        (problem,) = [each.message for each in at.app._notifications]
        assert problem == "keys not saved: keymap: train.stop=k: that key is already train.save; choose another"
        assert at.saved().keymap == {"train.stop": "k"}


async def test_what_the_command_line_asked_for_is_not_written_down(lab: Any) -> None:
    async with lab() as at:
        at.app.apply_settings(Settings(theme="light", glyphs="block"))  # as with --light --glyphs block
        await at.press("f2")
        await choose(at, "repaints_per_second")
        assert at.saved() == Settings(repaints_per_second=4.0)
        assert at.app.theme == theme.NAMES["light"]


async def test_a_file_broken_meanwhile_is_named_and_left_alone(lab: Any) -> None:
    async with lab() as at:
        path().parent.mkdir(parents=True, exist_ok=True)
        path().write_text("theme =", encoding="utf-8")
        await at.press("f2")
        await choose(at, "theme")
        await at.sees("cannot read the settings")
        assert path().read_text(encoding="utf-8") == "theme ="


async def test_the_quick_start_is_changed_and_checked(lab: Any) -> None:
    async with lab() as at:
        await at.press("f2")
        await choose(at, "quickstart")
        at.app.screen.query_one(Input).value = "max_itres=70"
        await at.press("enter")
        await at.until(lambda: "Did you mean max_iters?" in " ".join(at.seen().split()))
        at.app.screen.query_one(Input).value = "max_iters=70 learning_rate=1e-3 device=cpu"
        await at.press("enter")
        assert at.saved().quickstart == {"max_iters": 70, "learning_rate": 0.001, "device": "cpu"}


async def test_a_text_of_the_quick_start_keeps_its_spaces_and_line_breaks(lab: Any) -> None:
    texts = {"sample_start": "To be,\n or 'C:\\new'", "dataset": "two words"}
    async with lab() as at:
        at.app.change_settings({"quickstart": texts})
        await at.press("f2")
        await choose(at, "quickstart")
        await at.press("enter")
        assert at.saved().quickstart == texts
        await choose(at, "quickstart")
        for typed, kept in {
            r"sample_start=\n": "\n",
            "sample_start='ROMEO: '": "ROMEO: ",
            'sample_start="#1"': "#1",
        }.items():
            at.app.screen.query_one(Input).value = typed
            await at.press("enter")
            assert at.saved().quickstart == {"sample_start": kept}
            await choose(at, "quickstart")
        at.app.screen.query_one(Input).value = "sample_start='To be"
        await at.press("enter")
        await at.sees("a quotation mark has no second one")


async def test_a_theme_of_the_palette_is_written_down(lab: Any) -> None:
    async with lab() as at:
        await at.press("ctrl+p")
        await at.paste("ansi")
        await at.sees("Theme: ansi")
        await at.press("enter")
        await at.until(lambda: at.app.theme == theme.NAMES["ansi"])
        assert at.saved().theme == "ansi"


async def test_the_mouse_changes_and_closes(lab: Any) -> None:
    async with lab() as at:
        await at.press("f2")
        await at.pilot.click(OptionList, offset=(3, 0))
        await at.until(lambda: at.app.theme == theme.NAMES["light"])
        await at.pilot.click(offset=(0, 0))
        await at.until(lambda: not isinstance(at.app.screen, Preferences))
