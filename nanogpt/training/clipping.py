"""Gradients of bounded length. Knows nothing of what they are used for."""

from collections.abc import Iterable

import torch
from torch import Tensor

from nanogpt.models.parts.packed import joined


def clip(parameters: Iterable[Tensor], limit: float) -> float:
    """Scales all gradients down, so that their norm, of all together, is at most `limit`. Returns the norm before."""
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = joined(gradients)
    if flat is None:
        norm = float(torch.linalg.vector_norm(torch.stack(torch._foreach_norm(gradients))))
    else:
        norm, gradients = float(flat.dot(flat).sqrt()), [flat]
    if norm > limit:
        torch._foreach_mul_(gradients, limit / (norm + 1e-6))
    return norm
