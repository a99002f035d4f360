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

from nanogpt.data import prepare
from nanogpt.runs.manage import read_note

CALLS = (
    *((os, name) for name in ("stat", "lstat", "scandir", "listdir", "open", "mkdir", "rename", "replace", "unlink")),
    (io, "open"),
    (builtins, "open"),
)


@pytest.fixture
def accesses(home: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The calls about files of the home in the interface's thread, each with the lines of the program that made it."""
    made: list[str] = []

    def watched(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *args: Any, **options: Any) -> Any:
            in_interface = threading.current_thread() is threading.main_thread()
            if in_interface and not isinstance(path, int) and os.fsdecode(path).startswith(str(home)):
                stack = [each for each in traceback.extract_stack() if "/nanogpt" in each.filename]
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
        accesses.clear()  # the names of a person's own presets
        await at.press("tab", "tab", "backspace", "shift+tab", "escape")
        assert accesses == [], "the form of a new run"
        await at.press("4")
        await at.press("i")
        await at.sees("A note on the run")
        await at.press("a", "b", "enter")
        await at.until(lambda: "ab" in {read_note(run) for run in two_runs.iterdir()})
        await at.press("r")  # both runs are complete: it asks for more steps
        await at.sees("is complete")
        at.app.screen.query_one(Input).value = "61"
        await at.press("enter")
        await at.until(lambda: at.session.training is not None)
        assert [each for each in accesses if "read_note" not in each] == []
