"""What becomes of a training when its terminal goes away, or is left: real pseudo-terminals, real processes."""

import os
import re
import shlex
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from shutil import rmtree
from types import SimpleNamespace
from typing import Any

import pytest
import tomli_w

from nanogpt import runs
from nanogpt.cli import main
from nanogpt.events import Finished
from nanogpt.training import SetMaxIters
from nanogpt_tui.terminal import daemonize
from nanogpt_tui.terminal.daemonize import has_exited
from nanogpt_tui.terminal.run import finish_training
from tests.narrowing import expect
from tests.tui.conftest import kill_trainer


@pytest.fixture
def run(home: Path, rhymes: dict[str, Any]) -> Iterator[Path]:
    """The folder of the run that the quick start will train for long; nobody trains it when the test has ended."""
    changes = rhymes | {"max_iters": 10_000_000, "eval_interval": 1000, "sample_interval": 0, "compile": "false"}
    (home / "config" / "tui.toml").write_text(tomli_w.dumps({"quickstart": changes}), encoding="utf-8")
    folder = home / "runs" / "quickstart"
    yield folder
    kill_trainer(folder)


def shown_loss(text: str) -> float | None:
    found = re.search(r"train loss\s+(\d\.\d+)", text)
    return float(found[1]) if found else None


def begin(screen: Any) -> None:
    screen.until(lambda text: "Nothing has been trained here yet." in text)
    screen.press("g")
    screen.until(lambda text: shown_loss(text) is not None)


def until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s} s"
        time.sleep(0.05)


def lives(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def goes_on(run: Path) -> bool:
    """Waits until it has trained some steps more."""
    held = runs.summary(run).step
    until(lambda: runs.summary(run).step > held)
    return runs.summary(run).state == "running"


def test_a_training_outlives_its_terminal_and_is_seen_from_another(run: Path, terminal: Any, capfd: Any) -> None:
    with terminal(80, 24) as screen:
        begin(screen)
        pid = runs.summary(run).pid
        screen.close()
        assert screen.process.wait(60) == 0
    assert goes_on(run)
    assert main(["watch", "--once"]) == 0
    assert "quickstart  training" in capfd.readouterr().out
    with terminal(120, 40, "watch", "quickstart", "--readonly") as screen:
        first = shown_loss(screen.until(lambda text: shown_loss(text) is not None))
        screen.until(lambda text: shown_loss(text) not in (None, first))
        screen.press("q")
        assert screen.wait() == 0  # and does not ask: it is not this one's
    assert goes_on(run)
    runs.send_command(run, SetMaxIters(1))  # which is past: it ends here
    until(lambda: not lives(pid))
    end = runs.history(run)[-1]
    assert isinstance(end, Finished)
    assert end.reason == "max_iters"
    assert expect(runs.Checkpoint, runs.latest(run)).step == end.step
    assert runs.summary(run).state == "finished"


def test_a_training_that_is_left_in_the_background_gives_the_shell_back_and_says_how_to_reach_it(
    run: Path, terminal: Any
) -> None:
    with terminal(120, 40) as screen:
        begin(screen)
        pid = runs.summary(run).pid
        screen.press("q")
        screen.until(lambda text: "keep training in the background" in text)
        screen.press("b")
        assert screen.wait() == 0
        screen.until(lambda text: "Watch: nanogpt watch quickstart  Stop: nanogpt ctl" in text)
        assert goes_on(run)  # while the terminal is still there
        assert Path(f"/proc/{pid}/fd/0").readlink() == Path(os.devnull)
    os.kill(pid, signal.SIGHUP)  # nobody's affair any more
    assert goes_on(run)
    os.kill(pid, signal.SIGTERM)
    until(lambda: not lives(pid))
    about = runs.summary(run)
    assert about.state == "stopped"
    assert expect(runs.Checkpoint, runs.latest(run)).step == about.step


def is_blocked(folder: Path) -> bool:
    """Put a file in the place of a folder, which then nobody can make; False if the trainer was faster."""
    rmtree(folder, ignore_errors=True)
    with suppress(OSError):
        folder.touch()
    return folder.is_file()


def test_a_training_that_cannot_be_saved_at_its_end_says_why(run: Path, terminal: Any) -> None:
    with terminal(120, 40) as screen:
        begin(screen)
        until(lambda: is_blocked(run / "checkpoints"))
        os.kill(runs.summary(run).pid, signal.SIGTERM)
        assert screen.wait() == 1
        screen.until(lambda text: "no checkpoint can be saved" in text)


def test_a_sigterm_that_the_supervisor_sends_again_does_not_end_the_saving(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    codes: list[int] = []

    def wait() -> None:
        os.kill(os.getpid(), signal.SIGTERM)
        assert codes == []
        os.kill(os.getpid(), signal.SIGINT)  # Ctrl+C quits without saving
        assert codes == [128 + signal.SIGINT]

    monkeypatch.setattr(os, "_exit", codes.append)
    session = SimpleNamespace(
        training=SimpleNamespace(wait=wait), is_training=True, is_preparing=False, folder=home / "runs" / "x",
        save_problem="", stop_training=lambda: None,
    )  # fmt: skip
    app: Any = SimpleNamespace(session=session, detached=False)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
    handlers = [signal.getsignal(number) for number in numbers]
    try:
        assert finish_training(app) == ""
    finally:
        for number, handler in zip(numbers, handlers, strict=True):
            signal.signal(number, handler)


def test_the_commands_for_a_run_in_the_background_can_be_pasted_whatever_its_name(
    home: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    session = SimpleNamespace(
        training=None, is_training=False, is_starting=False, is_alive=True, folder=home / "runs" / "it's mine",
        remote=SimpleNamespace(is_ours=True),
    )  # fmt: skip
    app: Any = SimpleNamespace(session=session, detached=False)
    finish_training(app)
    watch, stop = capfd.readouterr().err.partition("Watch: ")[2].split("  Stop: ")
    assert shlex.split(watch) == ["nanogpt", "watch", "it's mine"]
    assert shlex.split(stop) == ["nanogpt", "ctl", "it's mine", "stop"]


def test_a_process_that_exited_is_known_where_the_system_tells_and_keeps_its_code(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    child = subprocess.Popen(["sh", "-c", "exit 3"])
    until(lambda: has_exited(child.pid))
    with monkeypatch.context() as patch:
        patch.delattr(os, "waitid")  # as on macOS before Python 3.13
        assert not has_exited(child.pid)
    assert child.wait(60) == 3


def test_only_a_child_that_stays_stopped_counts_as_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def stopping_child() -> int:
        return os.spawnlp(os.P_NOWAIT, "sh", "sh", "-c", "kill -STOP $$; exit 3")

    child = stopping_child()
    assert os.WIFSTOPPED(daemonize._wait_for(child))
    os.kill(child, signal.SIGCONT)
    assert os.waitstatus_to_exitcode(daemonize._wait_for(child)) == 3

    child = stopping_child()
    as_fg_does = SimpleNamespace(sleep=lambda seconds: os.kill(child, signal.SIGCONT))
    monkeypatch.setattr(daemonize, "time", as_fg_does)
    assert os.waitstatus_to_exitcode(daemonize._wait_for(child)) == 3


def test_an_app_whose_first_process_is_killed_saves_and_ends(run: Path, terminal: Any) -> None:
    with terminal(80, 24) as screen:
        begin(screen)
        pid = runs.summary(run).pid
        screen.process.kill()
    until(lambda: not lives(pid))
    about = runs.summary(run)
    assert about.state == "stopped"
    assert expect(runs.Checkpoint, runs.latest(run)).step == about.step


def test_an_app_that_is_killed_leaves_a_terminal_that_can_be_used(run: Path, terminal: Any) -> None:
    with terminal(80, 24) as screen:
        before = screen.modes
        screen.send(b"\x1b[?2048;2$y")  # it can report its size
        begin(screen)
        assert 2048 in screen.modes
        os.kill(runs.summary(run).pid, signal.SIGKILL)
        assert screen.wait() == 128 + signal.SIGKILL
        screen.until(lambda text: "ended by a signal (Killed); the run can be resumed" in text)
        assert screen.modes == before
    assert runs.summary(run).state == "interrupted"
