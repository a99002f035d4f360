"""Alerts about a training that are worth a notification: it ended, it has a new best loss, or its health got worse."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from nanogpt_tui.session.history import History

BEST_EVERY_S = 60.0  # at most one alert about a best loss in this time
# By health state; others are a "warning".
SEVERITY = {"nan": "error", "learning": "info", "going on": "info", "patience": "info"}
RECENT_S = 30.0  # an older event happened before the app opened the run: no alert


class Alerts:
    """Compare a history with its state at the previous call and report what is new."""

    def __init__(self) -> None:
        self._history: History | None = None
        self._was_running = False
        self._health_time = 0.0  # of the last change in health that was reported
        self._best_loss: float | None = None
        self._best_alert_at = -BEST_EVERY_S

    def new_alerts(self, history: "History | None") -> Iterator[str]:
        """Yield one line for each event since the previous call."""
        if history is None:
            return
        if history is not self._history:
            self._history, self._was_running, self._best_loss = history, history.running, None
        yield from self._end_alerts(history)
        health = history.health
        if health is not None and health.time != self._health_time:
            self._health_time = health.time
            if SEVERITY.get(health.state, "warning") != "info" and _is_recent(health.time):
                yield f"{history.run}: {health.message}"
        yield from self._best_loss_alerts(history)

    def _end_alerts(self, history: "History") -> Iterator[str]:
        was_running, self._was_running = self._was_running, history.running
        if not was_running or history.running or history.fallback_state is not None:  # a resume that failed is no end
            return
        end = history.finished
        if end is not None and not _is_recent(end.time):  # an old run whose record was read just now
            return
        loss = f", validation loss {end.best_val_loss:.4f} at best" if end and end.best_val_loss is not None else ""
        phase = "ended without a message" if history.phase == "interrupted" else history.phase
        yield f"{history.run}: {phase} at step {history.step:,}{loss}"

    def _best_loss_alerts(self, history: "History") -> Iterator[str]:
        last = history.evaluation
        if last is None or last.best_val_loss == self._best_loss:
            return
        is_first, self._best_loss = self._best_loss is None, last.best_val_loss
        if is_first or not history.running or not _is_recent(last.time):
            return
        if time.monotonic() - self._best_alert_at >= BEST_EVERY_S:
            self._best_alert_at = time.monotonic()
            step = next((each.step for each in reversed(history.evaluations) if each.is_best), None)
            at = "" if step is None else f" at step {step:,}"
            yield f"{history.run}: best validation loss so far, {last.best_val_loss:.4f}{at}"


def _is_recent(timestamp: float) -> bool:
    return time.time() - timestamp < RECENT_S
