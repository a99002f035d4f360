"""Ctrl+Z in a shell with jobs: the terminal is the shell's, training goes on, and fg brings the app back."""

import os
import re
import shlex
import signal
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

import pytest
import tomli_w

from nanogpt import runs
from tests.narrowing import expect
from tests.tui.conftest import kill_trainer

BASH = ["env", "PS1=bash-$ ", "bash", "--norc", "--noprofile", "-i"]  # whatever prompt is exported here
APP = f"{shlex.quote(sys.executable)} -m nanogpt_tui"
CTRL_Z, CTRL_C, CTRL_V = "\x1a", "\x03", "\x16"
SHIFT_HOME, CTRL_E = "\x1b[1;2H", "\x05"
Terminals = Callable[..., AbstractContextManager[Any]]


@pytest.fixture(autouse=True)
def long(home: Path, rhymes: dict[str, Any]) -> Iterator[Path]:
    """The folder of the run that the quick start will train for long; nobody trains it when the test has ended."""
    changes = rhymes | {"max_iters": 10_000_000, "eval_interval": 1000, "sample_interval": 0, "compile": "false"}
    (home / "config" / "tui.toml").write_text(tomli_w.dumps({"quickstart": changes}), encoding="utf-8")
    folder = home / "runs" / "quickstart"
    yield folder
    kill_trainer(folder)


def until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s} s"
        time.sleep(0.05)


def goes_on(run: Path) -> bool:
    held = runs.summary(run).step
    until(lambda: runs.summary(run).step > held)
    return runs.summary(run).state == "running"


def begin(screen: Any, *words: str) -> None:
    screen.until(lambda text: "$ " in text or "# " in text)
    screen.press(" ".join((APP, *words)) + "\r")
    screen.until(lambda text: "Nothing has been trained here yet." in text)


def train(screen: Any) -> None:
    screen.press("g")
    screen.until(lambda text: re.search(r"train loss\s+\d\.\d+", text))


def ended_with(screen: Any, code: int) -> None:
    """The app gives the terminal back, and the shell has its exit code."""
    screen.until(lambda text: "bash-" in text)
    screen.press("echo code $?\r")
    screen.until(lambda text: f"code {code}" in text)


def in_the_shell(screen: Any, number: int) -> None:
    """The shell has the terminal as it should be: it shows what is typed, and runs it."""
    screen.until(lambda text: "Stopped" in text)
    screen.press(f"stty -a | grep -o ' icanon'; echo $(({number}+1))\r")
    screen.until(lambda text: f"\n{number + 1}" in text and "\n icanon" in text and f"echo $(({number}+1))" in text)


def test_ctrl_z_gives_the_shell_the_terminal_while_training_goes_on_and_fg_paints_all_again(
    terminal: Terminals, long: Path
) -> None:
    with terminal(100, 30, command=BASH) as screen:
        begin(screen, "--ascii")
        train(screen)
        screen.press(CTRL_Z)
        screen.until(lambda text: "quickstart is still training; fg returns to the app" in text)
        in_the_shell(screen, 1000)
        assert goes_on(long)
        screen.press("bg\r")
        screen.until(lambda text: "&" in text)
        in_the_shell_again = "echo in $((40+2))\r"
        screen.press(in_the_shell_again)
        screen.until(lambda text: "in 42" in text)
        assert goes_on(long)
        screen.press("fg\r")
        screen.until(lambda text: re.search(r"train loss\s+\d\.\d+", text) and "echo" not in text)
        for mode, seen in (("1", "data set"), ("4", "quickstart"), ("3", "temp")):  # from any screen
            screen.press(mode)
            screen.until(lambda text, seen=seen: seen in text and "$" not in text)
        screen.press("i")  # and from the editor of the prompt
        screen.until(lambda text: "esc leave" in text)
        screen.press("to be")
        screen.until(lambda text: "to be" in text)
        screen.press(CTRL_Z)
        in_the_shell(screen, 3000)
        assert goes_on(long)
        screen.press("fg\r")
        screen.until(lambda text: "to be" in text and "temp" in text and "echo" not in text)
        screen.press(", or")
        screen.until(lambda text: "to be, or" in text)
        screen.press(CTRL_C)
        screen.until(lambda text: "background" in text)
        screen.press("x")
        ended_with(screen, 0)


def test_a_job_that_is_killed_while_it_is_suspended_saves_and_ends(terminal: Terminals, long: Path) -> None:
    with terminal(100, 30, command=BASH) as screen:
        begin(screen)
        train(screen)
        pid = runs.summary(long).pid
        screen.press(CTRL_Z)
        in_the_shell(screen, 1000)
        screen.press("kill %1\r")
        until(lambda: not Path(f"/proc/{pid}").exists())
        about = runs.summary(long)
        assert about.state == "stopped"
        assert expect(runs.Checkpoint, runs.latest(long)).step == about.step


def test_a_terminal_that_goes_while_the_app_is_suspended_loses_nothing(terminal: Terminals, long: Path) -> None:
    """bash ends the jobs that are stopped when it ends, as other shells do not: then it is saved, else it trains on."""
    with terminal(100, 30, command=BASH) as screen:
        begin(screen)
        train(screen)
        pid = runs.summary(long).pid
        screen.press(CTRL_Z)
        in_the_shell(screen, 1000)
        screen.close()
        screen.process.wait(60)
    until(lambda: runs.summary(long).state == "stopped" or terminal_of(pid) == os.devnull)
    if runs.summary(long).state != "stopped":
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGTERM)
    until(lambda: not Path(f"/proc/{pid}").exists())
    about = runs.summary(long)
    assert about.state == "stopped"
    assert expect(runs.Checkpoint, runs.latest(long)).step == about.step


def about(pid: int) -> list[str]:
    """The fields of a process in /proc: 2 its state, 3 its parent, 7 the foreground job of its terminal."""
    return Path(f"/proc/{pid}/stat").read_text().split()


def press_until(screen: Any, key: str, seen: str) -> None:
    """Presses a key again until it was obeyed: an app that takes its terminal back forgets what was typed before."""
    pressed = 0.0

    def is_seen(text: str) -> bool:
        nonlocal pressed
        if seen not in text and time.monotonic() > pressed + 1:
            screen.press(key)
            pressed = time.monotonic()
        return seen in text

    screen.until(is_seen)


def terminal_of(pid: int) -> str:
    with suppress(FileNotFoundError):
        return str(Path(f"/proc/{pid}/fd/0").readlink())
    return ""


def test_a_stop_sent_from_elsewhere_does_the_same(terminal: Terminals, long: Path) -> None:
    with terminal(100, 30, command=BASH) as screen:
        begin(screen)
        train(screen)
        app = runs.summary(long).pid
        supervisor = int(about(app)[3])
        os.kill(supervisor, signal.SIGTSTP)
        in_the_shell(screen, 1000)
        assert goes_on(long)
        screen.press("fg\r")
        screen.until(lambda text: "train loss" in text and "echo" not in text)
        os.killpg(supervisor, signal.SIGSTOP)  # which nobody can hear coming
        until(lambda: {about(app)[2], about(supervisor)[2]} == {"T"})
        until(lambda: about(supervisor)[7] == str(screen.process.pid))  # the terminal is the shell's
        screen.press("fg\r")
        until(lambda: "T" not in {about(app)[2], about(supervisor)[2]})
        press_until(screen, "1", "data set")
        screen.press("q")
        screen.until(lambda text: "background" in text)
        screen.press("x")
        ended_with(screen, 0)


def test_where_there_is_no_shell_it_says_so_and_stays(terminal: Terminals) -> None:
    with terminal(100, 30) as screen:
        screen.until(lambda text: "Nothing has been trained here yet." in text)
        screen.press(CTRL_Z)
        screen.until(lambda text: "there is no shell to return to" in text and "Nothing has been trained" in text)
        screen.press("q")
        assert screen.wait() == 0


def test_ctrl_c_says_how_to_quit_and_copies_what_is_selected(terminal: Terminals) -> None:
    with terminal(100, 30) as screen:
        screen.until(lambda text: "Nothing has been trained here yet." in text)
        screen.press(CTRL_C)
        screen.until(lambda text: "q quits" in text)
        screen.press("?")
        screen.until(lambda text: "esc closes" in text)
        screen.press(CTRL_C)
        screen.until(lambda text: "Esc closes this window" in text)
        screen.press("zebra" + SHIFT_HOME + CTRL_C + CTRL_E + CTRL_V)  # the word is pasted after itself
        screen.until(lambda text: "zebrazebra" in text)
        screen.press("\x1b")
        screen.until(lambda text: "Nothing has been trained here yet." in text)
        screen.press("\x11")
        assert screen.wait() == 0
