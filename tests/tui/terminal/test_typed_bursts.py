"""Keys in bursts, over a pseudo-terminal: a field holds what a plain readline would, and nothing is lost on the way.

`benchmarks/key_bursts.py` is the same with 200 keys and gaps of up to 300 ms, which take minutes.
"""

import random
from pathlib import Path
from typing import Any

from tests.typed_bursts import FIELDS, burst_into_a_field, walk_about

KEYS = 40
GAP_S = 0.03


def test_a_field_holds_what_a_plain_readline_would(two_runs: Path, terminal: Any) -> None:
    with terminal(120, 40) as screen:
        screen.until(lambda text: "two" in text)
        for name in FIELDS:
            burst_into_a_field(screen, name, KEYS, GAP_S, random.Random(name))


def test_keys_reach_the_screen_and_the_dialog_that_the_ones_before_them_opened(two_runs: Path, terminal: Any) -> None:
    with terminal(120, 40) as screen:
        screen.until(lambda text: "two" in text)
        walk_about(screen, 2 * KEYS, GAP_S, random.Random(1))
