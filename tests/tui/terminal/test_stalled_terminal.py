"""A terminal that reads nothing any more: training does not notice, and the app still obeys and ends."""

import json
import signal
import time
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import tomli_w

STALLED_S = 3.0


def until(condition: Callable[[], object], timeout_s: float = 60) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, f"not within {timeout_s} s"
        time.sleep(0.05)


def test_training_goes_on_and_kill_is_obeyed_when_nobody_reads(
    terminal: Callable[..., AbstractContextManager[Any]], home: Path, rhymes: dict[str, Any]
) -> None:
    changes = rhymes | {"max_iters": 10**6, "eval_interval": 10**6, "sample_interval": 0}
    settings = {"quickstart": changes, "repaints_per_second": 20}
    (home / "config" / "tui.toml").write_text(tomli_w.dumps(settings), encoding="utf-8")
    file = home / "runs" / "quickstart" / "status.json"

    def status() -> dict[str, Any]:
        return dict(json.loads(file.read_text(encoding="utf-8")))

    with terminal(120, 40) as screen:
        screen.until(lambda text: "Nothing has been trained here yet." in text)
        screen.press("g")
        screen.until(lambda text: "ETA" in text and "train loss" in text)
        until(lambda: file.exists() and status()["step"] > 0)
        end = time.monotonic() + STALLED_S
        while time.monotonic() < end:  # from here on nothing is read: more is drawn than any buffer takes
            screen.press("l")
            time.sleep(0.02)
        step = status()["step"]
        until(lambda: status()["step"] > step)
        screen.process.send_signal(signal.SIGTERM)
        assert screen.process.wait(60) == 0
    assert status()["state"] == "stopped"


def test_a_terminal_that_reads_again_shows_what_is_there_now(
    terminal: Callable[..., AbstractContextManager[Any]], home: Path
) -> None:
    with terminal(120, 40) as screen:
        screen.until(lambda text: "Nothing has been trained here yet." in text)
        end = time.monotonic() + STALLED_S
        while time.monotonic() < end:
            screen.press("1")
            time.sleep(0.03)
            screen.press("2")
            time.sleep(0.03)
        screen.press("4")
        screen.until(lambda text: "No runs yet" in text)
        screen.press("2")
        screen.until(lambda text: "Nothing has been trained here yet." in text)
        screen.press("q")
        assert screen.wait() == 0
