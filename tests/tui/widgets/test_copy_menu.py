"""`y`: what it offers to copy, and that the terminal and tmux are given it."""

import base64
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

from nanogpt.config import SamplingConfig, resolve
from nanogpt.events import Token
from nanogpt.runs.folder import find, run_config
from nanogpt.runs.manage import changed
from nanogpt_tui.session import completion_store
from nanogpt_tui.session.completions import Completion, Source
from nanogpt_tui.terminal import terminal_app
from nanogpt_tui.widgets import copy_menu


def words_of(command: str) -> list[str]:
    return shlex.split(command)


def test_the_command_of_a_run_has_the_same_settings(two_runs: Path) -> None:
    folder = two_runs / "one"
    offered = copy_menu.run_items(folder)
    assert offered["path"] == str(folder)
    program, train, *flags = words_of(offered["command"])
    assert (program, train) == ("nanogpt", "train")
    again = resolve(flags=dict(flag.removeprefix("--").split("=", 1) for flag in flags)).config
    assert changed(again) == changed(run_config(folder))  # but for what the machine chooses


def test_the_command_of_a_text_names_its_checkpoint_prompt_and_knobs() -> None:
    knobs = SamplingConfig(temperature=0.6, seed=7)
    completion = Completion(prompt="it's\n", source=Source("one"), knobs=knobs, run="one", step=40)
    program, sample, run, *flags = words_of(copy_menu.completion_items(completion, None)["command"])
    assert (program, sample, run) == ("nanogpt", "sample", "one")
    assert {"--checkpoint=40", "--start=it's\n", "--temperature=0.6", "--seed=7"} == set(flags)


def test_the_command_of_a_text_finds_its_run_wherever_that_is(two_runs: Path, tmp_path: Path) -> None:
    elsewhere = two_runs.rename(tmp_path / "other runs")
    for source, runs_dir in (
        (Source("one"), str(elsewhere)),
        (Source(), str(elsewhere)),
        (Source(str(elsewhere / "one")), None),
    ):
        completion = Completion(prompt="a", source=source, knobs=SamplingConfig(), run="one", step=40)
        _, _, run, *_ = words_of(copy_menu.completion_items(completion, runs_dir)["command"])
        assert find(run) == elsewhere / "one"


@pytest.mark.parametrize(
    ("prompt", "which"),
    [("a", "live"), ("-", "best"), ("FILE:a", "best")],  # --start=- is standard input, --start=FILE:a a file
)
def test_a_text_that_no_command_can_repeat_has_none(prompt: str, which: str) -> None:
    text = Completion(prompt=prompt, source=Source(None, which), knobs=SamplingConfig(), run="one", step=40)
    assert set(copy_menu.completion_items(text, None)) == {"text"}


def test_a_continued_text_has_no_command_also_in_a_later_session() -> None:
    text = Completion(prompt="a", source=Source("one"), knobs=SamplingConfig(), run="one", step=40, reason="length")
    text.tokens.append(Token(sample=0, id=1, text="b", probability=0.5, alternatives=()))
    text.is_continued = True
    completion_store.append([text])
    for each in (text, completion_store.load()[0][0]):
        assert set(copy_menu.completion_items(each, None)) == {"text"}


async def test_y_copies_the_path_of_the_run_under_the_cursor(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await at.press("4")
        await at.sees("one")
        await at.press("y")
        await at.sees("Copy", "path", "nanogpt train")
        path = at.app.clipboard
        await at.press("p")
        await at.until(lambda: at.app.clipboard != path)
        assert Path(at.app.clipboard).parent == two_runs


def test_what_is_copied_reaches_the_terminal_as_osc_52() -> None:
    for text, copied in (("grüß ☺", "grüß ☺"), ("path-\udce9", "path-?")):  # a byte that is not UTF-8
        start, _, data = terminal_app.clipboard(text).rpartition(";")
        assert start == "\x1b]52;c"
        assert base64.b64decode(data.removesuffix("\a")).decode() == copied


@pytest.mark.skipif(shutil.which("tmux") is None, reason="needs tmux")
def test_tmux_is_given_a_buffer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    socket = tmp_path / "tmux"
    tmux = ["tmux", "-S", str(socket), "-f", "/dev/null"]
    subprocess.run([*tmux, "new-session", "-d", "cat"], check=True)
    try:
        monkeypatch.setenv("TMUX", f"{socket},1,0")
        terminal_app._load_tmux_buffer("one line\udce9\n")
        assert subprocess.run([*tmux, "show-buffer"], capture_output=True, text=True).stdout == "one line?\n"
    finally:
        subprocess.run([*tmux, "kill-server"], check=False)
