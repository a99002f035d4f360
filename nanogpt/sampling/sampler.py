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
DEPTH = 64  # so many values of a long row at a time are represented by their highest


class SampledTokens(NamedTuple):
    """The tokens chosen, one a row. Probabilities are the model's own: softmax of its logits at temperature 1."""

    ids: "Ids"  # (B)
    probabilities: list[float]
    alternatives: list[tuple[list[int], list[float]]]  # for each row ids and their probabilities, best first


def sample_tokens(
    logits: "Floats", knobs: SamplingConfig, seen: "NDArray[np.bool_]", uniforms: "Floats", alternatives: int
) -> SampledTokens:
    """The next token of each row. logits: (B, V) float32; seen: (B, V), true for tokens that the row already has;
    uniforms: (B, 1) float32 in [0, 1), which decide the draw. Raises `UserError` where logits are NaN or infinite.
    """
    with np.errstate(invalid="ignore"):  # what is not finite is told below
        highest = logits.max(1, keepdims=True)  # (B, 1)
        below = logits - highest  # (B, V)
        total = np.exp(below, out=below).sum(1, keepdims=True)  # (B, 1)
    if not np.isfinite(total).all():
        raise UserError(
            "the model's logits are not finite numbers: its weights are damaged or its training diverged; "
            "sample an earlier checkpoint"
        )

    def shares(ids: "Ids") -> "Floats":
        """The model's probabilities of ids (B, k)."""
        chosen: Floats = np.exp(of_rows(logits, ids) - highest) / total
        return chosen

    scores = penalised(logits, seen, knobs.repetition_penalty)  # (B, V)
    left = None  # the ids to choose among (B, k), ascending; None: all
    if knobs.temperature < COLDEST:
        ids = scores.argmax(1)  # (B)
    else:
        if 0 < knobs.top_k < scores.shape[1]:
            left = np.sort(likeliest(scores, knobs.top_k), 1)
            scores = of_rows(scores, left)  # (B, k)
        scores = below_best(scores) / np.float32(knobs.temperature)
        ids = draw(not_unlikely(nucleus(scores, knobs.top_p), knobs.min_p), uniforms)  # (B)
        if left is not None:
            ids = of_rows(left, ids[:, None])[:, 0]
    known = left if knobs.repetition_penalty == 1 else None  # where the best that are left are the best of all
    best = best_first(logits, known, alternatives)  # (B, alternatives)
    others = list(zip(best.tolist(), shares(best).tolist(), strict=True))
    return SampledTokens(ids, shares(ids[:, None])[:, 0].tolist(), others)


def distribution(logits: "Floats", knobs: SamplingConfig, seen: "NDArray[np.bool_]") -> "Floats":
    """The probabilities (B, V) with which `sample_tokens` draws each token, after all knobs. Shapes as there."""
    scores = penalised(logits, seen, knobs.repetition_penalty)
    if knobs.temperature < COLDEST:
        certain: Floats = (np.arange(scores.shape[1]) == scores.argmax(1)[:, None]).astype(np.float32)
        return certain
    if 0 < knobs.top_k < scores.shape[1]:
        left = np.zeros(scores.shape, np.bool_)
        np.put_along_axis(left, likeliest(scores, knobs.top_k), True, 1)
        scores = np.where(left, scores, np.float32(-math.inf))
    scores = not_unlikely(nucleus(below_best(scores) / np.float32(knobs.temperature), knobs.top_p), knobs.min_p)
    shares: Floats = np.exp(below_best(scores))
    shares /= shares.sum(1, keepdims=True)
    return shares


def below_best(scores: "Floats") -> "Floats":
    """How far each score is below its row's maximum, which becomes 0, so that nothing overflows."""
    below: Floats = scores - scores.max(1, keepdims=True)
    return below


def of_rows(values: "NDArray[Any]", places: "Ids") -> "NDArray[Any]":
    """(B, k): of each row of values (B, V) those at its places (B, k)."""
    return values[np.arange(len(values))[:, None], places]


def best_first(values: "Floats", known: "Ids | None", k: int) -> "Ids":
    """(B, k): the places of each row's k highest values, best first; all of a row that has fewer. known (B, n): the
    places of its n highest."""
    k = min(k, values.shape[1])
    if k == 0:
        return np.empty((len(values), 0), np.int64)
    if values.shape[1] <= ROUGHLY:
        return (-values).argsort(1)[:, :k]
    if known is None or known.shape[1] < k:
        known = likeliest(values, max(k, ROUGHLY))
    return of_rows(known, (-of_rows(values, known)).argsort(1)[:, :k])


def likeliest(values: "Floats", k: int) -> "Ids":
    """(B, k): the places of each row's k highest values in any order: exactly as many, ties or not; all of a row that
    has fewer."""
    everything = values.shape[1]
    if k < everything // DEPTH:
        return np.stack([few_of_many(row, k) for row in values])
    return values.argpartition(-min(k, everything), 1)[:, -k:]


def few_of_many(row: "Floats", k: int) -> "Ids":
    """The same for one row (V) and k ≤ V / DEPTH, in fewer readings of it: k values at least are as high as the k-th
    highest of the maxima of V / DEPTH groups, and hardly more."""
    maxima = row[: len(row) // DEPTH * DEPTH].reshape(DEPTH, -1).max(0)
    places = np.flatnonzero(row >= np.partition(maxima, -k)[-k])
    return places[row[places].argpartition(-k)[-k:]]


def penalised(logits: "Floats", seen: "NDArray[np.bool_]", penalty: float) -> "Floats":
    """Makes the tokens that are there already less likely for a penalty above 1 (CTRL, Keskar et al. 2019)."""
    if penalty == 1:
        return logits
    factor = np.float32(penalty)
    return np.where(seen, np.where(logits > 0, logits / factor, logits * factor), logits)


def nucleus(scores: "Floats", top_p: float) -> "Floats":
    """Drops what is not among the fewest tokens that together reach the probability `top_p` (Holtzman et al. 2020);
    at least one stays."""
    if top_p == 1:
        return scores
    order = (-scores).argsort(1)  # best first
    shares = np.exp(below_best(of_rows(scores, order)))
    shares /= shares.sum(1, keepdims=True)
    before = shares.cumsum(1) - shares  # the probability of all that are better
    before[:, 0] = -1  # where rounding puts even the best behind a tiny top_p
    kept = np.empty(scores.shape, np.bool_)
    np.put_along_axis(kept, order, before < top_p, 1)
    return np.where(kept, scores, np.float32(-math.inf))


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
    drawn: Ids = (cumulative <= uniforms * cumulative[:, -1:]).sum(1)
    return drawn
