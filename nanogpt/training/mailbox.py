"""What can be asked of a training that runs: letters, and the box that the trainer empties at each step boundary.

Knows nothing of the trainer, nor of files: `to_json` and `from_json` are for whoever carries letters between processes.
Dropping never waits, so a screen's thread may do it at any moment.
"""

import math
import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, get_args

from nanogpt import events
from nanogpt.errors import UserError


@dataclass(frozen=True, slots=True)
class Addressed:
    """What every letter has: `id`, which its acknowledgement repeats; empty where nobody waits for that."""

    id: str = field(default="", kw_only=True, compare=False)


@dataclass(frozen=True, slots=True)
class Pause(Addressed):
    """Wait at the step boundary. The time does not count in speed or ETA."""


@dataclass(frozen=True, slots=True)
class Resume(Addressed):
    """Go on after a pause."""


@dataclass(frozen=True, slots=True)
class Stop(Addressed):
    """End at the step boundary, with a checkpoint or without."""

    save: bool = True


@dataclass(frozen=True, slots=True)
class Save(Addressed):
    """Write a checkpoint now."""


@dataclass(frozen=True, slots=True)
class ScaleLearningRate(Addressed):
    """Multiply the schedule's learning rate by `factor` from now on (on top of earlier factors)."""

    factor: float

    def __post_init__(self) -> None:
        _check_factor("the factor of the learning rate", self.factor)


@dataclass(frozen=True, slots=True)
class SetLearningRateScale(Addressed):
    """From now on the learning rate is `scale` times its schedule, whatever earlier factors were."""

    scale: float

    def __post_init__(self) -> None:
        _check_factor("learning_rate_scale", self.scale)


@dataclass(frozen=True, slots=True)
class SetEvalInterval(Addressed):
    """Evaluate every `iterations` from now on."""

    iterations: int

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise UserError(f"eval_interval={self.iterations}: has to be at least 1")


@dataclass(frozen=True, slots=True)
class SetMaxIters(Addressed):
    """Train up to `iterations` in all."""

    iterations: int

    def __post_init__(self) -> None:
        if self.iterations < 0:
            raise UserError(f"max_iters={self.iterations}: has to be at least 0")


@dataclass(frozen=True, slots=True)
class Sample(Addressed):
    """Write a sample with the present weights."""

    prompt: str
    seed: int = 1337


@dataclass(frozen=True, slots=True)
class Copy(Addressed):
    """Copy the present weights, for whoever wants to use them while training goes on.

    `receive(model, step)` is called in the trainer's thread with a model of its own, in evaluation mode and on the
    training's device; it is to keep it and return at once. Only for the trainer's own process.
    """

    receive: Callable[[Any, int], None]


@dataclass(frozen=True, slots=True)
class Unreadable(Addressed):
    """Something in a mailbox that cannot be obeyed: the trainer tells `reason`."""

    reason: str


Portable = (
    Pause | Resume | Stop | Save | ScaleLearningRate | SetLearningRateScale | SetEvalInterval | SetMaxIters | Sample
)
Letter = Portable | Copy | Unreadable

PORTABLE: dict[str, type[Portable]] = {kind.__name__: kind for kind in get_args(Portable)}


def to_json(letter: Portable) -> str:
    """One line without a line break: `{"letter": <class name>, …}`."""
    return events.written("letter", letter)


def from_json(line: str | bytes) -> Portable:
    """The letter that `to_json` wrote. Raises `UserError` for anything else, and for values out of bounds."""
    return events.read("letter", line, PORTABLE)


def _check_factor(name: str, value: float) -> None:
    if not (math.isfinite(value) and 0 < value <= 1000):
        raise UserError(f"{name} is {value:g}: has to be above 0 and at most 1000")


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
