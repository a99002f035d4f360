"""The commands to a running training, and the queue in which they wait for the next step boundary.

A command is a class: its fields are its JSON, `apply` is its effect, which is limited to what `Controllable` declares
and is reported in an `Acknowledged`, but for `Copy`. Subclasses of `RemoteCommand` can come from another process.
Imports no torch: the app's first paint and other processes need these classes without it.
"""

import math
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, ClassVar, Protocol

from nanogpt import records
from nanogpt.errors import UserError
from nanogpt.events import Acknowledged, Event, Notice

if TYPE_CHECKING:
    from nanogpt.models.base import LanguageModel
    from nanogpt.training.snapshot import Progress


class Controllable(Protocol):
    """The part of a training that commands can change."""

    progress: "Progress"
    stopping: "Stop | None"

    def pause(self) -> None:
        """Wait at this step boundary until `resume`."""

    def resume(self) -> None:
        """Continue after `pause`."""

    def has_checkpoint(self) -> bool:
        """Return whether the current step has a checkpoint."""

    def why_unsaved(self) -> str:
        """Return why this step has no checkpoint and none is being written; empty if it has one."""

    def save_checkpoint(self) -> Iterator[Event]:
        """Write a checkpoint of the current step."""

    def write_sample(self, prompt: str, seed: int) -> Iterator[Event]:
        """Write a sample with the current weights."""

    def copied_model(self) -> "LanguageModel | None":
        """Return a copy of the model, in evaluation mode and on the training's device; None if memory ran out."""


@dataclass(frozen=True, slots=True)
class Command:
    """A request to a training. Its acknowledgement repeats `id`, which is empty if nobody waits for it.

    pending: what a screen shows until the trainer has applied it. is_change: whether it changes a setting of the
    training, which charts then mark.
    """

    pending: ClassVar[str] = "changing"
    is_change: ClassVar[bool] = False

    id: str = field(default="", kw_only=True, compare=False)

    def apply(self, training: Controllable) -> Iterator[Event]:
        """Change the training at a step boundary; yield the acknowledgement, if any, and the events of what it does."""
        raise NotImplementedError

    def acknowledged(
        self, training: Controllable, text: str, *, max_iters: int | None = None, eval_interval: int | None = None
    ) -> Acknowledged:
        """Return the event that this command was applied; `text` says what changed."""
        return Acknowledged(
            step=training.progress.step,
            command=type(self).__name__,
            text=text,
            id=self.id,
            max_iters=max_iters,
            eval_interval=eval_interval,
        )


@dataclass(frozen=True, slots=True)
class RemoteCommand(Command):
    """A command with plain values, which another process can send as a line of JSON."""


@dataclass(frozen=True, slots=True)
class Pause(RemoteCommand):
    """Wait at the step boundary. The time does not count in the speed and the ETA."""

    pending: ClassVar[str] = "pausing"

    def apply(self, training: Controllable) -> Iterator[Event]:
        training.pause()
        yield self.acknowledged(training, "paused")


@dataclass(frozen=True, slots=True)
class Resume(RemoteCommand):
    """Continue after a pause."""

    pending: ClassVar[str] = "resuming"

    def apply(self, training: Controllable) -> Iterator[Event]:
        training.resume()
        yield self.acknowledged(training, "resumed")


@dataclass(frozen=True, slots=True)
class Stop(RemoteCommand):
    """End at the step boundary, with a checkpoint or without."""

    pending: ClassVar[str] = "stopping"

    save: bool = True

    def apply(self, training: Controllable) -> Iterator[Event]:
        training.stopping = self
        yield self.acknowledged(training, "stopping" if self.save else "stopping without a checkpoint")


@dataclass(frozen=True, slots=True)
class Save(RemoteCommand):
    """Write a checkpoint now."""

    pending: ClassVar[str] = "saving"

    def apply(self, training: Controllable) -> Iterator[Event]:
        """Acknowledge once the checkpoint before is written, so that the next `Saved` is the one asked for."""
        text = "already saved" if training.has_checkpoint() else "saving a checkpoint"
        yield from training.save_checkpoint()  # whatever this process has saved: of a sharded run all take part
        problem = training.why_unsaved()
        yield self.acknowledged(training, f"not saved: {problem}" if problem else text)


@dataclass(frozen=True, slots=True)
class ScaleLearningRate(RemoteCommand):
    """Multiply the schedule's learning rate by `factor` from now on (on top of earlier factors)."""

    is_change: ClassVar[bool] = True

    factor: float

    def __post_init__(self) -> None:
        _check_factor("the factor of the learning rate", self.factor)

    def apply(self, training: Controllable) -> Iterator[Event]:
        training.progress.learning_rate_scale *= self.factor
        scale = training.progress.learning_rate_scale
        yield self.acknowledged(training, f"learning rate × {self.factor:g}, now × {scale:g} of its schedule")


@dataclass(frozen=True, slots=True)
class SetLearningRateScale(RemoteCommand):
    """Set the learning rate to `scale` times its schedule from now on, replacing earlier factors."""

    is_change: ClassVar[bool] = True

    scale: float

    def __post_init__(self) -> None:
        _check_factor("learning_rate_scale", self.scale)

    def apply(self, training: Controllable) -> Iterator[Event]:
        training.progress.learning_rate_scale = self.scale
        yield self.acknowledged(training, f"learning rate × {self.scale:g} of its schedule")


@dataclass(frozen=True, slots=True)
class SetEvalInterval(RemoteCommand):
    """Evaluate every `iterations` from now on."""

    is_change: ClassVar[bool] = True

    iterations: int

    def __post_init__(self) -> None:
        if self.iterations < 1:
            raise UserError(f"eval_interval={self.iterations}: has to be at least 1")

    def apply(self, training: Controllable) -> Iterator[Event]:
        training.progress.eval_interval = self.iterations
        text = f"evaluation every {self.iterations:,} iterations"
        yield self.acknowledged(training, text, eval_interval=self.iterations)


@dataclass(frozen=True, slots=True)
class SetMaxIters(RemoteCommand):
    """Train up to `iterations` in all."""

    is_change: ClassVar[bool] = True

    iterations: int

    def __post_init__(self) -> None:
        if self.iterations < 0:
            raise UserError(f"max_iters={self.iterations}: has to be at least 0")

    def apply(self, training: Controllable) -> Iterator[Event]:
        progress = training.progress
        progress.max_iters = max(progress.step, self.iterations)
        yield self.acknowledged(training, f"last iteration {progress.max_iters:,}", max_iters=progress.max_iters)


@dataclass(frozen=True, slots=True)
class Sample(RemoteCommand):
    """Write a sample with the current weights."""

    pending: ClassVar[str] = "sampling"

    prompt: str
    seed: int = 1337

    def __post_init__(self) -> None:
        if not 0 <= self.seed < 2**63:
            raise UserError(f"seed={self.seed}: has to be at least 0 and at most {2**63 - 1:,}")

    def apply(self, training: Controllable) -> Iterator[Event]:
        yield self.acknowledged(training, "sampling")
        yield from training.write_sample(self.prompt, self.seed)


@dataclass(frozen=True, slots=True)
class Copy(Command):
    """Copy the current weights, for use while training continues. Only from within the trainer's process.

    `receive(model, step)` is called in the trainer's thread with the copy, in evaluation mode and on the device of the
    training, or with None if there is no memory for it. It has to return at once. No event tells of it: a view that
    follows a training asks every second.
    """

    receive: "Callable[[LanguageModel | None, int], None]"

    def apply(self, training: Controllable) -> Iterator[Event]:
        model = training.copied_model()
        if model is None:
            yield Notice(level="error", text="out of memory: the weights are not copied, training continues")
        self.receive(model, training.progress.step)


@dataclass(frozen=True, slots=True)
class Invalid(Command):
    """Something that was sent and is not a command: the trainer reports `reason`, and nothing is acknowledged."""

    reason: str

    def apply(self, training: Controllable) -> Iterator[Event]:
        yield Notice(level="warning", text=self.reason)


REMOTE: dict[str, type[RemoteCommand]] = {kind.__name__: kind for kind in RemoteCommand.__subclasses__()}


def to_json(command: RemoteCommand) -> str:
    """Return one line without a line break: `{"letter": <class name>, …}`, the key of version 0.1."""
    return records.encode("letter", command)


def from_json(line: str | bytes) -> RemoteCommand:
    """Return the command that `to_json` wrote. Raise `UserError` for anything else, and for values out of bounds."""
    return records.decode("letter", line, REMOTE, noun="command")


def _check_factor(name: str, value: float) -> None:
    if not (math.isfinite(value) and 0 < value <= 1000):
        raise UserError(f"{name} is {value:g}: has to be above 0 and at most 1000")


class CommandQueue:
    """A first-in, first-out queue of commands from several threads to the trainer's.

    `put` never waits, also in the handler of a signal that interrupts the trainer in `take` or `wait`: unlike the lock
    of a `threading.Event`, SimpleQueue is reentrant.
    """

    def __init__(self) -> None:
        self._commands: SimpleQueue[Command] = SimpleQueue()
        self._waited_for: list[Command] = []  # taken by `wait`

    def put(self, command: Command) -> None:
        """Add a command, which the trainer applies at its next step boundary."""
        self._commands.put(command)

    def take(self, *, is_last: bool = False) -> list[Command]:
        """Remove all commands from the queue and return them, oldest first. is_last: no later call will find others."""
        commands, self._waited_for = self._waited_for, []
        with suppress(Empty):
            while True:
                commands.append(self._commands.get_nowait())
        return commands

    def wait(self, timeout_s: float) -> None:
        """Return when a command is in the queue, or after `timeout_s` seconds."""
        if not self._waited_for:
            with suppress(Empty):
                self._waited_for.append(self._commands.get(timeout=timeout_s))
