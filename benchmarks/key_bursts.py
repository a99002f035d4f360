"""Bursts of keys into every field and over the screens, with random gaps: is each field what a plain readline holds?

    python benchmarks/key_bursts.py [--keys 200] [--longest_gap 0.3] [--bursts 1] [--seed 0] [--columns 120] [--rows 40]

Goes to each field in a pseudo-terminal, types random letters and editing keys, and compares what is shown with what
readline would hold; then walks over the screens at random, with keys that open dialogs, type into them and close them.
A third of the keys come in one piece with the one before. Exit code 1 where something differs. The two runs that it
needs are trained first, in a second.
"""

import argparse
import os
import random
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from tests.tui.conftest import SMALL, opened_terminal
from tests.typed_bursts import FIELDS, burst_into_a_field, walk_about


def train_two(home: Path) -> None:
    from nanogpt import data, runs
    from nanogpt.config import resolve

    text = home / "rhymes.txt"
    text.write_text("the quick brown fox jumps over the lazy dog\n" * 400, encoding="utf-8")
    for _ in data.prepare(data.textfile_recipe([text], name="rhymes")):
        pass
    for name in ("one", "two"):
        config = resolve(flags=SMALL | {"compile": "false", "max_iters": 20, "sample_interval": 0}).config
        for _ in runs.start(config, home / "runs" / name):
            pass


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--keys", type=int, default=200, help="of a burst")
    parser.add_argument("--longest_gap", type=float, default=0.3, help="seconds")
    parser.add_argument("--bursts", type=int, default=1, help="into each field, and over the screens")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--columns", type=int, default=120)
    parser.add_argument("--rows", type=int, default=40)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        os.environ |= {"NANOGPT_HOME": folder, "NANOGPT_CONFIG_DIR": f"{folder}/config"}
        train_two(Path(folder))
        for number in range(options.bursts):
            with opened_terminal(options.columns, options.rows) as screen:
                screen.until(lambda text: "two" in text)
                for name in ("over the screens", *FIELDS):  # the first expects an empty prompt
                    chance, began = random.Random(f"{options.seed} {number} {name}"), time.monotonic()
                    try:
                        if name in FIELDS:
                            burst_into_a_field(screen, name, options.keys, options.longest_gap, chance)
                        else:
                            walk_about(screen, options.keys, options.longest_gap, chance)
                        print(f"{name}: {options.keys} keys in {time.monotonic() - began:.0f} s, all right", flush=True)
                    except AssertionError as error:
                        print(f"{name}: {error}", flush=True)
                        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
