"""The health of a training, by simple rules from its events. The first rule that holds counts:

- diverging: the mean loss of the last 20 reported steps is above the lowest such mean by more than half of what it had
  come down since the first, but at least by 0.3 nats and by two standard deviations of those steps; always by more than
  1 nat. It is over when the mean is within half of that.
- overfitting: since the best evaluation there were two more, the validation loss is above the best by more than 1 %,
  and the training loss is below what it was then.
- data-bound: waiting for data took more than 30 % of the time of the last 20 reported steps.
- plateau: the best validation loss of the last four evaluations is within 0.5 % of the best one before them.
- learning: none of these.
"""

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field

from nanogpt.events import Evaluated, Event, Health, Started, Step
from nanogpt.inspection.observer import Observer

WINDOW = 20  # reported steps
PLATEAU = 4  # evaluations

MESSAGES = {
    "learning": "training is healthy again",
    "diverging": "the loss rises: lower the learning rate, or go back to an earlier checkpoint",
    "overfitting": "the validation loss rises while the training loss falls: stop, raise dropout, or use more data",
    "data-bound": "training waits for data for much of its time: a faster disk would make it faster",
    "plateau": "the validation loss hardly falls any more: lower the learning rate, or stop",
}


@dataclass(slots=True)
class HealthMonitor:
    """The figures of the events so far that the rules need."""

    losses: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    waits: deque[float] = field(default_factory=lambda: deque(maxlen=WINDOW))
    diverging: bool = False
    highest: float = -math.inf  # mean loss over a window
    lowest: float = math.inf
    evaluations: list[tuple[float, float]] = field(default_factory=list)  # (training loss, validation loss)
    overfits: bool = False  # as of the last evaluation, like the next: each step asks for both
    is_on_plateau: bool = False

    def add(self, event: Event) -> None:
        """Add an event of the training."""
        match event:
            case Started():  # the first, or one after a rollback
                self.losses.clear()
                self.waits.clear()
                self.evaluations.clear()
                self.highest, self.lowest, self.diverging = -math.inf, math.inf, False
                self.overfits = self.is_on_plateau = False
            case Step(loss=loss) if math.isfinite(loss):
                self.losses.append(loss)
                self.waits.append(event.data_share)
                if len(self.losses) == WINDOW:
                    mean = sum(self.losses) / WINDOW
                    self.highest = mean if self.highest == -math.inf else self.highest
                    self.lowest = min(self.lowest, mean)
                    deviation = math.dist(self.losses, [mean] * WINDOW) / math.sqrt(WINDOW)
                    needed = max(0.3, 2 * deviation, (self.highest - self.lowest) / 2)
                    self.diverging = mean > self.lowest + min(1.0, needed) / (2 if self.diverging else 1)
            case Evaluated(train_loss=train_loss, val_loss=val_loss) if math.isfinite(val_loss):
                self.evaluations.append((train_loss, val_loss))
                self.overfits, self.is_on_plateau = self._overfits(), self._is_on_plateau()

    def state(self) -> str:
        """Return the current state, a key of `MESSAGES`."""
        if self.diverging:
            return "diverging"
        if self.overfits:
            return "overfitting"
        if len(self.waits) == WINDOW and sum(self.waits) / WINDOW > 0.3:
            return "data-bound"
        if self.is_on_plateau:
            return "plateau"
        return "learning"

    def _overfits(self) -> bool:
        best = min(range(len(self.evaluations)), key=lambda number: self.evaluations[number][1])
        (then, lowest), (now, last) = self.evaluations[best], self.evaluations[-1]
        return len(self.evaluations) - best > 2 and last > 1.01 * lowest and now < then

    def _is_on_plateau(self) -> bool:
        values = [val_loss for _, val_loss in self.evaluations]
        return len(values) > PLATEAU + 1 and min(values[-PLATEAU:]) > 0.995 * min(values[:-PLATEAU])


class HealthObserver(Observer):
    """Yields `Health` when the state changes. The first state is "learning"."""

    def __init__(self) -> None:
        self._monitor, self._state = HealthMonitor(), "learning"

    def on_event(self, event: Event) -> Iterator[Health]:
        self._monitor.add(event)
        if isinstance(event, Step | Evaluated) and (state := self._monitor.state()) != self._state:
            self._state = state
            yield Health(step=event.step, state=state, message=MESSAGES[state])
