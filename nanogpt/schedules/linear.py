"""Linear warm-up, then linear decay to the lowest rate at the end of the run."""

from dataclasses import dataclass
from typing import ClassVar

from nanogpt.config.components import ScheduleConfig
from nanogpt.config.setting import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ScheduleConfig):
    """Rises to `learning_rate` in `warmup_iters` iterations, then falls in a straight line."""

    name: ClassVar[str] = "linear"

    warmup_iters: int = setting(100, "iterations over which the learning rate rises", low=0, high=10**12, common=True)
    final_lr: float = setting(0.0, "rate at the end, as a fraction of learning_rate", low=0, high=1)

    def learning_rate(self, step: int, highest: float, max_iters: int) -> float:
        """Return the rate; see `ScheduleConfig.learning_rate`."""
        if step < self.warmup_iters:
            return highest * (step + 1) / (self.warmup_iters + 1)
        progress = min(1.0, (step - self.warmup_iters) / max(1, max_iters - self.warmup_iters))
        return highest * (1 - (1 - self.final_lr) * progress)
