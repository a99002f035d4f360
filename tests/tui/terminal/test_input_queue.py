"""Keys that arrive together are handled one after the other, each by whatever has the focus when its turn comes."""

from pathlib import Path
from typing import Any

import pytest
from textual.events import Key, Paste
from textual.keys import _character_to_key
from textual.widgets import Input

from nanogpt import runs
from nanogpt.data import prepare
from nanogpt_tui.app import LabApp
from nanogpt_tui.screens.new_run.screen import NewRunScreen
from nanogpt_tui.screens.sample.pick_source import PickSource
from nanogpt_tui.screens.sample.prompt import Prompt
from nanogpt_tui.terminal import input_queue
from nanogpt_tui.widgets.dialog import Ask, AskValue


async def together(at: Any, *keys: str) -> None:
    """All keys arrive at once; waits until they are obeyed."""
    for key in keys:
        letter = key if len(key) == 1 else None
        at.app.post_message(Key(_character_to_key(key) if letter else key, letter))
    await at.settle()


async def test_a_field_of_the_form_takes_keys_in_their_order(lab: Any) -> None:
    async with lab() as at:
        await together(at, "n")
        field = at.app.screen.field("n_layer").editor
        field.focus()
        for keys, value in (
            (["end", "backspace", *"123"], "123"),
            (["ctrl+u", *"abc"], "abc"),
            (["end", *"15", "left", "backspace", "7", "delete", *"99"], "2799"),
            (["home", "1", "end", "ctrl+a", "ctrl+k", *"4 5"], "4 5"),
        ):
            field.value = "2"
            await together(at, *keys)
            assert field.value == value


async def test_what_is_typed_right_behind_the_key_of_the_form_names_the_run(lab: Any, rhymes: Any) -> None:
    list(prepare("rhymes"))
    async with lab() as at:
        await together(at, "n", *["down"] * 3, *"my-run", *["down"] * 2, "ctrl+u", "4", "ctrl+s")
        await at.until(lambda: at.session.history is not None and at.session.history.started is not None)
        assert at.session.history.run == "my-run"
        assert runs.folder.run_config(at.session.folder).values()["batch_size"] == 4
        at.session.training.cancel()


async def test_keys_behind_the_answer_of_a_dialog_are_for_what_it_leads_to(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await at.press("4")
        await at.until(lambda: at.app.screen.current)
        at.app.screen.table.focus()
        name = at.app.screen.current.name
        await together(
            at, "i", *"first note", "enter", "i", "end", *" and more", "enter", "delete", "escape", "slash", *"tw"
        )
        assert runs.manage.read_note(two_runs / name) == "first note and more"
        assert at.app.screen.query_one("#filter", Input).value == "tw"
        assert not isinstance(at.app.screen, Ask | AskValue)


async def test_keys_wait_for_the_list_that_they_are_about(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await together(at, "4", "i", *"exit", "enter")  # x deletes, where no dialog asks for text
        await at.until(lambda: not isinstance(at.app.screen, AskValue))  # a thread writes the note
        assert "exit" in {runs.manage.read_note(folder) for folder in two_runs.iterdir()}


async def test_a_filter_that_was_typed_before_the_list_came_is_in_force(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await together(at, "3", "f", *"one 40", "enter")
        await at.until(lambda: not isinstance(at.app.screen, PickSource))
        assert (at.app.screen.sources[0].run, at.app.screen.sources[0].which) == ("one", "40")


async def test_a_paste_takes_its_turn(lab: Any) -> None:
    async with lab() as at:
        for event in (
            Key("3", "3"),
            Key("i", "i"),
            Key("a", "a"),
            Paste("one\x1b"),
            Key("backspace", "\x7f"),
            Key("b", "b"),
        ):
            at.app.post_message(event)
        await at.settle()
        assert at.app.screen.query_one(Prompt).text == "aonb"


@pytest.mark.parametrize("key", ["alt+S", "alt+shift+s"])  # as terminals without and with the kitty protocol have it
async def test_escape_and_a_key_in_one_piece_are_both_obeyed(lab: Any, key: str) -> None:
    async with lab() as at:
        await together(at, "3", "i", "a")
        at.app.post_message(Key(key, None))
        await at.settle()
        assert not isinstance(at.app.focused, Prompt)
        assert at.app.screen.knobs.seed == 1338


async def test_word_motions_of_readline_stay_in_a_field(lab: Any) -> None:
    async with lab() as at:
        await together(at, "3", "i", *"one two", "alt+b", "x")
        assert at.app.screen.query_one(Prompt).text == "one xtwo"


async def test_a_screen_that_goes_on_reading_is_waited_for_once(lab: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(input_queue, "READY_TIMEOUT_S", 0.1)
    monkeypatch.setattr(NewRunScreen, "_show_options", lambda screen, *news: None)
    asked = 0

    def is_ready(app: LabApp) -> bool:
        nonlocal asked
        asked += 1
        return not getattr(app.screen, "is_reading", False)

    monkeypatch.setattr(LabApp, "is_ready", is_ready)
    async with lab() as at:
        await together(at, "n", "down")
        before = asked
        await together(at, *["down"] * 5)
        assert asked - before == 5  # a look a key, and no waiting
