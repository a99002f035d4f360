"""Muon's update (Jordan et al. 2024) for the groups that ask for it, AdamW's for the others.

An update of Muon is the momentum with all its singular values brought to about one, so that every direction of a
matrix learns at the same pace. It is scaled to the size that updates of AdamW have (Liu et al. 2025), so that
one learning rate and one weight decay serve both.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nanogpt.optimizers.adamw.optimizer import AdamW

MOMENTUM = 0.95
RMS = 0.2  # root mean square of an update of AdamW, about
# Jordan's coefficients: five steps bring singular values from anywhere in (0, 1] to between about 0.7 and 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
STEPS = 5


class Muon(AdamW):
    """AdamW, but for the groups that say `muon=True`, whose parameters are matrices.

    dtype: of the products that bring the singular values together; bfloat16 is exact enough, where it is fast.
    """

    def __init__(self, groups: Iterable[dict[str, Any]], *, dtype: torch.dtype, **of_adamw: Any) -> None:
        super().__init__(groups, **of_adamw)
        self.dtype = dtype

    def move(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        if not group.get("muon"):
            super().move(parameters, group)
            return
        by_shape: dict[torch.Size, list[nn.Parameter]] = {}
        for parameter in parameters:
            by_shape.setdefault(parameter.shape, []).append(parameter)
        for alike in by_shape.values():
            self.turn(alike, group["lr"], group["weight_decay"])

    def turn(self, parameters: list[nn.Parameter], rate: float, weight_decay: float) -> None:
        """One step for N matrices (n, m) of one shape; their gradients are used up."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        weights = list[Tensor](parameters)
        momenta = [self.state[p]["momentum"] for p in parameters]
        moves: float | Tensor = 1.0
        if self.skip is not None:  # a momentum that moves towards itself stays, and then the weights move by nothing
            moves = 1 - self.skip
            gradients = [torch.where(self.skip > 0, m, g) for m, g in zip(momenta, gradients, strict=True)]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        torch._foreach_lerp_(gradients, momenta, MOMENTUM)  # Nesterov's look ahead
        updates = orthogonal(torch.stack(gradients).to(self.dtype)) * moves  # (N, n, m)
        torch._foreach_mul_(weights, 1 - rate * weight_decay * moves)
        size = rate * RMS * math.sqrt(max(parameters[0].shape))
        torch._foreach_add_(weights, list(updates.to(parameters[0].dtype)), alpha=-size)


def orthogonal(matrices: Tensor) -> Tensor:
    """(N, n, m) with all singular values brought to about one, by Newton and Schulz's iteration."""
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(STEPS):
        square = x @ x.mT  # (N, n, n)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
