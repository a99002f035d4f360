"""What of a training is worth calling a person for: its end, a new best, trouble. Knows a history, and no terminal."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nanogpt_tui.session.history import History

BEST_EVERY_S = 60.0
RECENT_S = 30.0  # what is older than this when it is first seen happened before one looked


class Alerts:
    """Looks at a history again and again and says what is new."""

    def __init__(self) -> None:
        self._history: History | None = None
        self._running = False
        self._trouble = 0.0  # when it was
        self._best: float | None = None
        self._told_best_at = -BEST_EVERY_S

    def look(self, history: "History | None") -> Iterator[str]:
        """Yields the news since the last look, a line each."""
        if history is None:
            return
        from nanogpt_tui.session.history import SEVERITY  # which needs numpy: not before there is a history

        if history is not self._history:
            self._history, self._running, self._best = history, history.running, None
        yield from self._of_state(history)
        health = history.health
        if health is not None and health.time != self._trouble:
            self._trouble = health.time
            if SEVERITY.get(health.state, "warning") != "info" and _recent(health.time):
                yield f"{history.run}: {health.message}"
        yield from self._of_best(history)

    def _of_state(self, history: "History") -> Iterator[str]:
        was_running, self._running = self._running, history.running
        if not was_running or history.running:
            return
        end = history.finished
        if end is not None and not _recent(end.time):  # an old run that was read just now
            return
        loss = f", validation loss {end.best_val_loss:.4f} at best" if end and end.best_val_loss is not None else ""
        word = "ended without a message" if history.state == "interrupted" else history.state
        yield f"{history.run}: {word} at step {history.step:,}{loss}"

    def _of_best(self, history: "History") -> Iterator[str]:
        known = history.evaluation
        if known is None or known.best_val_loss == self._best:
            return
        first, self._best = self._best is None, known.best_val_loss
        if first or not history.running or not _recent(known.time):
            return
        if time.monotonic() - self._told_best_at >= BEST_EVERY_S:
            self._told_best_at = time.monotonic()
            yield f"{history.run}: best validation loss so far, {known.best_val_loss:.4f} at step {known.step:,}"


def _recent(at: float) -> bool:
    return time.time() - at < RECENT_S
