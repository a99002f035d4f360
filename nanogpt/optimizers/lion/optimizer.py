"""Lion's update (Chen et al. 2023, program 1)."""

from typing import Any

import torch

from nanogpt.optimizers.base import QuickStartOptimizer


class Lion(QuickStartOptimizer):
    """For each parameter w with gradient g and momentum m, at learning rate η and weight decay λ:

    w ← w - η·(sign(β1·m + (1 - β1)·g) + λ·w), then m ← β2·m + (1 - β2)·g. m starts at zero.
    """

    def __init__(self, groups: list[dict[str, Any]], lr: float, betas: tuple[float, float]) -> None:
        super().__init__(groups, {"lr": lr, "betas": betas})

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient."""
        for group in self.param_groups:
            lr, (beta1, beta2) = group["lr"], group["betas"]
            for parameter in group["params"]:
                gradient = parameter.grad
                if gradient is None:
                    continue
                state = self.state[parameter]
                if "momentum" not in state:  # new, or trained by another optimizer
                    state.clear()
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"]
                update = momentum.lerp(gradient, 1 - beta1).sign_()
                parameter.mul_(1 - lr * group["weight_decay"]).sub_(update, alpha=lr)
                momentum.lerp_(gradient, 1 - beta2)
