"""The whole way in a real pseudo-terminal, whose screen a terminal emulator reads: first start to quit."""

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


@pytest.mark.parametrize(("columns", "rows"), [(80, 24), (120, 40)])
def test_from_the_first_start_to_a_falling_loss_and_out_again(
    quick: dict[str, Any], home: Path, terminal: Any, columns: int, rows: int
) -> None:
    with terminal(columns, rows) as screen:
        screen.until(lambda text: "Nothing has been trained here yet." in text)
        screen.press("\r")
        first = screen.until(lambda text: shown_loss(text) is not None)
        begun = shown_loss(first)
        assert begun is not None
        later = screen.until(lambda text: (shown_loss(text) or 9.0) < begun - 0.2)
        assert any(0x2800 < ord(char) < 0x2900 for char in later)  # a curve in braille
        screen.press(" ")
        screen.until(lambda text: "paused" in text)
        screen.press(" ")
        screen.until(lambda text: "paused" not in text)
        screen.press("q")
        screen.until(lambda text: "A run is being trained." in text)
        screen.press("s")
        assert screen.wait() == 0
        assert "Traceback" not in screen.text()
    saved = list((home / "runs" / "quickstart" / "checkpoints").glob("step-*/trainer.json"))
    assert saved


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
