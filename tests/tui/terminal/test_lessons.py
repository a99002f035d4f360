"""Lessons in a real pseudo-terminal, from the start of the app until they are done; `benchmarks/lessons_in_terminal.py`
does all of them at all sizes."""

from pathlib import Path
from typing import Any

import pytest

from nanogpt.learn import progress

RIGHT, DOWN = "\x1b[C", "\x1b[B"


@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
def test_a_training_step_is_taken_key_by_key(home: Path, terminal: Any, size: tuple[int, int]) -> None:
    with terminal(*size) as screen:
        screen.until(lambda text: "Nothing has been trained here yet." in text)
        screen.press("5")
        screen.until(lambda text: "▸ 1 Text becomes tokens" in text)
        screen.press(RIGHT + RIGHT)
        screen.until(lambda text: "▸ 3 One training step" in text and "enter starts the experiment" in text)
        screen.press("\r")
        screen.until(lambda text: "s one step" in text)
        screen.press("ssss")
        screen.until(lambda text: "✓ lesson done" in text and "One training step ✓" in text)
        screen.press(DOWN * 8)  # at 80 × 24 to what is below
        found = screen.until(lambda text: "Step 4 moved each weight by" in text)
        assert "Traceback" not in found
        screen.press("q")
        assert screen.wait() == 0
    assert progress.load().done == {"one_step"}
