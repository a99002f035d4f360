"""Random keys in bursts, and what a plain readline would make of them: for the test and the benchmark of typing."""

import random
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

EDIT = {
    "left": "\x1b[D",
    "right": "\x1b[C",
    "home": "\x1b[H",
    "end": "\x1b[F",
    "backspace": "\x7f",
    "delete": "\x1b[3~",
    "ctrl+a": "\x01",
    "ctrl+e": "\x05",
    "ctrl+u": "\x15",
    "ctrl+k": "\x0b",
}
LETTERS = "abcdefghijklmnoprstuvwxyz0123456789.-_?é "  # not Q and Z, between which the text is looked for
ROOM = 28  # characters that every field can show
DOWN, ESCAPE, F1, PALETTE = "\x1b[B", "\x1b", "\x1bOP", "\x10"

# by name: the keys that go to a text field from any screen, and those that leave it
FIELDS = {
    "prompt": ("3i", ESCAPE),
    "stop strings": ("3x", ESCAPE),
    "weights": ("3f", ESCAPE),
    "filter": ("4/", ESCAPE),
    "note": ("4i", ESCAPE),
    "new name": ("4R", ESCAPE),
    "path": ("1a", ESCAPE),
    "name of a new run": ("2n" + 3 * DOWN, ESCAPE),
    "number of a new run": ("2n" + 5 * DOWN, ESCAPE),
    "help": ("2" + F1, ESCAPE),
    "palette": ("2" + PALETTE, ESCAPE),
}


@dataclass
class Line:
    """A line of text as readline edits it."""

    text: str = ""
    at: int = 0

    def press(self, key: str) -> None:
        before, after = self.text[: self.at], self.text[self.at :]
        match key:
            case "left":
                self.at = max(0, self.at - 1)
            case "right":
                self.at = min(len(self.text), self.at + 1)
            case "home" | "ctrl+a":
                self.at = 0
            case "end" | "ctrl+e":
                self.at = len(self.text)
            case "backspace":
                self.text, self.at = before[:-1] + after, max(0, self.at - 1)
            case "delete":
                self.text = before + after[1:]
            case "ctrl+u":
                self.text, self.at = after, 0
            case "ctrl+k":
                self.text = before
            case _:
                self.text, self.at = before + key + after, self.at + 1

    def random_key(self, chance: random.Random) -> str:
        """Mostly letters while there is room."""
        if len(self.text) < ROOM and chance.random() < 0.65:
            return chance.choice(LETTERS)
        if len(self.text) >= ROOM or chance.random() < 0.3:
            return "backspace"
        return chance.choice(list(EDIT))


def type_into(screen: Any, keys: list[str], gaps: Iterator[float]) -> None:
    """Sends keys with gaps between them, in seconds; what comes without a gap comes in one piece."""
    piece = ""
    for key in keys:
        piece += EDIT.get(key, key)
        if (gap := next(gaps)) > 0:
            screen.press(piece)
            piece, end = "", time.monotonic() + gap
            while (left := end - time.monotonic()) > 0:
                screen.read(left)
    screen.press(piece)


def gaps(chance: random.Random, longest: float) -> Iterator[float]:
    """A third of them none."""
    while True:
        yield max(0.0, chance.uniform(-longest / 2, longest))


def burst_into_a_field(screen: Any, name: str, keys: int, longest_gap: float, chance: random.Random) -> None:
    """Goes to a field, types random keys in one burst with the way there, and compares what it shows in the end."""
    way, leave = FIELDS[name]
    home, end = ("ctrl+a", "ctrl+e") if name == "help" else ("home", "end")  # which scroll the help
    line, pressed = Line(), list[str]()
    for _ in range(keys):
        key = line.random_key(chance)
        pressed.append({"home": home, "end": end}.get(key, key))
        line.press(key)
    type_into(screen, [way, end, "ctrl+u", *pressed, home, "Q", end, "Z"], gaps(chance, longest_gap))
    screen.until(lambda text: f"Q{line.text}Z" in text)
    screen.press(leave)
    screen.until(lambda text: name == "prompt" or f"Q{line.text}Z" not in text)


@dataclass
class Walk:
    """A person who goes about the app, and what should have come of it."""

    chance: random.Random
    place: str = "sample"
    seed: int = 1337
    prompt: Line = field(default_factory=Line)
    dialog: Line = field(default_factory=Line)
    stop: str = ""

    def step(self) -> str:
        """The next key, as it is sent."""
        way = {"sample": self._sample, "train": self._train}.get(self.place, self._typing)
        return way()

    def _sample(self) -> str:
        key = self.chance.choice("sSSSix2")
        self.seed += {"s": -1, "S": 1}.get(key, 0)
        self.place = {"i": "prompt", "x": "stop", "2": "train"}.get(key, self.place)
        if key == "x":
            self.dialog = Line(self.stop, len(self.stop))
            return key + EDIT["end"]  # what is in it would be replaced by the first letter
        return key

    def _train(self) -> str:
        key = self.chance.choice(["3", "n"])
        self.place = {"3": "sample", "n": "form"}[key]
        self.dialog = Line()
        return key if key == "3" else key + 3 * DOWN

    def _typing(self) -> str:
        line = self.prompt if self.place == "prompt" else self.dialog
        if self.chance.random() < 0.15 and line.text.strip("|"):
            left, self.place = self.place, "train" if self.place == "form" else "sample"
            if left == "stop" and self.chance.random() < 0.7:
                self.stop = line.text
                return "\r"
            return ESCAPE
        key = line.random_key(self.chance)
        line.press(key)
        return EDIT.get(key, key)

    def home(self) -> Iterator[str]:
        """The keys that end it on Sample, with the prompt between Q and Z."""
        if self.place not in ("sample", "train"):
            self.place = "train" if self.place == "form" else "sample"
            yield ESCAPE
        yield from ("3", "i", EDIT["home"], "Q", EDIT["end"], "Z", ESCAPE)


def walk_about(screen: Any, keys: int, longest_gap: float, chance: random.Random) -> None:
    """Random keys over the screens, from Sample with an empty prompt; what came of them is compared."""
    walk = Walk(chance)
    pressed = [walk.step() for _ in range(keys)]
    type_into(screen, ["3", *pressed, *walk.home()], gaps(chance, longest_gap))
    stop = walk.stop.replace(" ", "␣") or "off"
    screen.until(
        lambda text: f"Q{walk.prompt.text}Z" in text and f"seed {walk.seed}" in " ".join(text.split()) and stop in text
    )
