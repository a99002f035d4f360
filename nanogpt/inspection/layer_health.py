"""The health of each layer: its gradients, weights, updates and activations, measured at an interval.

Gradients and weights are measured at the step itself, activations in a forward pass of the new weights over some
sequences of the step's batch, without dropout. A measurement keeps a copy of the weights during the step.
"""

import math
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from nanogpt.config import Config
from nanogpt.events import Event, LayerHealth, Started, Step
from nanogpt.inspection.observer import Observer

if TYPE_CHECKING:
    from torch import Tensor

    from nanogpt.models.base import LanguageModel

EARLY = (1, 2, 5, 10, 20)
PROBE_TOKENS = 256  # of the first micro-batch, at least one sequence


class LayerHealthObserver(Observer):
    """Yields `LayerHealth` every `health_interval` steps, and more often at first, when most changes."""

    def __init__(self, config: Config) -> None:
        self.interval = config.evaluation.health_interval
        self._sequences = max(1, PROBE_TOKENS // config.model.block_size)
        self._grad_clip = config.optimizer.grad_clip
        self._ids: Tensor | None = None  # (B, T) of this step, for the activations
        self._gradient_norms: dict[str, float] = {}
        self._before: dict[str, list[Tensor]] = {}  # the weights of each layer before the update
        self._steps = self._clipped = 0  # reported since the last measurement

    def is_due(self, step: int) -> bool:
        return (step in EARLY and step < self.interval) or super().is_due(step)

    def before_micro_batch(self, model: "LanguageModel", step: int, number: int, ids: "Tensor") -> None:
        if number == 0:
            self._ids = ids[: self._sequences, :-1]

    def before_update(self, model: "LanguageModel", step: int) -> Iterable[Event]:
        from nanogpt.inspection.layers import norm, parameter_layers

        layers = parameter_layers(model)
        self._gradient_norms = {
            name: norm(p.grad for p in those if p.grad is not None) for name, those in layers.items()
        }
        self._before = {name: [p.detach().clone() for p in those] for name, those in layers.items()}
        return ()

    def after_update(self, model: "LanguageModel", step: int) -> Iterator[Event]:
        from nanogpt.inspection.layers import norm, parameter_layers, probe

        if self._ids is None or not self._before:
            return
        layers = parameter_layers(model)
        weight_norms = {name: norm(those) for name, those in self._before.items()}
        update_norms = {
            name: norm(p.detach() - old for p, old in zip(those, self._before[name], strict=True))
            for name, those in layers.items()
        }
        self._before = {}
        activations = probe(model, self._ids)
        yield LayerHealth(
            step=step,
            layers=tuple(layers),
            gradient_norm=tuple(rounded(self._gradient_norms[name]) for name in layers),
            weight_norm=tuple(rounded(weight_norms[name]) for name in layers),
            update_ratio=tuple(log_ratio(update_norms[name], weight_norms[name]) for name in layers),
            dead_units=tuple(rounded(activations[name].dead_units) for name in layers),
            activation_mean=tuple(rounded(activations[name].mean) for name in layers),
            activation_std=tuple(rounded(activations[name].std) for name in layers),
            activation_kurtosis=tuple(rounded(activations[name].kurtosis) for name in layers),
            attention_entropy=tuple(tuple(map(rounded, activations[name].attention_entropy)) for name in layers),
            histograms=tuple(activations[name].histogram for name in layers),
            clipped=self._clipped / self._steps if self._steps and self._grad_clip else None,
        )
        self._steps = self._clipped = 0

    def on_event(self, event: Event) -> Iterable[Event]:
        match event:
            case Started():
                self._steps = self._clipped = 0
            case Step():
                self._steps += 1
                self._clipped += event.grad_norm > self._grad_clip
        return ()


def log_ratio(update: float, weight: float) -> float | None:
    """Return log10 of update / weight, both norms; None if one of them is 0 or not finite."""
    ratio = update / weight if weight else 0.0
    return round(math.log10(ratio), 3) if 0 < ratio < math.inf else None


def rounded(value: float | None) -> float | None:
    """Return a figure with five significant digits, so that a record stays short; None stays."""
    return value if value is None or not math.isfinite(value) else float(f"{value:.5g}")
