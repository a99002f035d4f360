"""Warm-up, stable, decay (Hu et al. 2024, MiniCPM), also called trapezoidal: one rate for most of the run."""

from dataclasses import dataclass
from typing import ClassVar

from nanogpt.config.components import ScheduleConfig
from nanogpt.config.setting import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ScheduleConfig):
    """Holds `learning_rate` after the warm-up, and decays in a straight line over the last part of the run."""

    name: ClassVar[str] = "wsd"

    warmup_iters: int = setting(100, "iterations over which the learning rate rises", low=0, high=10**12, common=True)
    decay_fraction: float = setting(0.2, "share of the run over which the rate decays", low=0, high=1, common=True)
    final_lr: float = setting(0.0, "rate at the end, as a fraction of learning_rate", low=0, high=1)

    def learning_rate(self, step: int, highest: float, max_iters: int) -> float:
        """Return the rate; see `ScheduleConfig.learning_rate`."""
        if step < self.warmup_iters:
            return highest * (step + 1) / (self.warmup_iters + 1)
        decay_iters = self.decay_fraction * max_iters
        remaining = max(0.0, max_iters - step)
        if remaining >= decay_iters:
            return highest
        return highest * (self.final_lr + (1 - self.final_lr) * remaining / decay_iters)
