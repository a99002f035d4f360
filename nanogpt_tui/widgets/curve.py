"""A growing loss curve: its points, their smoothing, and their summary per column of a plot.

The cost of appending depends on the new points only: smoothing continues from its last state, and the columns of an
unchanged x range are computed again only from the one that has the newest points.
"""

import math
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nanogpt.loss_units import LossUnit, TextSize, convert

Floats = NDArray[np.float64]
FIELDS = ("step", "tokens", "time", "loss", "smooth", "flops")
TOGETHER = 1 << 15  # points appended at once: more would need much memory for intermediate results
NO_TEXT_NEEDED = ("loss", "perplexity")  # units of a loss that do not depend on the size of the text


@dataclass(frozen=True, eq=False)
class Columns:
    """Per column, (n,): minimum and maximum of the raw loss, mean of the smoothed one; NaN if empty."""

    low: Floats
    high: Floats
    smooth: Floats


def summarize_columns(x: Floats, edges: Floats, loss: Floats, smooth: Floats) -> Columns:
    """Return minimum and maximum of `loss` and mean of `smooth` over edges[i] <= x < edges[i + 1].

    `x` must not decrease. The last column includes its right edge. NaN values are ignored.
    """
    n = len(edges) - 1
    low, high, mean = np.full((3, n), np.nan)
    bounds = np.searchsorted(x, edges, "left")
    bounds[-1] = np.searchsorted(x, edges[-1], "right")
    filled = np.flatnonzero(bounds[1:] > bounds[:-1])
    if len(filled):
        # reduceat reduces from each start to the next one, so empty columns must be left out
        starts, end = bounds[:-1][filled], bounds[-1]
        low[filled] = np.fmin.reduceat(loss[:end], starts)
        high[filled] = np.fmax.reduceat(loss[:end], starts)
        known = ~np.isnan(smooth[:end])
        counts = np.add.reduceat(known, starts, dtype=np.float64)
        sums = np.add.reduceat(np.where(known, smooth[:end], 0.0), starts)
        mean[filled] = np.divide(sums, counts, out=np.full(len(filled), np.nan), where=counts > 0)
    return Columns(low, high, mean)


def moving_average(values: Floats, decay: float, before: float, count: int) -> Floats:
    """Return the exponential moving average y[t] = d · y[t - 1] + (1 - d) · x[t], d = min(decay, (1 + t) / (10 + t)).

    `values` continue a series of `count` values whose average was `before`; 0 <= decay < 1.

    The smaller d of the first points (as in TensorFlow's ExponentialMovingAverage with num_updates) lets the average
    follow a steep start. Once d is constant, y is computed in blocks: within a block it is a cumulative sum of values
    scaled by 1 / decay^i. A block is so short that the scaling costs at most four of a float's sixteen digits.
    """
    if not count and len(values):
        before = float(values[0])
    growing = min(max(math.ceil((10 * decay - 1) / (1 - decay)) - count, 0), len(values))
    weighted = ((value, (1 + t) / (10 + t)) for t, value in enumerate(values[:growing].tolist(), count))
    early = list(accumulate(weighted, lambda mean, new: new[1] * mean + (1 - new[1]) * new[0], initial=before))
    rest, before = values[growing:], early[-1]
    length = min(max(int(math.log(1e-4) / math.log(decay)), 1), 1024) if decay else 1
    blocks = np.zeros((-(-len(rest) // length), length))
    blocks.ravel()[: len(rest)] = rest
    powers = decay ** np.arange(length)
    inside = (1.0 - decay) * powers * np.cumsum(blocks / powers, axis=1)
    ends = accumulate(inside[:, -1].tolist(), lambda start, end: start * decay**length + end, initial=before)
    carried = np.array(list(ends)[:-1])[:, None] * (powers * decay)
    return np.concatenate([early[1:], (inside + carried).ravel()[: len(rest)]])


def merged(known: tuple[Floats, Floats], steps: ArrayLike, losses: ArrayLike) -> tuple[Floats, Floats]:
    """Return steps and losses of `known` and the new points, in order of step; of equal steps the last one is kept."""
    at = np.append(known[0], np.asarray(steps, float))
    values = np.append(known[1], np.asarray(losses, float))
    ordered, index = np.unique(at[::-1], return_index=True)  # the first of the reversed ones
    return ordered, values[::-1][index]


def in_unit(losses: Floats, unit: LossUnit, text: TextSize | None) -> Floats:
    """Return losses in nats per token in another unit, as `loss_units.convert` does for one; NaN if it is unknown.

    A perplexity is at most 1e100, so that a logarithmic axis has room above it.
    """
    if unit == "loss":
        return losses
    if unit == "perplexity":
        return np.exp(np.minimum(losses, 230.0))
    scale = convert(1.0, unit, text)
    return losses * (math.nan if scale is None else scale)


class Curve:
    """Points in order of step. Tokens and time never decrease; a loss that is not finite is stored as NaN.

    `text` is the size of the text that the losses are about, None if it is not known. `flops_per_token` are those of
    training, 0 if not known; with it, the field "flops" has the operations of all steps so far.
    """

    def __init__(self, smoothing: float = 0.0, text: TextSize | None = None, flops_per_token: int = 0) -> None:
        self.text = text
        self._flops_per_token = flops_per_token
        self._table = np.empty((len(FIELDS), 64))
        self._length = 0
        self._smoothing = smoothing
        self._cache: dict[str, tuple[tuple[float, float, int], int, Columns]] = {}
        self._reset_average()

    def __len__(self) -> int:
        return self._length

    def field(self, name: str) -> Floats:
        """Return a view, (len(self),), of "step", "tokens", "time" (seconds), "flops", "loss" or "smooth"."""
        return self._table[FIELDS.index(name), : self._length]

    @property
    def flops_per_token(self) -> int:
        """The floating-point operations of training for each token; 0 if not known."""
        return self._flops_per_token

    @flops_per_token.setter
    def flops_per_token(self, count: int) -> None:
        if count != self._flops_per_token:
            self._flops_per_token = count
            self._cache.pop("flops", None)
            self.field("flops")[:] = self.field("tokens") * count

    def supports(self, axis: str, unit: LossUnit) -> bool:
        """Return whether the curve can be drawn over this x axis and in this unit."""
        return (axis != "flops" or self._flops_per_token > 0) and (unit in NO_TEXT_NEEDED or self.text is not None)

    @property
    def average(self) -> float | None:
        """The smoothed loss at the last point with a finite loss; None without one."""
        return self._average if self._count else None

    @property
    def smoothing(self) -> float:
        """The decay of the moving average, 0 to below 1; setting it smooths all points again."""
        return self._smoothing

    @smoothing.setter
    def smoothing(self, decay: float) -> None:
        if decay != self._smoothing:
            self._smoothing = decay
            self._reset_average()
            self._cache.clear()
            self._smooth(0)

    def append(self, steps: ArrayLike, tokens: ArrayLike, elapsed_s: ArrayLike, losses: ArrayLike) -> None:
        """Add points, given as scalars or (n,) arrays. They replace all points from their first step on."""
        arrays = np.atleast_1d(*(np.asarray(each, float) for each in (steps, tokens, elapsed_s, losses)))
        points = list(np.broadcast_arrays(*arrays))
        count = points[0].size
        if not count:
            return
        if np.any(points[0][1:] < points[0][:-1]):
            order = np.argsort(points[0], kind="stable")
            points = [each[order] for each in points]
        if self._length and points[0][0] <= self.field("step")[-1]:
            self.truncate(np.nextafter(points[0][0], -np.inf))
        self._reserve(count)
        for start in range(0, count, TOGETHER):
            self._extend(np.stack([each[start : start + TOGETHER] for each in points]))

    def _extend(self, new: Floats) -> None:
        start, self._length = self._length, self._length + new.shape[1]
        self._table[:4, start : self._length] = new
        loss = self._table[3, start : self._length]
        loss[~np.isfinite(loss)] = np.nan
        for row in (1, 2):
            rising = self._table[row, max(start - 1, 0) : self._length]
            np.fmax.accumulate(rising, out=rising)
        self.field("flops")[start:] = self.field("tokens")[start:] * self._flops_per_token
        self._smooth(start)

    def _reserve(self, more: int) -> None:
        size = self._table.shape[1]
        if self._length + more > size:
            grown = np.empty((len(FIELDS), max(self._length + more, size + (size >> 1))))
            grown[:, : self._length] = self._table[:, : self._length]
            self._table = grown

    def truncate(self, step: float) -> None:
        """Remove every point after `step`."""
        keep = int(np.searchsorted(self.field("step"), step, "right"))
        if keep < self._length:
            self._length = keep
            self._reset_average()
            self._cache.clear()
            self._smooth(0)

    def nearest(self, axis: str, x: float) -> int:
        """Return the index of the point nearest to `x`; the curve must not be empty."""
        at = self.field(axis)
        after = int(np.searchsorted(at, x))
        left, right = max(after - 1, 0), min(after, self._length - 1)
        return left if x - at[left] <= at[right] - x else right

    def newest(self, axis: str) -> float:
        """Return the position of the last point on `axis`; 0 without one."""
        return float(self.field(axis)[-1]) if self._length else 0.0

    def locate(self, axis: str, steps: ArrayLike) -> Floats:
        """Return the positions of `steps` on `axis`, interpolated between the recorded points."""
        steps = np.asarray(steps, float)
        if axis == "step" or not self._length:
            return steps if axis == "step" else np.zeros_like(steps)
        return np.asarray(np.interp(steps, self.field("step"), self.field(axis)), np.float64)

    def columns(self, axis: str, edges: Floats) -> Columns:
        """Return `summarize_columns` over equal columns; `edges` is (n + 1,). Do not write to the arrays."""
        key = (float(edges[0]), float(edges[-1]), len(edges))
        x, first, columns = self.field(axis), 0, None
        if axis in self._cache:
            old_key, done, old = self._cache[axis]
            if old_key == key and done == self._length:
                return old
            if old_key == key and done:
                first = int(np.clip(np.searchsorted(edges, x[done - 1], "right") - 1, 0, len(edges) - 2))
                columns = old
        from_point = int(np.searchsorted(x, edges[first], "left"))
        fresh = summarize_columns(
            x[from_point:], edges[first:], self.field("loss")[from_point:], self.field("smooth")[from_point:]
        )
        if columns is None:
            columns = fresh
        else:
            for name in ("low", "high", "smooth"):
                getattr(columns, name)[first:] = getattr(fresh, name)
        self._cache[axis] = key, self._length, columns
        return columns

    def _reset_average(self) -> None:
        self._average, self._count = 0.0, 0

    def _smooth(self, start: int) -> None:
        """Smooth from point `start` on. NaN is skipped, so that one bad step does not end the line."""
        loss, smooth = self.field("loss")[start:], self.field("smooth")[start:]
        known = ~np.isnan(loss)
        smooth[:] = np.nan
        if known.any():
            smooth[known] = averages = moving_average(loss[known], self._smoothing, self._average, self._count)
            self._average, self._count = float(averages[-1]), self._count + len(averages)
