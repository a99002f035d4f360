"""A linear warm-up, then the inverse square root of the step (Vaswani et al. 2017)."""

import math
from dataclasses import dataclass
from typing import ClassVar

from nanogpt.config import ScheduleConfig, setting


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ScheduleConfig):
    """learning_rate · √(warm-up / step) after the warm-up."""

    name: ClassVar[str] = "rise_and_fall"

    rise_iters: int = setting(10, "iterations over which the learning rate rises", low=1, high=10**6, common=True)

    def learning_rate(self, step: int, highest: float, max_iters: int) -> float:
        return highest * min((step + 1) / self.rise_iters, math.sqrt(self.rise_iters / (step + 1)))
