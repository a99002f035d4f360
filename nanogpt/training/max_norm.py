"""The max-norm constraint (Srivastava et al. 2014, "Dropout", section 5.1) on the incoming weights of each unit."""

from collections.abc import Sequence

import torch
from torch import nn

from nanogpt.models.base import LanguageModel


def constrained_weights(model: LanguageModel) -> list[nn.Parameter]:
    """Return the matrices (units, inputs) with weight decay, without embeddings: those of hidden layers and the head.

    A row of an embedding is a token and has no incoming weights. A tied head is an embedding.
    """
    groups = [group for group in model.trained_groups() if group.decay and group.role in ("hidden", "head")]
    return [parameter for group in groups for parameter in group.parameters]


@torch.no_grad()
def limit_row_norms(weights: Sequence[nn.Parameter], max_norm: float) -> None:
    """Scale each row whose Euclidean norm is above `max_norm` down to that norm, in place."""
    for weight in weights:
        weight.renorm_(2, 0, max_norm)
