"""How long a key takes to be seen if the runs are on a slow disk, and which keys make the interface wait for it.

    python benchmarks/slow_disk.py [--runs 500] [--delay_ms 20]

Makes runs in a temporary folder, and lets every call that opens, lists or looks at a file below it take `--delay_ms`,
as on a network disk. Presses keys on the screens of the app. Prints for each key the time until a frame that was begun
after it was handled, and the calls that were made in the interface's thread meanwhile, with the line that made them:
there must be none.
"""

import argparse
import asyncio
import builtins
import io
import os
import sys
import tempfile
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from shutil import copytree
from typing import Any

from textual.events import Key
from textual.keys import _character_to_key

from nanogpt_tui.app import LabApp
from nanogpt_tui.settings import Settings

CALLS = (
    *((os, name) for name in ("stat", "lstat", "scandir", "listdir", "open", "mkdir", "rename", "replace", "unlink")),
    (io, "open"),
    (builtins, "open"),
)
# By screen: the key of the screen, and keys that change nothing on the disk
TOUR = {
    "Train": ("2", ("l", "a", "o", "escape", "y", "escape", "h", "escape", "v", "v")),
    "Runs": ("4", ("down", "down", "space", "down", "v", "v", "L", "y", "escape", "i", "escape", "e", "escape", "R",
                   "escape", "d", "escape", "slash", "1", "escape")),
    "Sample": ("3", ("t", "T", "w", "escape")),
    "Data": ("1", ("down", "up", "y", "escape")),
    "Learn": ("5", ("down", "up")),
    "New run": ("2", ("n", "right", "right", "tab", "right", "right", "tab", "left", "escape")),
    "Path": ("1", ("a", "~", "slash", "t", "tab", "enter", "escape")),
    "Tokenizers": ("1", ("t", "ctrl+t", "tab", "left", "tab", "~", "slash", "t", "ctrl+s", "escape")),
    "Palette": ("4", ("ctrl+p", "r", "u", "n", "escape")),
}  # fmt: skip


class SlowDisk:
    """Slows calls about paths below `root` down, and remembers those in the interface's thread."""

    def __init__(self, root: Path, delay_s: float) -> None:
        self.root, self.delay_s = str(root), delay_s
        self.waits: list[str] = []
        self._originals = [(module, name, getattr(module, name)) for module, name in CALLS]
        for module, name, function in self._originals:
            setattr(module, name, self._slow(name, function))

    def stop(self) -> None:
        for module, name, function in self._originals:
            setattr(module, name, function)

    def _slow(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(path: Any = ".", *args: Any, **options: Any) -> Any:
            if not isinstance(path, int) and os.fsdecode(path).startswith(self.root):
                if threading.current_thread() is threading.main_thread():
                    ours = [f for f in traceback.extract_stack() if "nanogpt" in f.filename]
                    self.waits.append(f"{name} {Path(ours[-1].filename).name}:{ours[-1].lineno} {ours[-1].name}")
                time.sleep(self.delay_s)
            return function(path, *args, **options)

        return call


async def pressed(app: LabApp, key: str) -> float:
    """Press a key, and return the seconds until a frame that was begun after it was handled."""
    painted, display = asyncio.Event(), app._display
    is_handled = False

    def seen(*frame: Any) -> None:
        display(*frame)
        if is_handled:
            painted.set()

    app._display = seen  # type: ignore[method-assign]
    began = time.perf_counter()
    letter = key if len(key) == 1 else None
    app.post_message(Key(_character_to_key(key) if letter else key, letter))
    await app.input.join()
    is_handled = True
    app.screen.refresh()
    await asyncio.wait_for(painted.wait(), 60)
    app._display = display  # type: ignore[method-assign]
    return time.perf_counter() - began


async def measure(disk: SlowDisk) -> bool:
    """Press the keys; return whether none waited for the disk."""
    app, is_good = LabApp(Settings()), True
    async with app.run_test(size=(120, 40)):
        await asyncio.sleep(3)
        for screen, (first, keys) in TOUR.items():
            while len(app.screen_stack) > 1:
                app.pop_screen()
                await asyncio.sleep(0.1)
            taken = []
            for key in (first, *keys):
                disk.waits.clear()
                taken.append((await pressed(app, key), key))
                await asyncio.sleep(0.5)  # what it started in a thread is shown
                for where, count in Counter(disk.waits).items():
                    is_good = False
                    print(f"  {screen}, {key}: {count} × {where}")
            slowest, key = max(taken)
            half = sorted(each for each, _ in taken)[len(taken) // 2]
            print(f"{screen:>8}: median {half * 1e3:4.0f} ms, slowest {slowest * 1e3:4.0f} ms ({key})", flush=True)
    app.session.close()
    return is_good


def make_runs(home: Path, count: int) -> None:
    """Train one small run, and copy it."""
    from nanogpt import data, runs
    from nanogpt.config import resolve
    from nanogpt.data.recipes import textfile_recipe

    text = home / "text.txt"
    text.write_text("one two three four five six seven eight nine ten\n" * 400)
    for _ in data.prepare(textfile_recipe([str(text)], name="lines", tokenizer="char")):
        pass
    small = {"n_layer": 1, "n_head": 1, "n_embd": 8, "block_size": 16, "batch_size": 2, "max_iters": 20,
             "eval_interval": 10, "eval_iters": 1, "device": "cpu", "dtype": "float32", "compile": False, "threads": 1,
             "sample_interval": 10, "sample_tokens": 8, "dataset": "lines"}  # fmt: skip
    first = home / "runs" / "run-000"
    for _ in runs.start(resolve(flags=small).config, first):
        pass
    for number in range(1, count):
        copytree(first, first.with_name(f"run-{number:03}"))


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runs", type=int, default=500)
    parser.add_argument("--delay_ms", type=float, default=20)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as home:
        os.environ |= {"NANOGPT_HOME": home, "HOME": home} | {
            f"NANOGPT_{name.upper()}_DIR": f"{home}/{name}" for name in ("runs", "data", "cache", "config")
        }
        make_runs(Path(home), options.runs)
        disk = SlowDisk(Path(home), options.delay_ms / 1e3)
        is_good = asyncio.run(measure(disk))
        disk.stop()
    return 0 if is_good else 1


if __name__ == "__main__":
    status = main()
    sys.stdout.flush()
    os._exit(status)  # threads of the app may still run torch's code, which aborts a process that exits normally
