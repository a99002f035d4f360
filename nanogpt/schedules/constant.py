"""Linear warm-up, then one rate for the rest of the run."""

from dataclasses import dataclass
from typing import ClassVar

from nanogpt.config.components import ScheduleConfig
from nanogpt.config.setting import setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ScheduleConfig):
    """`learning_rate` after `warmup_iters` iterations."""

    name: ClassVar[str] = "constant"

    warmup_iters: int = setting(100, "iterations over which the learning rate rises", low=0, high=10**12, common=True)

    def learning_rate(self, step: int, highest: float, max_iters: int) -> float:
        """Return the rate; see `ScheduleConfig.learning_rate`."""
        return highest * min(1.0, (step + 1) / (self.warmup_iters + 1))
