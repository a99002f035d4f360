"""What can be asked of a training that runs: letters, and the box that the trainer empties at each step boundary.

Knows nothing of the trainer. Dropping never waits, so a screen's thread may do it at any moment.
"""

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True)
class Pause:
    """Wait at the step boundary. The time does not count in speed or ETA."""


@dataclass(frozen=True, slots=True)
class Resume:
    """Go on after a pause."""


@dataclass(frozen=True, slots=True)
class Stop:
    """End at the step boundary, with a checkpoint or without."""

    save: bool = True


@dataclass(frozen=True, slots=True)
class Save:
    """Write a checkpoint now."""


@dataclass(frozen=True, slots=True)
class ScaleLearningRate:
    """Multiply the schedule's learning rate by `factor` from now on (on top of earlier factors)."""

    factor: float


@dataclass(frozen=True, slots=True)
class SetEvalInterval:
    """Evaluate every `iterations` from now on."""

    iterations: int


@dataclass(frozen=True, slots=True)
class SetMaxIters:
    """Train up to `iterations` in all."""

    iterations: int


@dataclass(frozen=True, slots=True)
class Sample:
    """Write a sample with the present weights."""

    prompt: str
    seed: int = 1337


@dataclass(frozen=True, slots=True)
class Copy:
    """Copy the present weights, for whoever wants to use them while training goes on.

    `receive(model, step)` is called in the trainer's thread with a model of its own, in evaluation mode and on the
    training's device; it is to keep it and return at once. Only for the trainer's own process.
    """

    receive: Callable[[Any, int], None]


Letter = Pause | Resume | Stop | Save | ScaleLearningRate | SetEvalInterval | SetMaxIters | Sample | Copy


class Mailbox:
    """Letters in the order in which they were dropped; safe between threads."""

    def __init__(self) -> None:
        self._letters: deque[Letter] = deque()
        self._arrived = threading.Event()

    def drop(self, letter: Letter) -> None:
        self._letters.append(letter)
        self._arrived.set()

    def collect(self) -> list[Letter]:
        """Takes out all letters that are there."""
        self._arrived.clear()
        letters = []
        while self._letters:
            letters.append(self._letters.popleft())
        return letters

    def wait(self, timeout_s: float) -> None:
        """Returns when a letter is there, or after `timeout_s` seconds."""
        self._arrived.wait(timeout_s)
