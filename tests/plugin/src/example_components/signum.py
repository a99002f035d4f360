"""Signum (Bernstein et al. 2018): each weight moves by the sign of its momentum."""

from dataclasses import dataclass
from typing import Any, ClassVar

import torch

from nanogpt.config import OptimizerConfig, setting
from nanogpt.models.base import LanguageModel
from nanogpt.models.flat_parameters import FlatParameters
from nanogpt.optimizers.base import merge_groups


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(OptimizerConfig):
    """Momentum, and of it the sign alone."""

    name: ClassVar[str] = "signum"

    momentum: float = setting(0.9, "decay of the momentum", low=0, below=1, common=True)

    def build(
        self, model: LanguageModel, dtype: torch.dtype, flat: FlatParameters | None = None
    ) -> torch.optim.Optimizer:
        return Signum(merge_groups(model, lambda group: True), {"lr": self.learning_rate, "momentum": self.momentum})

    def state_bytes(self, n_parameters: int) -> int:
        return 4 * n_parameters


class Signum(torch.optim.Optimizer):
    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                momentum = self.state[parameter].setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 1 - group["momentum"])
                parameter.sub_(momentum.sign(), alpha=group["lr"])
