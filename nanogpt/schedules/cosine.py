"""Linear warm-up, then a cosine down to the lowest rate (Loshchilov & Hutter 2016), as nanoGPT has it."""

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.components import ScheduleConfig
from nanogpt.config.setting import setting
from nanogpt.errors import SettingError

if TYPE_CHECKING:
    from nanogpt.config import Config as RunConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ScheduleConfig):
    """The cosine ends at `lr_decay_iters`; by default at the end of the run."""

    name: ClassVar[str] = "cosine"

    decay_lr: bool = setting(True, "warm-up and cosine decay; false holds learning_rate")
    warmup_iters: int = setting(100, "iterations over which the learning rate rises", low=0, high=10**12, common=True)
    lr_decay_iters: int | None = setting(
        None, "iteration at which min_lr is reached; none: max_iters", low=0, high=10**12
    )
    min_lr: float | None = setting(None, "lowest learning rate; none: a tenth of learning_rate", low=0, high=1000)

    def validate_within(self, config: "RunConfig") -> None:
        """Raise `SettingError` if `min_lr` is above `learning_rate`."""
        highest = config.optimizer.learning_rate
        if self.min_lr is not None and self.min_lr > highest:
            raise SettingError("min_lr", f"min_lr={self.min_lr:g}: has to be at most learning_rate={highest:g}")

    def learning_rate(self, step: int, highest: float, max_iters: int) -> float:
        """Return the rate; see `ScheduleConfig.learning_rate`."""
        if not self.decay_lr:
            return highest
        if step < self.warmup_iters:
            return highest * (step + 1) / (self.warmup_iters + 1)
        lowest = highest / 10 if self.min_lr is None else self.min_lr
        end = max_iters if self.lr_decay_iters is None else self.lr_decay_iters
        if step >= end:
            return lowest
        progress = (step - self.warmup_iters) / (end - self.warmup_iters)  # 0 to 1
        return lowest + (highest - lowest) * (1 + math.cos(math.pi * progress)) / 2
