"""The whole way in a real pseudo-terminal, whose screen a terminal emulator reads: first start to quit."""

import json
import re
import signal
from pathlib import Path
from typing import Any

import pytest
import tomli_w


@pytest.fixture
def quick(home: Path, rhymes: dict[str, Any]) -> dict[str, Any]:
    """The quick start in the settings file trains a tiny model for long."""
    changes = rhymes | {"max_iters": 100_000, "eval_interval": 200, "sample_interval": 200, "learning_rate": 0.001}
    (home / "config").mkdir(exist_ok=True)
    (home / "config" / "tui.toml").write_text(tomli_w.dumps({"quickstart": changes}), encoding="utf-8")
    return changes


def shown_loss(text: str) -> float | None:
    found = re.search(r"train loss\s+(\d\.\d+)", text)
    return float(found[1]) if found else None


def test_from_the_first_start_to_a_falling_loss_and_out_again(quick: dict[str, Any], home: Path, terminal: Any) -> None:
    with terminal(80, 24) as screen:
        screen.until(lambda text: "Nothing has been trained here yet." in text)
        screen.press("\r")
        first = screen.until(lambda text: shown_loss(text) is not None)
        begun = shown_loss(first)
        assert begun is not None
        later = screen.until(lambda text: (shown_loss(text) or 9.0) < begun - 0.2)
        assert any(0x2800 < ord(char) < 0x2900 for char in later)  # a curve in braille
        screen.press(" ")
        screen.until(lambda text: "paused" in text)
        knobs_turned_while_it_writes_change_the_text(screen, home / "texts.json")
        screen.press("2")
        screen.until(lambda text: "train loss" in text)
        screen.press(" ")
        screen.until(lambda text: "paused" not in text)
        screen.press("q")
        screen.until(lambda text: "A run is training." in text)
        screen.press("s")
        assert screen.wait() == 0
        assert "Traceback" not in screen.text()
    saved = list((home / "runs" / "quickstart" / "checkpoints").glob("step-*/trainer.json"))
    assert saved


def knobs_turned_while_it_writes_change_the_text(screen: Any, file: Path) -> None:
    """On the Sample screen, with the weights in training: the temperature goes down to 0 in the middle of a text. The
    same seed without that writes the same up to there, and something else afterwards."""
    screen.press("3")
    screen.until(lambda text: "temp" in text and "length" in text)
    screen.press("NNNN")
    screen.until(lambda text: re.search(r"length +10000", text))
    screen.press("g")
    screen.until(lambda text: written(text) > 20)
    screen.press("t" * 16)
    cold = written(screen.until(lambda text: re.search(r"temp\S* +0\.00", text)))
    later = written(screen.until(lambda text: written(text) > cold))  # counted after the temperature was shown
    enough = written(screen.until(lambda text: written(text) > later + 60))
    screen.press("\x1b")
    screen.until(lambda text: "stopped by you" in text)
    screen.press("T" * 16)
    screen.until(lambda text: re.search(r"temp\S* +0\.80", text))
    screen.press("g")
    screen.until(lambda text: "writing" in text)
    screen.until(lambda text: written(text) > enough)
    screen.press("\x1b")
    screen.until(lambda text: "stopped by you" in text)
    screen.press("e")
    screen.until(lambda text: "Export the history" in text and "samples-" in text)
    screen.press("\x15")  # ctrl+u, which Textual obeys after what is typed right behind it
    screen.until(lambda text: "samples-" not in text)
    screen.press(str(file))
    screen.until(lambda text: file.name in text)
    screen.press("\r")
    screen.until(lambda text: file.exists())
    screen.until(lambda text: "Export the history" not in text)
    (turned,), (plain,) = json.loads(file.read_text(encoding="utf-8"))["rounds"]
    assert [(each["knobs"]["seed"], each["knobs"]["temperature"]) for each in (turned, plain)] == [(1337, 0.8)] * 2
    assert turned["weights"] == "live"
    assert turned["turned"][-1]["knobs"]["temperature"] == 0
    assert plain["turned"] == []
    first, last = turned["turned"][0]["from_token"], turned["turned"][-1]["from_token"]
    ids, others = ([token["id"] for token in take["tokens"]][:enough] for take in (turned, plain))
    assert first > 20
    assert ids[:first] == others[:first]
    assert ids[last:] != others[last:]


def written(text: str) -> int:
    """How many tokens the Sample screen says that there are."""
    found = re.search(r"(\d[\d,]*) tokens(?!/s)", text)
    return int(found[1].replace(",", "")) if found else 0


def test_a_terminated_app_leaves_a_saved_run(quick: dict[str, Any], home: Path, terminal: Any) -> None:
    with terminal(80, 24) as screen:
        screen.until(lambda text: "Nothing has been trained here yet." in text)
        screen.press("g")
        screen.until(lambda text: shown_loss(text) is not None)
        screen.process.send_signal(signal.SIGTERM)
        screen.wait()
    status = (home / "runs" / "quickstart" / "status.json").read_text(encoding="utf-8")
    assert '"state": "stopped"' in status
    step = re.search(r'"step": (\d+)', status)
    assert step is not None
    assert (home / "runs" / "quickstart" / "checkpoints" / f"step-{int(step[1]):08d}").exists()
