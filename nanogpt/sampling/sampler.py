"""The sampler: pure functions from logits to the next token of each row of a batch.

In the shapes: B rows (samples), V tokens, k of them left to choose from. Everything is numpy in float32 on every
device: the same seed draws the same token everywhere, and for one row a call to numpy costs a fraction of a call to
torch.
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

GREEDY_TEMPERATURE = 1e-6  # below it, any two different float32 logits give probabilities of 1 and 0
MIN_PARTITION_K = 200  # numpy's partition is slow for a smaller k
GROUP_SIZE = 64  # values of a long row that are represented by their maximum


class SampledTokens(NamedTuple):
    """The chosen token of each row. Probabilities are the model's: softmax of its logits at temperature 1."""

    ids: "Ids"  # (B)
    probabilities: list[float]
    alternatives: list[tuple[list[int], list[float]]]  # for each row ids and their probabilities, best first


def sample_tokens(
    logits: "Floats", knobs: SamplingConfig, seen: "NDArray[np.bool_]", uniforms: "Floats", alternatives: int
) -> SampledTokens:
    """Return the next token of each row, and its `alternatives` most likely tokens.

    logits: (B, V) float32. seen: (B, V), true for tokens that the row already contains. uniforms: (B, 1) float32 in
    [0, 1), which decide the draw. Raise `UserError` for logits that are NaN or infinite.
    """
    highest = np.maximum.reduce(logits, 1, keepdims=True)  # (B, 1), without the Python layer of `max`
    if not all(map(math.isfinite, highest[:, 0].tolist())):  # NaN is higher than all numbers here
        raise UserError(
            "the model's logits are not finite numbers: its weights are damaged or its training diverged; "
            "sample an earlier checkpoint"
        )
    shares = logits - highest  # (B, V)
    np.exp(shares, shares)
    scores = penalize_repetition(logits, seen, knobs.repetition_penalty)  # (B, V)
    left = None  # the ids to choose from (B, k), ascending; None: all
    if knobs.temperature < GREEDY_TEMPERATURE:
        ids = scores.argmax(1)  # (B)
    else:
        if 0 < knobs.top_k < scores.shape[1]:
            left = np.sort(top_k_indices(scores, knobs.top_k), 1)
            scores = gather(scores, left)  # (B, k)
        scores = below_max(scores) / np.float32(knobs.temperature)
        ids = draw_tokens(mask_below_min_p(mask_below_top_p(scores, knobs.top_p), knobs.min_p), uniforms)  # (B)
        if left is not None:
            ids = gather(left, ids[:, None])[:, 0]
    known = left if knobs.repetition_penalty == 1 else None  # without a penalty, these are also the best of all
    best = sorted_top_k(logits, known, alternatives)  # (B, alternatives)
    # (B, 1 + alternatives), the probabilities of the chosen token and of the best ones
    chosen = gather(shares, np.concatenate((ids[:, None], best), 1)) / np.add.reduce(shares, 1, keepdims=True)
    others = [(places, row[1:]) for places, row in zip(best.tolist(), chosen.tolist(), strict=True)]
    return SampledTokens(ids, chosen[:, 0].tolist(), others)


def distribution(logits: "Floats", knobs: SamplingConfig, seen: "NDArray[np.bool_]") -> "Floats":
    """Return the probabilities (B, V) of each token in `sample_tokens`, after all knobs. Shapes as there."""
    scores = penalize_repetition(logits, seen, knobs.repetition_penalty)
    if knobs.temperature < GREEDY_TEMPERATURE:
        certain: Floats = (np.arange(scores.shape[1]) == scores.argmax(1)[:, None]).astype(np.float32)
        return certain
    if 0 < knobs.top_k < scores.shape[1]:
        left = np.zeros(scores.shape, np.bool_)
        np.put_along_axis(left, top_k_indices(scores, knobs.top_k), True, 1)
        scores = np.where(left, scores, np.float32(-math.inf))
    scores = mask_below_min_p(
        mask_below_top_p(below_max(scores) / np.float32(knobs.temperature), knobs.top_p), knobs.min_p
    )
    shares: Floats = np.exp(below_max(scores))
    shares /= shares.sum(1, keepdims=True)
    return shares


def below_max(scores: "Floats") -> "Floats":
    """Return scores (B, k) minus the maximum of their row, so that exp does not overflow."""
    below: Floats = scores - np.maximum.reduce(scores, 1, keepdims=True)
    return below


def gather(values: "NDArray[Any]", places: "Ids") -> "NDArray[Any]":
    """Return values (B, k) at `places` (B, k) of each row of values (B, V)."""
    return values[0].take(places) if len(values) == 1 else values[np.arange(len(values))[:, None], places]


def sorted_top_k(values: "Floats", known: "Ids | None", k: int) -> "Ids":
    """Return the places (B, k) of the k highest of values (B, V), best first; all V if there are fewer.

    known: the places (B, n) of the n highest values in any order, if they are known already.
    """
    k = min(k, values.shape[1])
    if k == 0:
        return np.empty((len(values), 0), np.int64)
    if values.shape[1] <= MIN_PARTITION_K:
        return (-values).argsort(1)[:, :k]
    if known is None or known.shape[1] < k:
        known = top_k_indices(values, max(k, MIN_PARTITION_K))
    return gather(known, (-gather(values, known)).argsort(1)[:, :k])


def top_k_indices(values: "Floats", k: int) -> "Ids":
    """Return the places (B, k) of the k highest of values (B, V) in any order; exactly k, also with ties, or all V."""
    V = values.shape[1]
    if k < V // GROUP_SIZE:
        return np.stack([top_k_of_long_row(row, k) for row in values])
    return values.argpartition(-min(k, V), 1)[:, -k:]


def top_k_of_long_row(row: "Floats", k: int) -> "Ids":
    """Return the same (k) for one row (V) and k ≤ V / GROUP_SIZE, with fewer passes over the row.

    At least k values, and hardly more, reach the k-th highest of the maxima of V / GROUP_SIZE groups.
    """
    maxima = row[: len(row) // GROUP_SIZE * GROUP_SIZE].reshape(GROUP_SIZE, -1).max(0)
    places = np.flatnonzero(row >= np.partition(maxima, -k)[-k])
    return places[row[places].argpartition(-k)[-k:]]


def penalize_repetition(logits: "Floats", seen: "NDArray[np.bool_]", penalty: float) -> "Floats":
    """Return logits (B, V) that make tokens in `seen` less likely if the penalty is above 1 (Keskar et al. 2019)."""
    if penalty == 1:
        return logits
    factor = np.float32(penalty)
    return np.where(seen, np.where(logits > 0, logits / factor, logits * factor), logits)


def mask_below_top_p(scores: "Floats", top_p: float) -> "Floats":
    """Mask all but the fewest tokens whose probabilities reach `top_p` together (nucleus, Holtzman et al. 2020).

    At least one token stays. scores: (B, k), as the result.
    """
    if top_p == 1:
        return scores
    order = (-scores).argsort(1)  # best first
    shares = np.exp(below_max(gather(scores, order)))
    shares /= shares.sum(1, keepdims=True)
    before = shares.cumsum(1) - shares  # the probability of all better tokens
    before[:, 0] = -1  # the best stays whatever the rounding
    kept = np.empty(scores.shape, np.bool_)
    np.put_along_axis(kept, order, before < top_p, 1)
    return np.where(kept, scores, np.float32(-math.inf))


def mask_below_min_p(scores: "Floats", min_p: float) -> "Floats":
    """Mask tokens less likely than `min_p` times the most likely of their row (Nguyen et al. 2024). All (B, k)."""
    if min_p == 0:
        return scores
    return np.where(below_max(scores) < math.log(min_p), np.float32(-math.inf), scores)


def draw_tokens(scores: "Floats", uniforms: "Floats") -> "Ids":
    """Return places (B), drawn from softmax(scores (B, k)) by inverting its cumulative distribution.

    Tokens are in the order of their ids, not of their scores. Rounding can swap two nearly equal scores; in this order
    that changes the drawn token only for uniforms close to a step of the cumulative distribution.
    The drawn token always has a probability above 0, because a uniform is below 1.
    """
    cumulative = np.add.accumulate(np.exp(below_max(scores)), 1)  # (B, k)
    drawn: Ids = (cumulative <= uniforms * cumulative[:, -1:]).sum(1)
    return drawn
