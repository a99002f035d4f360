"""Settings and keys, changed in the app: obeyed at once, and written down."""

from typing import Any

from textual.widgets import OptionList

from nanogpt_tui import theme
from nanogpt_tui.settings import load
from nanogpt_tui.widgets.preferences import Preferences, remappable


async def choose(at: Any, name: str) -> None:
    options = at.app.screen.query_one(OptionList)
    options.highlighted = options.get_option_index(name)
    await at.press("enter")


async def test_a_theme_is_put_on_at_once_and_written_down(lab: Any) -> None:
    async with lab() as at:
        await at.press("f2")
        await choose(at, "theme")
        assert at.app.theme == theme.NAMES["light"]
        assert load().theme == "light"


async def test_ascii_glyphs_reach_what_is_already_drawn(lab: Any) -> None:
    async with lab() as at:
        await at.press("g")
        await at.until(lambda: at.session.history and at.session.history.state == "finished")
        await at.press("f2")
        await choose(at, "glyphs")
        await choose(at, "glyphs")
        await at.press("escape")
        assert load().glyphs == "ascii"
        assert at.seen().isascii()


async def test_a_key_is_changed_by_pressing_the_new_one(lab: Any) -> None:
    async with lab() as at:
        await at.press("f2")
        await choose(at, "key train.quick_start")
        await at.press("k")
        assert load().keymap == {"train.quick_start": "k"}
        await at.press("escape")
        await at.press("g")
        assert at.session.history is None
        await at.press("k")
        await at.until(lambda: at.session.history is not None)


async def test_a_key_that_is_taken_is_refused_with_what_it_does(lab: Any) -> None:
    async with lab() as at:
        await at.press("f2")
        await choose(at, "key train.save")
        await at.press("x")
        assert "x is train.stop already" in at.seen()
        assert load().keymap == {}
        assert isinstance(at.app.screen, Preferences)


def test_no_screen_takes_a_key_of_the_whole_app() -> None:
    keys = {name: set(binding.key.split(",")) for name, binding in remappable().items()}
    taken = {key for name, own in keys.items() if name.startswith("app.") for key in own}
    assert [name for name, own in keys.items() if own & taken and not name.startswith("app.")] == []
