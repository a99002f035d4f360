"""Gradients of bounded length."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nanogpt.models.flat_parameters import FlatParameters


def clip(parameters: Sequence[nn.Parameter], limit: float, memory: FlatParameters | None = None) -> Tensor:
    """Scale all gradients down, so that their norm, of all together, is at most `limit`. Return the norm before.

    memory: what the parameters share, if anything. A GPU is not waited for.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = memory.gradients_of(parameters) if memory is not None else None
    if flat is None:
        norm: Tensor = torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients)))
    else:
        norm, gradients = flat.dot(flat).sqrt(), [flat]
    if norm.device.type == "cpu":  # to compare here costs nothing, and often saves going through the gradients again
        if (before := norm.item()) > limit:
            torch._foreach_mul_(gradients, limit / (before + 1e-6))
    elif math.isfinite(limit):
        torch._foreach_mul_(gradients, factor(norm, limit))
    return norm


def factor(norm: Tensor, limit: float) -> Tensor:
    """Return what to multiply gradients of this norm (scalar) by, so that it is at most `limit`: at most 1 (scalar)."""
    return limit / (norm + 1e-6).clamp(min=limit)
