"""Muon (Jordan et al. 2024) for the groups with `muon=True`, AdamW for the others.

An update of Muon is the momentum with all singular values brought near 1, so that every direction of a matrix learns at
the same rate. It is scaled to the typical size of an update of AdamW (Liu et al. 2025), so that both use the same
learning rate and weight decay.
"""

import math
from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nanogpt.models.flat_parameters import FlatParameters
from nanogpt.optimizers.adamw.optimizer import AdamW

MOMENTUM = 0.95
UPDATE_RMS = 0.2  # typical root mean square of an update of AdamW, in units of the learning rate
# Jordan's coefficients: five steps bring singular values in (0, 1] to about 0.7 … 1.2.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
NEWTON_SCHULZ_STEPS = 5


class Muon(AdamW):
    """AdamW, and Muon for the groups with `muon=True`, whose parameters are matrices.

    dtype: of the matrix products in `orthogonalize`; bfloat16 is exact enough. The rest as for `AdamW`.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        dtype: torch.dtype,
        lr: float,
        betas: tuple[float, float],
        flat: FlatParameters | None = None,
    ) -> None:
        super().__init__(groups, lr=lr, betas=betas, flat=flat)
        self.dtype = dtype

    def update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Do one step for parameters of a group, each of which has a gradient."""
        if not group.get("muon"):
            super().update(parameters, group)
            return
        by_shape: dict[torch.Size, list[nn.Parameter]] = {}
        for parameter in parameters:
            by_shape.setdefault(parameter.shape, []).append(parameter)
        for same_shape in by_shape.values():
            self.update_matrices(same_shape, group["lr"], group["weight_decay"])

    def update_matrices(self, parameters: list[nn.Parameter], rate: float, weight_decay: float) -> None:
        """Do one step for N matrices (n, m) of one shape; their gradients are overwritten."""
        gradients = [p.grad for p in parameters if p.grad is not None]
        for parameter in parameters:
            if "momentum" not in self.state[parameter]:
                self.state[parameter]["momentum"] = torch.zeros_like(parameter)
        weights = list[Tensor](parameters)
        momenta = [self.state[p]["momentum"] for p in parameters]
        factor: float | Tensor = 1.0  # 0 to skip the step
        if self.skip_flag is not None:  # with the momentum as gradient the momentum stays unchanged
            factor = 1 - self.skip_flag
            gradients = [torch.where(self.skip_flag > 0, m, g) for m, g in zip(momenta, gradients, strict=True)]
        torch._foreach_lerp_(momenta, gradients, 1 - MOMENTUM)
        torch._foreach_lerp_(gradients, momenta, MOMENTUM)  # Nesterov momentum
        updates = orthogonalize(torch.stack(gradients).to(self.dtype)) * factor  # (N, n, m)
        torch._foreach_mul_(weights, 1 - rate * weight_decay * factor)
        size = rate * UPDATE_RMS * math.sqrt(max(parameters[0].shape))
        torch._foreach_add_(weights, list(updates.to(parameters[0].dtype)), alpha=-size)


def orthogonalize(matrices: Tensor) -> Tensor:
    """Return matrices (N, n, m) with all singular values brought near 1 by a Newton-Schulz iteration."""
    tall = matrices.size(1) > matrices.size(2)
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(1, 2), keepdim=True) + 1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(NEWTON_SCHULZ_STEPS):
        square = x @ x.mT  # (N, n, n)
        x = torch.baddbmm(x, torch.baddbmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x
