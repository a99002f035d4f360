"""Linear warm-up, then a rate that drops by a factor at regular intervals."""

from dataclasses import dataclass
from typing import ClassVar

from nanogpt.config.components import ScheduleConfig
from nanogpt.config.setting import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ScheduleConfig):
    """Multiplies the rate by `step_factor` every `step_iters` iterations after the warm-up."""

    name: ClassVar[str] = "step"

    warmup_iters: int = setting(100, "iterations over which the learning rate rises", low=0, high=10**12, common=True)
    step_iters: int = setting(500, "iterations from one drop to the next", low=1, high=10**12, common=True)
    step_factor: float = setting(0.5, "factor on the rate at each drop", above=0, high=1, common=True)

    def learning_rate(self, step: int, highest: float, max_iters: int) -> float:
        """Return the rate; see `ScheduleConfig.learning_rate`."""
        if step < self.warmup_iters:
            return highest * (step + 1) / (self.warmup_iters + 1)
        return float(highest * self.step_factor ** ((step - self.warmup_iters) // self.step_iters))
