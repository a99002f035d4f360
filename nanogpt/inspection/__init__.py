"""Observers: they see a running training, each at its own interval, and yield events.

Exports lazily: importing this package does not import torch.
"""

from typing import TYPE_CHECKING

from nanogpt.lazy import exports

if TYPE_CHECKING:
    from nanogpt.inspection.gradient_noise import GradientNoiseObserver
    from nanogpt.inspection.health import HealthObserver
    from nanogpt.inspection.layer_health import LayerHealthObserver
    from nanogpt.inspection.layer_problems import LayerProblemObserver
    from nanogpt.inspection.observer import Observer, observed
    from nanogpt.inspection.speed import SpeedObserver
    from nanogpt.inspection.spikes import SpikeObserver

__all__ = [
    "GradientNoiseObserver",
    "HealthObserver",
    "LayerHealthObserver",
    "LayerProblemObserver",
    "Observer",
    "SpeedObserver",
    "SpikeObserver",
    "observed",
]

_HOMES = {
    "GradientNoiseObserver": "gradient_noise",
    "HealthObserver": "health",
    "LayerHealthObserver": "layer_health",
    "LayerProblemObserver": "layer_problems",
    "Observer": "observer",
    "SpeedObserver": "speed",
    "SpikeObserver": "spikes",
    "observed": "observer",
}

__getattr__ = exports(__name__, _HOMES)
