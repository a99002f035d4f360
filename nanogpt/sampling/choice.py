"""Logits → next token: pure functions over a batch of rows. Knows nothing of models, caches or text.

In the shapes: B rows (samples), V tokens to choose among, k of them left. All of it is numpy in float32, whatever the
model ran on: the same seed draws the same token on every device, and for one row a call of numpy's costs a fraction of
one of torch's.
"""

import math
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from nanogpt.config import SamplingConfig
from nanogpt.errors import UserError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Ids = NDArray[np.int64]

COLDEST = 1e-6  # below it, logits that differ at all in float32 differ by more than any draw can tell: greedy
ROUGHLY = 200  # a few of many are found faster among more of them: numpy's partition is slow at the very end of a row


class Choice(NamedTuple):
    """The tokens chosen, one a row. Probabilities are the model's own: softmax of its logits at temperature 1."""

    ids: "Ids"  # (B)
    probabilities: list[float]
    alternatives: list[list[tuple[int, float]]]  # for each row (id, probability), best first


def choose(
    logits: "Floats", knobs: SamplingConfig, seen: "NDArray[np.bool_]", uniforms: "Floats", alternatives: int
) -> Choice:
    """The next token of each row. logits: (B, V) float32; seen: (B, V), true for tokens that the row already has;
    uniforms: (B, 1) float32 in [0, 1), which decide the draw. Raises `UserError` where logits are NaN or infinite.
    """
    with np.errstate(invalid="ignore"):  # what is not finite is told below
        shares = np.exp(below_best(logits))  # (B, V)
        shares /= shares.sum(1, keepdims=True)
    if not np.isfinite(shares).all():
        raise UserError(
            "the model's logits are not finite numbers: its weights are damaged or its training diverged; "
            "sample an earlier checkpoint"
        )
    scores = penalised(logits, seen, knobs.repetition_penalty)
    if knobs.temperature < COLDEST:
        ids = scores.argmax(1)  # (B)
    else:
        scores = below_best(scores) / np.float32(knobs.temperature)
        left, scores = likeliest(scores, knobs.top_k, knobs.top_p)  # (B, k) each
        drawn = draw(not_unlikely(scores, knobs.min_p), uniforms)  # (B)
        ids = of_rows(left, drawn[:, None])[:, 0]
    best = highest(shares, min(alternatives, shares.shape[1]))  # (B, alternatives)
    pairs = zip(best.tolist(), of_rows(shares, best).tolist(), strict=True)
    return Choice(ids, of_rows(shares, ids[:, None])[:, 0].tolist(), [list(zip(*row, strict=True)) for row in pairs])


def below_best(scores: "Floats") -> "Floats":
    """How far each score is below its row's maximum, which becomes 0, so that nothing overflows."""
    below: Floats = scores - scores.max(1, keepdims=True)
    return below


def of_rows(values: "NDArray[Any]", places: "Ids") -> "NDArray[Any]":
    """(B, k): of each row of values (B, V) those at its places (B, k)."""
    return values[np.arange(len(values))[:, None], places]


def highest(values: "Floats", k: int) -> "Ids":
    """(B, k): the places of each row's k highest values, best first."""
    if k == 0:
        return np.empty((len(values), 0), np.int64)
    some = min(values.shape[1], max(k, ROUGHLY))
    places = values.argpartition(-some, 1)[:, -some:]  # in any order
    return of_rows(places, (-of_rows(values, places)).argsort(1)[:, :k])


def penalised(logits: "Floats", seen: "NDArray[np.bool_]", penalty: float) -> "Floats":
    """Makes the tokens that are there already less likely for a penalty above 1 (CTRL, Keskar et al. 2019)."""
    if penalty == 1:
        return logits
    factor = np.float32(penalty)
    return np.where(seen, np.where(logits > 0, logits / factor, logits * factor), logits)


def likeliest(scores: "Floats", top_k: int, top_p: float) -> "tuple[Ids, Floats]":
    """(ids, scores), (B, k) both, in the order of the ids: the `top_k` best of each row (exactly as many, ties or not;
    0 keeps all). Those that are not among the fewest of them that together reach the probability `top_p` (Holtzman et
    al. 2020) have the score -inf; at least one is."""
    rows, everything = scores.shape
    k = min(top_k or everything, everything)
    left = np.arange(everything)[None].repeat(rows, 0)  # (B, V)
    if k < everything:
        left = np.sort(scores.argpartition(-k, 1)[:, -k:], 1)  # (B, k)
        scores = of_rows(scores, left)
    if top_p < 1:
        order = (-scores).argsort(1)  # best first
        shares = np.exp(below_best(of_rows(scores, order)))
        shares /= shares.sum(1, keepdims=True)
        before = shares.cumsum(1) - shares  # the probability of all that are better
        before[:, 0] = -1  # where rounding puts even the best behind a tiny top_p
        kept = np.empty(scores.shape, np.bool_)
        np.put_along_axis(kept, order, before < top_p, 1)
        scores = np.where(kept, scores, np.float32(-math.inf))
    return left, scores


def not_unlikely(scores: "Floats", min_p: float) -> "Floats":
    """Drops the tokens less likely than `min_p` times the likeliest of their row (Nguyen et al. 2024)."""
    if min_p == 0:
        return scores
    return np.where(below_best(scores) < math.log(min_p), np.float32(-math.inf), scores)


def draw(scores: "Floats", uniforms: "Floats") -> "Ids":
    """(B) places, drawn from softmax(scores) by the inverse of its cumulative distribution.

    In the order of the ids, not of the scores: rounding that swaps two near ties then moves a border by as little,
    instead of swapping what they own. A float32 below 1 times the total is below the total, so it ends at a token
    that has a share.
    """
    cumulative = np.exp(below_best(scores)).cumsum(1)  # (B, k)
    drawn: Ids = np.count_nonzero(cumulative <= uniforms * cumulative[:, -1:], axis=1)
    return drawn
