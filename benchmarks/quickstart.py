"""What the quick start of the app comes to, and what it came to with the recipe that it had before.

    python benchmarks/quickstart.py --source TINY_SHAKESPEARE [--limit_s 15] [--better_by 0.3]

Starts the app in a pseudo-terminal of 120 × 40 and of 80 × 24, each in an empty home with tiny Shakespeare prepared,
presses Enter, and reads the screen: when the sample that it shows is legible, which is when half of its words of two
letters and more, ten at least, are words of the training text. Once the run is finished: the validation loss of its
best weights over the whole split, and whether its checkpoints write different texts from one seed. Then the same with
the recipe of before. All of them share the machine's speed of that time: compare figures of one call alone. Exit code 1
where a bound is missed.
"""

import argparse
import json
import os
import re
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pyte
import tomli_w
from terminals import Terminal, until

WORD = re.compile(r"[a-z']{2,}")
LEGIBLE, FEWEST_WORDS = 0.5, 10
# The preset `quickstart` as it was with GPT-2's block, as settings of this version.
BEFORE: dict[str, Any] = {
    "architecture": "gpt2",
    "optimizer": "adamw",
    "n_layer": 4,
    "n_head": 4,
    "n_embd": 128,
    "block_size": 64,
    "batch_size": 16,
    "learning_rate": 3e-3,
    "min_lr": "none",
    "warmup_iters": 100,
    "beta2": 0.99,
    "grad_clip": 1.0,
    "eval_iters": 20,
    "keep_checkpoints": 0,
    "sample_tokens": 150,
}


@dataclass(frozen=True)
class Outcome:
    """Seconds count from the key that starts it; `legible_s` is None where it never was."""

    legible_s: float | None
    finished_s: float
    trained_s: float
    steps: int
    val_loss: float
    checkpoints: list[int]
    texts: int  # how many different ones the checkpoints write


class Screen(Terminal):
    """A terminal whose picture can be read."""

    def __init__(self, command: list[str], env: dict[str, str], size: tuple[int, int]) -> None:
        self._screen, self._lock = pyte.Screen(*size), threading.Lock()
        self._stream = pyte.ByteStream(self._screen)
        super().__init__(command, env, size=size)

    def take(self, data: bytes) -> None:
        super().take(data)
        with self._lock:  # pyte takes the "<" of private sequences for text
            self._stream.feed(re.sub(rb"\x1b\[[<>=][0-9;]*[a-zA-Z]", b"", data))

    def text(self) -> str:
        with self._lock:
            return "\n".join(self._screen.display)


def sample_of(screen: str) -> str:
    """The text under “watch it learn”, up to the next line or the keys; empty as long as there is no sample."""
    title, *shown = screen.partition("watch it learn")[2].splitlines()[:-1] or [""]
    if "step" not in title:
        return ""
    ends = next((at for at, line in enumerate(shown) if "───" in line), len(shown))
    return "\n".join(shown[:ends])


def share_of_words(text: str, known: set[str]) -> float:
    """Which part of the words of a text are `known`; 0 where there are too few to say."""
    words = WORD.findall(text.lower())
    return sum(word in known for word in words) / len(words) if len(words) >= FEWEST_WORDS else 0.0


def measured(home: Path, size: tuple[int, int], settings: dict[str, Any], known: set[str]) -> Outcome:
    """One quick start, in a home of its own but for the data set."""
    folder = home / "runs" / "quickstart"
    environment = {**os.environ, "NANOGPT_HOME": str(home), "NANOGPT_CONFIG_DIR": str(home)}
    (home / "tui.toml").write_text(tomli_w.dumps({"quickstart": settings}), encoding="utf-8")
    terminal = Screen([sys.executable, "-m", "nanogpt_tui"], environment, size)
    try:
        until(lambda: "quick start" in terminal.text())
        terminal.press("\r")
        began, legible_s = time.monotonic(), None

        def finished() -> bool:
            nonlocal legible_s
            if legible_s is None and share_of_words(sample_of(terminal.text()), known) >= LEGIBLE:
                legible_s = time.monotonic() - began
            status = folder / "status.json"
            return status.exists() and json.loads(status.read_text(encoding="utf-8"))["state"] == "finished"

        until(finished, 600)
        finished_s = time.monotonic() - began
    finally:
        terminal.process.kill()
        terminal.process.wait()
    return Outcome(legible_s, finished_s, *judged(folder, home))


def judged(folder: Path, home: Path) -> tuple[float, int, float, list[int], int]:
    """What is left of a run: seconds of training, steps, the loss over the whole split, and what its checkpoints do."""
    from nanogpt import runs, sampling
    from nanogpt.config import SamplingConfig, with_settings
    from nanogpt.events import Evaluated, Finished, Token
    from nanogpt.runs.folder import run_config

    end = next(event for event in runs.history(folder) if isinstance(event, Finished))
    again = {"init_from": str(folder), "eval_only": True, "eval_iters": 0}
    config = with_settings(run_config(folder), again)
    events = runs.start(config, home / "runs" / "none", data_dir=home / "datasets")
    val_loss = next(event.val_loss for event in events if isinstance(event, Evaluated))
    steps, texts = [checkpoint.step for checkpoint in runs.list_checkpoints(folder)], set()
    for step in steps:
        loaded = runs.load_model(str(folder), str(step))
        written = sampling.generate(loaded.model, loaded.tokenizer, "", SamplingConfig(max_new_tokens=100))
        texts.add("".join(event.text for event in written if isinstance(event, Token)))
    return end.elapsed_s, end.step, val_loss, steps, len(texts)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--source", type=Path, required=True, help="tiny Shakespeare")
    parser.add_argument("--limit_s", type=float, default=15, help="until its words are legible")
    parser.add_argument("--better_by", type=float, default=0.3, help="nats over the whole validation split")
    options = parser.parse_args()
    from nanogpt import data

    known = set(WORD.findall(options.source.read_text(encoding="utf-8").lower()))
    outcomes = {}
    for name, size, settings in (
        ("120 × 40", (120, 40), {}),
        ("before", (120, 40), BEFORE),
        ("80 × 24", (80, 24), {}),
    ):
        with tempfile.TemporaryDirectory() as folder:
            home = Path(folder)
            for _ in data.prepare("shakespeare_char", source=options.source, data_dir=home / "datasets"):
                pass
            outcomes[name] = it = measured(home, size, settings, known)
        legible = "never" if it.legible_s is None else f"after {it.legible_s:.1f} s"
        print(
            f"{name:8}  legible {legible}, finished after {it.finished_s:.1f} s ({it.trained_s:.1f} s of training, "
            f"{it.steps} steps), loss {it.val_loss:.4f}, checkpoints {it.checkpoints} write {it.texts} different texts",
            flush=True,
        )
    before = outcomes.pop("before")
    found = outcomes.values()
    checks = {
        f"legible within {options.limit_s:g} s": all((it.legible_s or 1e9) <= options.limit_s for it in found),
        f"at least {options.better_by:g} nats better": all(
            before.val_loss - it.val_loss >= options.better_by for it in found
        ),
        "two checkpoints write different texts": all(it.texts >= 2 for it in found),
    }
    for name, holds in checks.items():
        print(f"{'yes' if holds else 'NO ':3}  {name}")
    return int(not all(checks.values()))


if __name__ == "__main__":
    sys.exit(main())
