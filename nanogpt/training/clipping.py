"""Gradients of bounded length."""

from collections.abc import Sequence

import torch
from torch import nn

from nanogpt.models.flat_parameters import FlatParameters


def clip(parameters: Sequence[nn.Parameter], limit: float, memory: FlatParameters | None = None) -> float:
    """Scale all gradients down, so that their norm, of all together, is at most `limit`. Return the norm before.

    memory: what the parameters share, if anything.
    """
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = memory.gradients_of(parameters) if memory is not None else None
    if flat is None:
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
    else:
        norm, gradients = float(flat.dot(flat).sqrt()), [flat]
    if norm > limit:
        torch._foreach_mul_(gradients, limit / (norm + 1e-6))
    return norm
