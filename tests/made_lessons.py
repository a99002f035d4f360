"""Small lessons with experiments that compute nothing: one that counts, one that asks, one that has all figures."""

import threading
from collections.abc import Iterator
from dataclasses import dataclass
from math import exp
from pathlib import Path
from typing import Any

from nanogpt.errors import UserError
from nanogpt.learn import experiment
from nanogpt.learn.experiment import Action
from nanogpt.learn.figures import (
    Bar,
    Bars,
    Curve,
    Curves,
    Figures,
    HeatMap,
    Pieces,
    Point,
    Points,
    Sentence,
    Table,
    Update,
    Working,
)
from nanogpt.learn.lesson import Lesson


class Counting(experiment.Experiment[experiment.Settings]):
    """Counts its steps; done after two. `gate` holds the slow action until the test opens it."""

    name = "counting"
    gate = threading.Event()
    closed = threading.Event()

    def start(self) -> Iterator[Update]:
        self.count = 0
        yield Working(0.5, "counting [bold]apples[/bold]")
        yield self._picture("ready")

    @property
    def actions(self) -> tuple[Action, ...]:
        return Action("s", "one step", "step"), Action("+", "many steps", "slow"), Action("enter", "wrong", "wrong")

    def act(self, name: str) -> Iterator[Update]:
        if name == "wrong":
            raise UserError("the apples are [bold]gone[/bold]; buy some")
        try:
            if name == "slow":
                yield Figures((Sentence("half a step"),), live=True)
            while name == "slow" and not self.gate.wait(0.02):
                yield Working(0.25, "counting slowly")
        finally:
            self.closed.set()
        self.count += 1
        self.done = self.count > 1
        yield self._picture(f"step {self.count}")

    def _picture(self, text: str) -> Figures:
        bars = Bars("Apples", (Bar("here", self.count + 1.0, before=self.count, marked=True),))
        curve = Curve("apples", (0.0, 1.0), (0.0, float(self.count)))
        return Figures((Sentence(text), bars, Curves("Apples", "step", "count", (curve,))))


class Asking(experiment.Experiment[experiment.Settings]):
    """Repeats what is typed."""

    name = "asking"

    def start(self) -> Iterator[Update]:
        yield Figures((Sentence("ask me"),))

    @property
    def question(self) -> str:
        return "Type a word"

    def answer(self, text: str) -> Iterator[Update]:
        self.done = True
        yield Figures((Sentence(f"you typed {text}!"),))


class Drawing(experiment.Experiment[experiment.Settings]):
    """Shows a figure of each kind, always the same."""

    name = "drawing"

    @property
    def actions(self) -> tuple[Action, ...]:
        return Action("s", "one step", "step"), Action("t", "ten steps", "ten")

    @property
    def question(self) -> str:
        return "Type a letter"

    def start(self) -> Iterator[Update]:
        self.done = True
        guesses = (("u", 0.12, 0.06), ("t", 0.21, 0.23), ("e", 0.18, 0.18), (" ", 0.03, 0.06))
        bars = tuple(Bar(at, now, f"{now:.0%}", before, marked=at == "u") for at, now, before in guesses)
        steps = tuple(float(step) for step in range(0, 101, 5))
        curves = (
            Curve("its own text", steps, tuple(1 + 3 * exp(-step / 20) for step in steps)),
            Curve("unseen", steps, tuple(1.5 + 2.5 * exp(-step / 15) + step / 100 for step in steps)),
        )
        letters = tuple("abcab")
        attention = tuple(
            tuple(1.0 if to == at - 3 else 0.5 if to == at else 0.0 for to in range(5)) for at in range(5)
        )
        places = (("a", -1.0, 0.5, "vowels"), ("e", -0.8, 0.2, "vowels"), ("t", 1.0, 0.0, "consonants"))
        yield Figures(
            (
                Sentence("The loss fell from 2.310 to 2.270, and “u” went from 6 % to 12 %."),
                Bars("The guess for the next character", bars),
                Curves("Loss", "step", "nats", curves),
                Pieces("byte pairs: 3 tokens", ("the", " laz", "y"), (256, 301, 121)),
                Table("All guesses", ("read", "next", "loss"), (("“R”", "“O”", "2.31"), ("“RO”", "“M”", "0.92"))),
                HeatMap("Where it looks", attention, letters, letters, 0.0, 1.0),
                Points("Map", tuple(Point(*each) for each in places)),
            )
        )


@dataclass(frozen=True)
class Made(Lesson):
    """A lesson with an experiment of a test."""

    of: type[experiment.Experiment[Any]] = Counting

    def create(self, data_dir: Path | None = None) -> experiment.Experiment[Any]:
        return self.of(experiment.Settings())


LESSONS = (
    Made(1, "count", "Count apples", "An apple is *one* `apple`.\n\nTwo are more.", "press `s`.", "counting"),
    Made(2, "ask", "Ask a question", "Ask.", "type a word.", "asking", of=Asking),
    Made(3, "perplexity", "Perplexity", "No task.", "", "counting"),
)

SHOWN = (
    Made(
        1,
        "one_step",
        "One training step",
        "The model reads eight characters and guesses each next one. Each guess is a probability for every "
        "character.\n\nThe *loss* says how surprised it was by the right ones. The *gradient* says in which direction "
        "each weight has to move for a **lower** loss. Look at the bar of `u`.",
        "press `s` for one step, and watch the bar of `u`.",
        "drawing",
        of=Drawing,
    ),
    *(Made(at, f"lesson_{at}", f"The title of lesson {at}", "Text.", "", "counting") for at in range(2, 11)),
)
