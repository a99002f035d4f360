"""Which streams the app needs, where it draws, and how it ends when one of them ends: real pseudo-terminals."""

import re
import shlex
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, redirect_stderr
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nanogpt_tui.terminal import run as terminal_run

APP = f"{shlex.quote(sys.executable)} -m nanogpt_tui"
WELCOME = "Nothing has been trained here yet."
Terminals = Callable[..., AbstractContextManager[Any]]


def shell(line: str) -> list[str]:
    return ["sh", "-c", line]


@pytest.mark.parametrize("redirected", ["", "2>other", ">other", "2>&-", ">&-"])
def test_it_draws_on_the_terminal_wherever_one_of_the_outputs_goes(
    terminal: Terminals, tmp_path: Path, redirected: str
) -> None:
    other = tmp_path / "other"
    line = f"{APP} {redirected.replace('other', shlex.quote(str(other)))}"
    with terminal(90, 30, command=shell(f"{line}; echo code $?")) as screen:
        screen.until(lambda text: WELCOME in text)
        screen.resize(84, 26)  # the size is the drawn terminal's, too
        screen.until(lambda text: re.search(r"help *$", text.rstrip().splitlines()[-1]))
        assert "help" in screen.text().splitlines()[25]
        screen.press("q")
        screen.until(lambda text: "code 0" in text)
    assert not other.exists() or other.read_bytes() == b""


@pytest.mark.parametrize(
    ("redirected", "reason"),
    [
        ("</dev/null", "standard input is not a terminal"),
        ("<&-", "standard input is not a terminal"),
        (">other 2>said", "neither standard output nor standard error is a terminal"),
    ],
)
def test_without_a_terminal_it_says_so_in_one_line(
    terminal: Terminals, tmp_path: Path, redirected: str, reason: str
) -> None:
    said = tmp_path / "said"
    line = f"cd {shlex.quote(str(tmp_path))}; {APP} {redirected}"
    with terminal(200, 24, command=shell(f"{line} ; echo code $?")) as screen:
        screen.until(lambda text: "code 2" in text)
        shown = said.read_text(encoding="utf-8") if said.exists() else screen.text()
        assert f"nanogpt-tui: {reason}" in shown
        assert len([each for each in shown.splitlines() if each.strip() and "code" not in each]) == 1


def test_a_pipe_a_closed_stream_and_no_stream_at_all_end_with_one_line() -> None:
    ended = subprocess.run(shell(f"echo q | {APP} >&-"), capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 2
    assert ended.stderr.count("\n") == 1
    assert subprocess.run(shell(f"{APP} <&- >&- 2>&-"), timeout=60, check=False).returncode == 2


def test_with_standard_error_closed_the_end_prints_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    with redirect_stderr(None):
        terminal_run.print_line("saving a checkpoint")
    assert capsys.readouterr().out == ""


def test_a_training_is_finished_also_if_writing_the_settings_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    finished: list[Any] = []

    def fail() -> None:
        raise ZeroDivisionError

    app: Any = SimpleNamespace(run=lambda: 0, session=SimpleNamespace(finish_writing=fail))
    monkeypatch.setattr(terminal_run, "redirect_output", lambda descriptor: nullcontext())
    monkeypatch.setattr(terminal_run, "finish_training", finished.append)
    with pytest.raises(ZeroDivisionError):
        terminal_run.run(app)
    assert finished == [app]


def test_a_terminal_that_moves_no_cursor_is_told_what_to_set(terminal: Terminals) -> None:
    with terminal(200, 24, term="dumb") as screen:
        assert screen.wait() == 2
        assert "TERM=dumb is a terminal without cursor control: set TERM" in screen.text()


def test_bytes_that_are_no_text_end_nothing(terminal: Terminals) -> None:
    with terminal(80, 24) as screen:
        screen.until(lambda text: WELCOME in text)
        screen.send(b"\xff\xc3(\xe2\x82")
        screen.press("1")
        screen.until(lambda text: "licence" in text)
        screen.press("q")
        assert screen.wait() == 0


@pytest.mark.parametrize("pixels", [b"0;0", b"480;800"])
def test_a_click_is_in_cells_whether_or_not_the_terminal_knows_its_pixels(terminal: Terminals, pixels: bytes) -> None:
    with terminal(80, 24) as screen:
        screen.until(lambda text: WELCOME in text)
        screen.send(b"\x1b[?2048;2$y\x1b[48;24;80;" + pixels + b"t")  # it offers mode 2048, and reports its size
        screen.send(b"\x1b[48;0;0;0;0t")  # and then knows not even that
        column = screen.text().splitlines()[0].index("Runs") + 1
        for end in ("M", "m"):
            screen.press(f"\x1b[<0;{column};1{end}")
        screen.until(lambda text: "No runs yet" in text)
        screen.press("q")
        assert screen.wait() == 0


BROKEN = """
import sys, threading
from nanogpt_tui import main
from nanogpt_tui.terminal import driver

def fail(*_):
    raise ZeroDivisionError("a fault of the test")

def start(driver):
    begin(driver)
    {begin}

begin = driver.TerminalDriver.start_application_mode
driver.TerminalDriver.start_application_mode = start
{change}
sys.exit(main([]))
"""
IN_A_THREAD = {
    "the thread that reads": {"change": "driver.TerminalDriver.process_message = fail", "begin": ""},
    "the thread that draws": {"change": "driver.OutputThread._next_data = fail", "begin": ""},
    "another one": {"change": "", "begin": "threading.Thread(target=fail).start()"},
}


@pytest.mark.parametrize("where", IN_A_THREAD)
def test_after_a_crash_of_a_thread_the_exit_code_says_so(terminal: Terminals, home: Path, where: str) -> None:
    with terminal(200, 24, command=[sys.executable, "-c", BROKEN.format(**IN_A_THREAD[where])]) as screen:
        if where != "the thread that draws":
            screen.until(lambda text: "nanogpt" in text)
            screen.press("q")
        assert screen.wait() == 1
        screen.until(lambda text: "unexpected ZeroDivisionError: a fault of the test; details in" in text)
        assert "Traceback" not in screen.text()
    log = (home / "tui.log").read_text(encoding="utf-8")
    assert "in fail" in log
