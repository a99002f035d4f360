"""Logits → next token: pure functions over a batch of rows. Knows nothing of models, caches or text.

In the shapes: B rows (samples), V tokens to choose among. All of it runs on the CPU in float32, whatever the model
ran on, so that the same seed draws the same token on every device.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from nanogpt.config import SamplingConfig
from nanogpt.errors import UserError

COLDEST = 1e-6  # below it, logits that differ at all in float32 differ by more than any draw can tell: greedy


class Choice(NamedTuple):
    """The tokens chosen, one a row. Probabilities are the model's own: softmax of its logits at temperature 1."""

    ids: Tensor  # (B, 1) int64
    probabilities: list[float]
    alternatives: list[list[tuple[int, float]]]  # for each row (id, probability), best first


def choose(logits: Tensor, knobs: SamplingConfig, seen: Tensor, uniforms: Tensor, alternatives: int) -> Choice:
    """The next token of each row. logits: (B, V) float32; seen: (B, V), true for tokens that the row already has;
    uniforms: (B, 1) float32 in [0, 1), which decide the draw. Raises `UserError` where logits are NaN or infinite.
    """
    log_total = logits.logsumexp(1, keepdim=True)  # (B, 1)
    if not all(map(math.isfinite, log_total.flatten().tolist())):
        raise UserError(
            "the model's logits are not finite numbers: its weights are damaged or its training diverged; "
            "sample an earlier checkpoint"
        )
    scores = penalised(logits, seen, knobs.repetition_penalty)
    if knobs.temperature < COLDEST:
        ids = scores.argmax(1, keepdim=True)  # (B, 1)
    else:
        scores = heated(scores, knobs.temperature)
        scores = likeliest(scores, knobs.top_k, knobs.top_p)
        ids = draw(not_unlikely(scores, knobs.min_p), uniforms)  # (B, 1)
    probabilities = (logits.gather(1, ids) - log_total).exp_().flatten().tolist()
    best = logits.topk(min(alternatives, logits.size(1)))  # (B, alternatives)
    shares = (best.values - log_total).exp_()
    pairs = [list(zip(*row, strict=True)) for row in zip(best.indices.tolist(), shares.tolist(), strict=True)]
    return Choice(ids, probabilities, pairs)


def penalised(logits: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Makes the tokens that are there already less likely for a penalty above 1 (CTRL, Keskar et al. 2019)."""
    if penalty == 1:
        return logits
    return torch.where(seen, torch.where(logits > 0, logits / penalty, logits * penalty), logits)


def heated(scores: Tensor, temperature: float) -> Tensor:
    """The scores below their maximum, divided by the temperature: the maximum is 0, so that nothing overflows."""
    return (scores - scores.amax(1, keepdim=True)) / temperature


def likeliest(scores: Tensor, top_k: int, top_p: float) -> Tensor:
    """Keeps the `top_k` best of each row (exactly as many, ties or not; 0 keeps all), and of those the fewest that
    together reach the probability `top_p` (Holtzman et al. 2020); at least one. The others become -inf."""
    everything = scores.size(1)
    k = min(top_k or everything, everything)
    if k == everything and top_p >= 1:
        return scores
    best = scores.topk(k)  # (B, k), best first
    kept = best.values
    if top_p < 1:
        shares = kept.softmax(1)
        before = shares.cumsum(1) - shares  # the probability of all that are better
        kept = kept.masked_fill(before >= top_p, -math.inf)
        kept[:, 0] = best.values[:, 0]  # where rounding puts even the best behind a tiny top_p
    return torch.full_like(scores, -math.inf).scatter_(1, best.indices, kept)


def not_unlikely(scores: Tensor, min_p: float) -> Tensor:
    """Drops the tokens less likely than `min_p` times the likeliest of their row (Nguyen et al. 2024)."""
    if min_p == 0:
        return scores
    return scores.masked_fill(scores < scores.amax(1, keepdim=True) + math.log(min_p), -math.inf)


def draw(scores: Tensor, uniforms: Tensor) -> Tensor:
    """(B, 1) ids, drawn from softmax(scores) by the inverse of its cumulative distribution.

    In the order of the ids, not of the scores: rounding that swaps two near ties then moves a border by as little,
    instead of swapping what they own. A float32 below 1 times the total is below the total, so the search
    ends at a token that has a share.
    """
    cumulative = scores.softmax(1).cumsum(1)  # (B, V)
    return torch.searchsorted(cumulative, uniforms * cumulative[:, -1:], right=True)
