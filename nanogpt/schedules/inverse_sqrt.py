"""Linear warm-up, then decay with the inverse square root of the iteration (Vaswani et al. 2017)."""

from dataclasses import dataclass
from typing import ClassVar

from nanogpt.config.components import ScheduleConfig
from nanogpt.config.setting import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ScheduleConfig):
    """Rises to `learning_rate` in `warmup_iters` iterations, then is `learning_rate`·√(warmup_iters / iteration)."""

    name: ClassVar[str] = "inverse_sqrt"

    warmup_iters: int = setting(100, "iterations over which the learning rate rises", low=0, high=10**12, common=True)

    def learning_rate(self, step: int, highest: float, max_iters: int) -> float:
        """Return the rate; see `ScheduleConfig.learning_rate`."""
        iteration, warmup = step + 1, max(1, self.warmup_iters)
        return float(highest * min(iteration / warmup, (warmup / iteration) ** 0.5))
