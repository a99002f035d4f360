"""What stands on the screen stands there whole, in every width and after every change of it, with the keys of now."""

import ast
import threading
from pathlib import Path
from typing import Any

import pytest

import nanogpt_tui
from nanogpt.config import SamplingConfig
from nanogpt.events import Alternative, Saved, Token
from nanogpt_tui import keys
from nanogpt_tui.app import LabApp
from nanogpt_tui.screens.runs import run_details
from nanogpt_tui.screens.sample.alternatives import Alternatives
from nanogpt_tui.session.history import History
from nanogpt_tui.session.session import Session
from nanogpt_tui.settings import Settings
from nanogpt_tui.terminal.ascii import to_ascii
from nanogpt_tui.widgets.dialog import AskValue
from nanogpt_tui.widgets.header import _progress
from nanogpt_tui.widgets.keybar import KeyBar
from nanogpt_tui.widgets.palette import Palette
from nanogpt_tui.widgets.preferences import Preferences
from tests.made_events import started, stepped
from tests.tui.conftest import Lab

ROWS = tuple(Alternative(number, letter, 0.1) for number, letter in enumerate("abcdefgh"))


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_what_is_longer_than_its_field_is_seen_while_it_is_typed(lab: Any, size: tuple[int, int]) -> None:
    async with lab(size=size) as at:
        at.app.push_screen(AskValue("Where to?", "/home" * 30, lambda text: ""))
        await at.sees("/home/home")
        await at.press("end")
        await at.paste("/texts.jso")
        await at.press("n")  # else it would replace what is selected
        await at.sees("/home/texts.json")
        await at.press("ctrl+u")
        await at.paste("/elsewhere" * 8 + "/elsewher")
        await at.press("e")
        await at.sees("/elsewhere/elsewhere")


async def test_alternatives_take_a_line_each_after_every_change_of_width(lab: Any) -> None:
    async with lab(size=(120, 40)) as at:
        await at.until(lambda: at.session.discovered)  # a repaint after it would hide the token again
        await at.press("3")
        shown = at.app.screen.query_one(Alternatives)
        at.app.screen.add_class("-cursor")
        shown.show(
            Token(sample=0, id=0, text="a", probability=0.1, alternatives=ROWS), 12, 400, "", None, SamplingConfig()
        )
        for size in ((80, 24), (120, 40), (200, 60), (80, 24)):
            await at.pilot.resize_terminal(*size)
            at.app.screen.add_class("-cursor")
            await at.until(lambda: shown.size.width and shown.virtual_size.height)
            await at.sees("token 13 of 400  “a”  p 0.100")
            lines = shown.render().plain.splitlines()
            assert shown.get_content_height(shown.size, shown.size, shown.size.width) == len(lines) > 4


@pytest.mark.parametrize("width", [80, 100, 140])
def test_before_the_first_step_the_header_has_the_state_and_no_time_left(width: int) -> None:
    history = History()
    history.add(started())
    assert history.phase == "training"
    assert "ETA" not in _progress(history.run_state, "$alive", width).plain
    assert _progress(history.run_state, "$alive", width).plain.split()[-1] == "training"
    history.add(stepped(1))
    assert ("ETA" in _progress(history.run_state, "$alive", width).plain) == (width >= 90)


def test_what_was_chosen_for_the_machine_is_no_difference_from_the_defaults(two_runs: Path) -> None:
    lines = run_details.description(two_runs / "one").plain.splitlines()
    names = [line.split()[0] for line in lines[lines.index("differs from the defaults") + 1 :]]
    assert "n_layer" in names
    assert not {"device", "dtype", "compile", "threads", "vocab_size"} & set(names)


def test_ascii_has_a_likeness_for_arrows_bars_and_about() -> None:
    assert to_ascii("‹ x › ≈ ━━──") == "< x > ~ ==--"


def test_ascii_keeps_the_marks_of_data_sets_apart() -> None:
    assert to_ascii("● ○ ⊘ × ◌") == "* o - x ~"


@pytest.mark.parametrize("width", [52, 76, 80])
@pytest.mark.parametrize("count", [2, 3, 6])
def test_compared_runs_stay_in_their_columns(two_runs: Path, width: int, count: int) -> None:
    names = [two_runs / name for name in ("one", "two") * 3][:count]
    for line in run_details.comparison(names, width).plain.splitlines():
        assert len(line) <= width


def test_names_that_begin_alike_are_shown_where_they_differ() -> None:
    names = ["shakespeare_char-gpt2", "shakespeare_char-gpt2-2", "shakespeare_char-llama"]
    assert run_details.without_common_prefix(names, 10) == ["…gpt2", "…gpt2-2", "…llama"]
    assert run_details.without_common_prefix(names, 30) == names
    assert run_details.without_common_prefix(["plays-fast", "plays_char-baby"], 8) == ["…-fast", "…_char-baby"]
    assert run_details.without_common_prefix(["alike-by-letters", "alike-by-lettering"], 8) == [
        "…letters",
        "…lettering",
    ]


async def test_a_runs_name_is_whole_in_the_header_where_there_is_room(lab: Any, two_runs: Path) -> None:
    (two_runs / "two").rename(two_runs / "a-name-of-20-letters")
    async with lab(size=(80, 24)) as at:
        await at.until(lambda: "a-name-of-20-letters" in at.seen().splitlines()[0])


async def test_choices_of_a_new_run_are_whole_in_80_columns(lab: Any, two_runs: Path) -> None:
    async with lab(size=(80, 24)) as at:
        await at.press("n")
        await at.sees("‹ none (defaults) ›", "‹ random weights ›")


async def test_the_log_stands_at_its_newest_line_in_every_size(lab: Any, two_runs: Path) -> None:
    async with lab(size=(80, 24)) as at:
        await at.until(lambda: at.app.screen.run_view is not None)
        history = History("long")
        for step in range(60):
            history.add(Saved(step=step, path="", is_best=False, stall_s=0.0))
        at.session.history = history
        at.app.training_changed()
        for size in ((200, 60), (120, 40), (200, 60)):
            await at.pilot.resize_terminal(*size)
            await at.sees("saved step 59")


def test_every_key_that_a_text_names_is_the_key_of_a_binding() -> None:
    named: set[str] = set()
    for file in Path(nanogpt_tui.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                named.update(keys.KEY_REFERENCE.findall(node.value))
    assert named <= {*keys.remappable()}
    assert {"train.quick_start", "sample.prompt", "data.prepare", "app.help"} <= named


async def test_texts_name_the_keys_as_they_are_mapped(rhymes: dict[str, Any]) -> None:
    keymap = {"train.quick_start": "f8", "sample.prompt": "f9", "sample.write": "f10", "app.data": "f12"}
    app = LabApp(Settings(quickstart=rhymes, keymap=keymap))
    async with app.run_test(size=(120, 40)) as pilot:
        at = Lab(app, pilot)
        await at.sees("f8   quick start", "f12 Data")
        await at.press("3")
        await at.sees("f9 edits it, f10 continues it", "f10    writes with these weights")
        app.change_settings({"keymap": keymap | {"sample.prompt": "f7"}})
        await at.sees("f7 edits it")
        app.change_settings({"keymap": keymap | {"app.data": "f4"}})
        await at.sees("f4 Data")
    app.session.close()


async def test_a_key_that_is_asked_for_opens_no_palette(lab: Any) -> None:
    async with lab() as at:
        await at.press("f2")
        await at.until(lambda: isinstance(at.app.screen, Preferences))
        at.app.screen._awaited_binding = "train.save"
        at.app.screen.set_focus(None)
        await at.press("ctrl+p")
        assert not isinstance(at.app.screen, Palette)
        await at.sees("^p is already the command palette")
        await at.press("ctrl+p")
        await at.until(lambda: isinstance(at.app.screen, Palette))


async def test_nothing_is_called_empty_before_it_is_known(
    lab: Any, two_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate, newest = threading.Event(), Session._find_run

    def later(session: Session) -> Path | None:
        gate.wait(60)
        return newest(session)

    monkeypatch.setattr(Session, "_find_run", later)
    async with lab() as at:
        await at.until(lambda: "2 Train" in at.seen())
        assert "Nothing has been trained" not in at.seen()
        assert "idle" not in at.seen()
        gate.set()
        await at.until(lambda: at.session.history is not None)


async def test_no_keys_stand_below_the_message_of_a_terminal_that_is_too_small(lab: Any) -> None:
    async with lab(size=(39, 9)) as at:
        await at.until(lambda: not at.app.screen.query_one(KeyBar).display)
        await at.pilot.resize_terminal(40, 10)
        await at.until(lambda: at.app.screen.query_one(KeyBar).display)
