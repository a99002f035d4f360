"""How long each lesson takes in the app: started and done by its keys in a pseudo-terminal, on an empty home.

    python benchmarks/lessons_in_terminal.py [--sizes 80x24 120x40] [--lessons 3 6] [--limit_s 60] [--show]

For each lesson the seconds from Enter until it is done, until its last key has had its effect, and the kilobytes that
were sent to the terminal. --show prints the screen at the end. Exit code 1 if a lesson is not done, takes longer than
the limit, or says that something unexpected happened.
"""

import argparse
import os
import re
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pyte
from terminals import Terminal

KEYS = {  # of each lesson, after Enter has started it; "\r" ends a line
    1: ["na\u00efve words\r"],
    2: ["\r"] * 40,
    3: ["s", "t"],
    4: ["0.01\r"],
    5: ["ie\r"],
    6: ["-", ">", "iabcabc\r"],
    7: ["n", "a", "r"],
    8: ["d", "m"],
    9: ["w", "+", "+", "+", "w"],
    10: ["m"],
}
BUSY = re.compile(r"[━─]{16} +\d+%|working …")
RIGHT = "\x1b[C"
STILL_S = 0.6  # how long the screen does not change after a key


class Screen(Terminal):
    """The app in a pseudo-terminal, with what its screen shows."""

    def __init__(self, size: tuple[int, int], env: dict[str, str]) -> None:
        self._lock = threading.Lock()
        self._screen = pyte.Screen(*size)
        self._stream = pyte.ByteStream(self._screen)
        super().__init__([sys.executable, "-m", "nanogpt_tui"], env, size=size)

    def take(self, data: bytes) -> None:
        super().take(data)
        with self._lock:
            self._stream.feed(re.sub(rb"\x1b\[[<>=][0-9;]*[a-zA-Z]", b"", data))

    def text(self) -> str:
        """Return what is on the screen now."""
        with self._lock:
            return "\n".join(self._screen.display)

    def do(self, keys: str, limit_s: float = 60) -> str:
        """Press keys; return the screen once they have had an effect, nothing is computed, and it has stood still for a
        moment. Raise `TimeoutError`."""
        first = before = self.text()
        self.press(keys)
        end, since = time.monotonic() + limit_s, time.monotonic()
        while time.monotonic() < end:
            text = self.text()
            if text != before or text == first or BUSY.search(text):
                before, since = text, time.monotonic()
            elif time.monotonic() - since > STILL_S:
                return text
            time.sleep(0.05)
        raise TimeoutError(f"still busy after {limit_s:g} s:\n{self.text()}")


@contextmanager
def opened(size: tuple[int, int]) -> Iterator[Screen]:
    """The app on the Learn screen, in a home of its own."""
    with tempfile.TemporaryDirectory() as home:
        folders = {f"NANOGPT_{name}_DIR": str(Path(home) / name) for name in ("RUNS", "DATA", "CACHE", "CONFIG")}
        screen = Screen(size, os.environ | folders | {"NANOGPT_HOME": home})
        try:
            end = time.monotonic() + 60
            while "quick start" not in screen.text() and time.monotonic() < end:
                time.sleep(0.1)
            screen.do("5")
            yield screen
        finally:
            screen.process.kill()
            screen.process.wait()


def learn(screen: Screen, number: int, limit_s: float) -> tuple[float, str]:
    """Do a lesson; return the seconds that it took, and the screen at its end."""
    began = time.monotonic()
    text = screen.do("\r", limit_s)
    for keys in KEYS[number]:
        text = screen.do(keys, limit_s)
        if "lesson done" in text and keys == "\r":
            break
    return time.monotonic() - began, text


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", nargs="+", default=["80x24", "120x40"])
    parser.add_argument("--lessons", nargs="+", type=int, default=list(KEYS))
    parser.add_argument("--limit_s", type=float, default=60.0)
    parser.add_argument("--show", action="store_true")
    options = parser.parse_args()
    failed = False
    for size in options.sizes:
        columns, rows = map(int, size.split("x"))
        for number in options.lessons:
            with opened((columns, rows)) as screen:
                for _ in range(number - 1):
                    screen.do(RIGHT)
                sent = screen.read
                seconds, text = learn(screen, number, 2 * options.limit_s)
                is_good = "lesson done" in text and seconds < options.limit_s and "unexpected" not in text
                failed |= not is_good
                mark = "✓" if is_good else "✗"
                print(f"{size:>7}  lesson {number:>2}  {seconds:5.1f} s  {(screen.read - sent) / 1e3:6.1f} kB  {mark}")
                if options.show or not is_good:
                    print(text)
    sys.exit(failed)


if __name__ == "__main__":
    main()
