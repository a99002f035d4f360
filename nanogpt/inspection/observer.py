"""What an observer of a training is, and how it is shown the events."""

from collections import deque
from collections.abc import Generator, Iterable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

from nanogpt.events import Event

if TYPE_CHECKING:
    from nanogpt.models.base import LanguageModel


class Observer:
    """Looks at a training without changing it. A subclass overrides what it needs; whatever it returns is reported.

    An observer serves one training, in its main process. It leaves the weights, the gradients, the model's mode and
    torch's random state as they are: a training with observers is bit-identical to one without. `step` is always the
    number of optimizer steps that are complete after the update that is observed, as in `Step.step`.
    """

    interval: int = 0  # steps between two looks at the model; 0: it looks at events alone

    def is_due(self, step: int) -> bool:
        """Return whether to show it the model at this step."""
        return self.interval > 0 and step % self.interval == 0

    def before_update(self, model: "LanguageModel", step: int) -> Iterable[Event]:
        """Look at the model with its gradients: averaged over processes, unscaled, not yet clipped.

        Only called when due. Not called where the loss is known not to be finite.
        """
        return ()

    def after_update(self, model: "LanguageModel", step: int) -> Iterable[Event]:
        """Look at the model with its new weights; the gradients are gone. Only called when due."""
        return ()

    def on_event(self, event: Event) -> Iterable[Event]:
        """Look at an event of the training or of an observer, before anyone else sees it."""
        return ()

    def close(self) -> None:
        """Release what the observer holds. Called once, when a training that began is over, however it ended."""


def observed(events: Iterable[Event], observers: Sequence[Observer]) -> Generator[Event, None, None]:
    """Pass the events on. Each is shown to every observer; what they answer follows it, and is shown to all as well.

    Closes the observers when the events end, or when it is closed itself.
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
