"""Observers: they see a running training, each at its own interval, and yield events.

Exports lazily: importing this package does not import torch.
"""

from typing import TYPE_CHECKING

from nanogpt.lazy import exports

if TYPE_CHECKING:
    from nanogpt.inspection.gradient_noise import GradientNoiseObserver
    from nanogpt.inspection.health import HealthObserver
    from nanogpt.inspection.observer import Observer, observed

__all__ = ["GradientNoiseObserver", "HealthObserver", "Observer", "observed"]

_HOMES = {
    "GradientNoiseObserver": "gradient_noise",
    "HealthObserver": "health",
    "Observer": "observer",
    "observed": "observer",
}

__getattr__ = exports(__name__, _HOMES)
