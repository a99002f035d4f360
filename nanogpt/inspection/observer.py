"""The base class of observers, and the function that shows them the events."""

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from nanogpt.events import Event

if TYPE_CHECKING:
    from torch import Tensor

    from nanogpt.models.base import LanguageModel


class Observer:
    """Sees a training without changing it. A subclass overrides the methods it needs and returns events to report.

    An observer serves one training, in its main process. It does not change the weights, the gradients, the model's
    mode or torch's random state: a training with observers is bit-identical to one without. `step` is always the number
    of completed optimizer steps after the observed update, as in `Step.step`.
    """

    interval: int = 0  # steps between two views of the model; 0: events only

    def is_due(self, step: int) -> bool:
        """Return whether the observer sees the model at this step."""
        return self.interval > 0 and step % self.interval == 0

    def before_micro_batch(self, model: "LanguageModel", step: int, number: int, ids: "Tensor") -> None:
        """See the token ids (B, T + 1) of this process's micro-batch `number` (0, 1, …) of a step.

        The last T of each row are the targets. Only called when due.
        """

    def after_micro_batch(self, model: "LanguageModel", step: int, number: int, factor: float) -> None:
        """See the model after the backward pass of this process's micro-batch `number` (0, 1, …) of a step.

        The gradients of all micro-batches so far are summed, each times `factor`. Only called when due.
        """

    def before_update(self, model: "LanguageModel", step: int) -> Iterable[Event]:
        """See the model with its gradients: averaged over processes, unscaled, not yet clipped.

        Only called when due, and not if the loss is known not to be finite.
        """
        return ()

    def after_update(self, model: "LanguageModel", step: int) -> Iterable[Event]:
        """See the model with its new weights, without gradients. Only called when due."""
        return ()

    def on_event(self, event: Event) -> Iterable[Event]:
        """See an event of the training or of an observer, before it is reported."""
        return ()

    def close(self) -> None:
        """Release resources. Called once, at the end of a training that started, however it ended."""


def observed(events: Iterable[Event], observers: Sequence[Observer]) -> Generator[Event, None, None]:
    """Yield the events, each followed by the events of the observers. Every observer sees all of them.

    Close the observers when the events end, or when this iterator is closed.
    """
    with ExitStack() as at_the_end:
        for observer in observers:
            at_the_end.callback(observer.close)
        for first in events:
            waiting = deque([first])
            while waiting:
                event = waiting.popleft()
                for observer in observers:
                    waiting.extend(observer.on_event(event))
                yield event
