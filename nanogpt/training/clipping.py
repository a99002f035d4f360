"""Gradient clipping by the global norm. A norm that is not finite is handled in `optimizer_step.py`."""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from nanogpt.models.flat_parameters import FlatParameters
from nanogpt.training.sharding import gathered


def clip_gradients(parameters: Sequence[nn.Parameter], limit: float, flat: FlatParameters | None = None) -> Tensor:
    """Scale all gradients so that their global norm is at most `limit`. Return the norm before (scalar).

    flat: the memory that the parameters share, if any. Does not synchronize with a GPU.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat_gradients = flat.gradients_of(parameters) if flat is not None else None
    if flat_gradients is None:
        norm: Tensor = gathered(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
    else:
        norm, gradients = flat_gradients.dot(flat_gradients).sqrt(), [flat_gradients]
    if norm.device.type == "cpu":  # comparing is free here, and often saves the multiplication
        if (before := norm.item()) > limit:
            torch._foreach_mul_(gradients, limit / (before + 1e-6))
    elif math.isfinite(limit):
        torch._foreach_mul_(gradients, clip_factor(norm, limit))
    return norm


def clip_factor(norm: Tensor, limit: float) -> Tensor:
    """Return the factor (scalar, at most 1) that brings gradients of this norm (scalar) to at most `limit`."""
    return limit / (norm + 1e-6).clamp(min=limit)
