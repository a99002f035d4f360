"""The interface's thread does not wait for the disk: it is slow where it is a network's, or busy."""

import builtins
import io
import os
import threading
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input

import nanogpt
import nanogpt_tui
from nanogpt.data import prepare
from nanogpt.runs.manage import NOTE
from nanogpt_tui.screens.new_run.screen import NewRunScreen
from nanogpt_tui.widgets.choice import Choice
from nanogpt_tui.widgets.path_input import PathInput
from nanogpt_tui.widgets.tokenizer_field import TokenizerField

CALLS = (
    *((os, name) for name in ("stat", "lstat", "scandir", "listdir", "open", "mkdir", "rename", "replace", "unlink")),
    (io, "open"),
    (builtins, "open"),
)
PROGRAM = tuple(package.__path__[0] + os.sep for package in (nanogpt, nanogpt_tui))


@pytest.fixture
def accesses(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls about files of the home in the interface's thread, each with the lines of the program that made it."""
    made: list[str] = []

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *args: Any, **options: Any) -> Any:
            in_interface = threading.current_thread() is threading.main_thread()
            if in_interface and not isinstance(path, int) and os.fsdecode(path).startswith(str(home)):
                stack = [each for each in traceback.extract_stack() if each.filename.startswith(PROGRAM)]
                callers = [f"{Path(each.filename).name}:{each.lineno} {each.name}" for each in stack[-3:]]
                if callers:  # not the test itself
                    made.append(f"{name} {Path(os.fsdecode(path)).relative_to(home)} by {', '.join(callers)}")
            return function(path, *args, **options)

        return call

    for module, name in CALLS:
        monkeypatch.setattr(module, name, watched(name, getattr(module, name)))
    return made


async def test_no_key_of_a_screen_reads_or_writes_files_in_the_interface_thread(
    lab: Any, two_runs: Path, accesses: list[str]
) -> None:
    list(prepare("rhymes"))
    async with lab() as at:
        await at.sees("step 20: validation loss")
        accesses.clear()  # what the start reads
        tour = {
            "2": ("l", "L", "o", "escape", "y", "escape", "v", "v", "I", "escape"),
            "4": ("down", "space", "v", "v", "L", "y", "escape", "e", "escape", "R", "escape", "d", "escape"),
            "3": ("t", "T", "w", "escape"),
            "1": ("down", "y", "escape"),
            "5": ("down",),
        }
        for screen, keys in tour.items():
            await at.press(screen)
            await at.until(lambda: not at.app.screen.is_reading)
            for key in keys:
                await at.press(key)
            assert accesses == [], screen
        await at.press("2", "n")
        await at.until(lambda: not at.app.screen.is_reading)
        await at.press("tab", "tab", "backspace", "shift+tab", "escape")
        assert accesses == [], "the form of a new run"
        await at.press("4")
        await at.press("i")
        await at.sees("A note on the run")
        await at.press("a", "b", "enter")
        await at.until(lambda: [note.read_text() for note in two_runs.glob(f"*/{NOTE}")] == ["ab\n"])
        await at.press("r")  # both runs are complete: it asks for more steps
        await at.sees("is complete")
        at.app.screen.query_one(Input).value = "61"
        await at.press("enter")
        await at.until(lambda: at.session.training is not None)
        assert accesses == []


async def test_the_form_of_a_new_run_reads_presets_and_runs_in_threads(
    lab: Any, home: Path, two_runs: Path, accesses: list[str]
) -> None:
    presets = home / "config" / "presets"
    presets.mkdir(parents=True)
    (presets / "mine.toml").write_text('help = "My own values."\nn_layer = 3\n')
    run = next(two_runs.iterdir()).name
    async with lab() as at:
        await at.sees("step 20: validation loss")
        accesses.clear()  # what the start reads
        await at.press("2", "n")
        form = at.app.screen
        await at.until(lambda: not form.is_reading)
        for name in ("baby", "mine"):  # the newest counts
            form.choice("preset").value = name
        await at.until(lambda: form.draft.preset == "mine" and form.draft.shown("n_layer") == "3")
        form.choice("preset").focus()
        await at.sees("My own values.")
        form.choice("start").value = f"weights {run}"
        await at.until(lambda: form.draft.source == run and form.draft.fixed)
        form.choice("start").value = f"resume {run}"
        await at.until(lambda: form.draft.resumes)
        assert accesses == []
        await at.press("escape")
        at.app.push_screen(NewRunScreen(start=f"weights {run}"))
        await at.until(lambda: not at.app.screen.is_reading)
        assert at.app.screen.draft.source == run
        assert accesses == []


async def test_a_typed_path_is_completed_and_checked_in_threads(lab: Any, home: Path, accesses: list[str]) -> None:
    (home / "texts").mkdir()
    (home / "texts" / "song.txt").write_text("one two three four\n" * 200)
    async with lab() as at:
        await at.press("1")
        await at.until(lambda: at.app.screen.entries)
        accesses.clear()  # what the start reads
        await at.press("a")
        form = at.app.screen
        path = form.query_one(PathInput)
        await at.paste(f"{home}/te")
        await at.press("tab")
        await at.until(lambda: path.value == f"{home}/texts/")
        await at.press("s", "x", "enter")
        await at.sees("no such file or folder")
        await at.press("backspace", "tab")
        await at.until(lambda: path.value == f"{home}/texts/song.txt")
        await at.sees("tokens")
        tokenizer = form.query_one(TokenizerField)
        tokenizer.query_one(Choice).value = "hf"
        await at.until(lambda: tokenizer.has_class("-settings"))
        tokenizer.query_one(Input).value = f"{home}/texts/none.json"
        error = form.query_one("#tokenizer-error")
        await at.until(lambda: error.has_class("-shown") and "cannot read the tokenizer" in error.render().plain)
        tokenizer.query_one(Choice).value = "char"
        await at.until(lambda: not error.has_class("-shown"))
        await at.press("ctrl+s")
        await at.until(lambda: at.app.screen is not form)
        assert accesses == []
        await at.press("t")
        screen = at.app.screen
        await at.until(lambda: not screen.is_reading)
        train = screen.training
        train.query_one("#text").value = "file"
        train.query_one(PathInput).query_one(Input).value = f"{home}/texts/none.txt"
        await at.press("ctrl+t", "ctrl+s")
        await at.sees("no such file or folder")
        train.query_one(TokenizerField).query_one(Input).value = "260"
        train.query_one(PathInput).query_one(Input).value = f"{home}/texts/song.txt"
        await at.press("ctrl+s")
        await at.until(lambda: train.trained is not None and not train.is_training)
        await at.press("ctrl+g")
        question = at.app.screen
        for name in ("song.txt", "tokenizer.json"):
            question.query_one(Input).value = f"{home}/texts/{name}"
            await at.press("enter")
            if name == "song.txt":
                await at.sees("already exists")
        await at.until((home / "texts" / "tokenizer.json").exists)
        assert accesses == []


async def test_a_data_set_is_deleted_in_a_thread(lab: Any, rhymes: Any, accesses: list[str]) -> None:
    list(prepare("rhymes"))
    async with lab() as at:
        await at.press("1")
        screen = at.app.screen
        await at.until(lambda: screen.entries)
        screen.highlight("rhymes")
        await at.until(lambda: screen.entry.name == "rhymes")
        accesses.clear()  # what the start reads
        await at.press("d", "y")
        await at.until(lambda: not screen.entry.info.prepared)
        assert accesses == []


async def test_the_quick_start_is_prepared_in_a_thread(lab: Any, rhymes: Any, accesses: list[str]) -> None:
    async with lab() as at:
        await at.until(lambda: at.session.discovered)
        accesses.clear()  # what the start reads
        await at.press("g")
        await at.until(lambda: at.session.history and at.session.history.phase == "finished")
        assert accesses == []
