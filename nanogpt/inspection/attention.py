"""Where the heads of a model attend, and what kind of head each is, by measured scores.

The scores are measured on a sequence of random tokens that is repeated once, so that nothing but the sequence itself
can be known (Olsson et al. 2022, "In-context Learning and Induction Heads"). A head that attends to the token before,
to the first token, or to the token after an earlier copy of the present one is named after that.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nanogpt.errors import UserError
from nanogpt.inspection.layers import calling_layers, check_finite
from nanogpt.models.attention_recorder import recorded_attention
from nanogpt.models.base import LanguageModel, evaluation_mode

KINDS = ("previous token", "first token", "induction")
NAMED = 0.4  # mean attention weight from which a head is named
LONGEST = 64  # tokens that are repeated
SEQUENCES = 4
SHORTEST_CONTEXT = 4  # tokens, to repeat a sequence


@dataclass(frozen=True, slots=True)
class Attention:
    """The attention of one layer, as `name` says; `weights` (nh, T, T): each position (row) over those before it."""

    name: str
    weights: NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class HeadScores:
    """How much a head attends, on average, to each kind of place: 0 to 1, by kind."""

    layer: str
    head: int
    scores: dict[str, float]

    @property
    def kind(self) -> str:
        """The kind of place that it mostly attends to; empty if there is none."""
        best = max(self.scores, key=self.scores.__getitem__)
        return best if self.scores[best] >= NAMED else ""


def attention_of(model: LanguageModel, ids: Tensor) -> list[Attention]:
    """Return the attention of every layer for one sequence of ids (T,).

    Raise `UserError` if the model has none, or its weights are not finite.
    """
    return [Attention(name, weights[0].cpu().numpy()) for name, weights in _recorded(model, ids[None])]


def score_heads(model: LanguageModel, seed: int = 1) -> list[HeadScores]:
    """Return the scores of every head.

    Raise `UserError` if the model has no attention or sees fewer than 4 tokens, or its weights are not finite.
    """
    length = min(LONGEST, model.config.block_size // 2)
    if model.config.block_size < SHORTEST_CONTEXT:
        raise UserError(
            f"block_size={model.config.block_size} is too short to repeat a sequence; it needs at least "
            f"{SHORTEST_CONTEXT}"
        )
    once = _random_ids(model, length, seed)
    found = []
    for name, weights in _recorded(model, torch.cat((once, once), dim=1).to(model.device)):
        means = weights.mean(0)  # (nh, T, T)
        diagonals = {
            "previous token": means.diagonal(-1, 1, 2),
            "first token": means[:, 1:, 0],
            "induction": means.diagonal(1 - length, 1, 2)[:, 1:],  # queries in the repetition
        }
        for head in range(means.size(0)):
            scores = {kind: float(values[head].mean()) for kind, values in diagonals.items()}
            found.append(HeadScores(name, head, scores))
    return found


def _random_ids(model: LanguageModel, length: int, seed: int) -> Tensor:
    """Return random ids (B, T). None is the separator: a position sees no document before its own."""
    size, separator = model.config.vocab_size, model.document_separator
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(size if separator is None else size - 1, (SEQUENCES, length), generator=generator)
    return ids if separator is None else ids + (ids >= separator)


@torch.no_grad()
def _recorded(model: LanguageModel, ids: Tensor) -> list[tuple[str, Tensor]]:
    """Return for every layer its name and its attention weights (B, nh, T, T) for ids (B, T)."""
    if not model.config.capabilities.attention:
        raise UserError(f"attention is not shown for the architecture {model.config.name}")
    found: list[tuple[str, Tensor]] = []

    def take(weights: Tensor) -> None:
        found.append((calling[-1], weights))

    with evaluation_mode(model), calling_layers(model) as calling, recorded_attention(take):
        model(ids)
    check_finite(weights for _, weights in found)
    return found
