"""Observers look at a training while it runs, each at its own interval, and yield events of their own.

Exports lazily, so that naming this package does not load torch.
"""

from typing import TYPE_CHECKING

from nanogpt.lazy import exports

if TYPE_CHECKING:
    from nanogpt.inspection.health import HealthObserver
    from nanogpt.inspection.observer import Observer, observed

__all__ = ["HealthObserver", "Observer", "observed"]

_HOMES = {"HealthObserver": "health", "Observer": "observer", "observed": "observer"}

__getattr__ = exports(__name__, _HOMES)
