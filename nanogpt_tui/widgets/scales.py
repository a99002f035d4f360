"""Axes, linear or logarithmic: rounded ranges, 1-2-5 ticks, and labels of fixed width."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

LABEL_WIDTH = 6
AXES = ("step", "tokens", "time", "flops")
# tick intervals of a time axis, in seconds; above a day they are 1-2-5 days
CLOCK = (1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 10800, 21600, 43200, 86400)


@dataclass(frozen=True)
class Scale:
    """Maps values between `low` and `high` to 0 .. 1."""

    low: float
    high: float
    log: bool = False

    def fraction(self, value: NDArray[np.float64] | float) -> NDArray[np.float64]:
        """Return the position of each value, NaN for NaN and, on a log scale, for a value not above 0."""
        values = np.asarray(value, np.float64)
        low, high = self.low, self.high
        if self.log:
            with np.errstate(invalid="ignore", divide="ignore"):
                values = np.where(values > 0, np.log10(values), np.nan)
            low, high = math.log10(low), math.log10(high)
        return (values - low) / (high - low)


def nice_step(span: float, count: int) -> float:
    """Return the smallest of 1, 2, 5 × 10^k that divides `span` (above 0) into at most `count` parts."""
    raw = span / max(count, 1)
    power = 10.0 ** math.floor(math.log10(raw))
    return next(factor * power for factor in (1, 2, 5, 10) if factor * power >= raw * (1 - 1e-9))


def x_step(axis: str, span: float, count: int) -> float:
    """Return `nice_step` for an x axis: whole steps or tokens, or an interval of CLOCK."""
    if axis != "time":
        return max(1.0, nice_step(span, count))
    for step in CLOCK:
        if span / step <= count:
            return float(step)
    return 86400 * nice_step(span / 86400, count)


def multiples(step: float, low: float, high: float) -> list[float]:
    """Return the multiples of `step` from `low` to `high`, both included."""
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [number * step for number in range(first, last + 1)]


def y_ticks(scale: Scale, count: int) -> list[float]:
    """Return about `count` ticks, at least two.

    They are in 1-2-5 steps on a linear scale or for a range below a decade; else at 1, 2, 5 × 10^k, or at fewer
    multiples of 10^k if the range has many decades.
    """
    if not scale.log or scale.high / scale.low < 10:
        ticks: list[float] = []
        while len(ticks) < 2:
            ticks = multiples(nice_step(scale.high - scale.low, count), scale.low, scale.high)
            count += 1
        return ticks
    decades = range(math.floor(math.log10(scale.low)), math.ceil(math.log10(scale.high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        ticks = [factor * 10.0**decade for decade in decades for factor in factors]
        ticks = [tick for tick in ticks if scale.low * (1 - 1e-9) <= tick <= scale.high * (1 + 1e-9)]
        if len(ticks) <= count:
            return ticks
    return ticks[:: math.ceil(len(ticks) / max(count, 1))]


def y_scale(low: float, high: float, log: bool) -> Scale:
    """Return a range a little wider than `low` .. `high`; its ends are rounded, so that new data seldom move it."""
    if log:
        low, high = math.log10(low), math.log10(high)
    if high - low < 1e-9 * max(abs(low), abs(high), 1e-9):
        pad = max(abs(low) * 0.05, 1e-6)
        low, high = low - pad, high + pad
    step = nice_step(high - low, 20)
    low, high = math.floor(low / step) * step, math.ceil(high / step) * step
    return Scale(10.0**low, 10.0**high, True) if log else Scale(low, high)


def x_end(axis: str, last: float) -> float:
    """Return the end of the x axis if the newest point is at `last`: rounded up to a 1-2-5 multiple, at least 1."""
    step = x_step(axis, last, 10) if last > 0 else 1.0
    return max(step * math.ceil(last / step - 1e-9), 1.0)


def y_labels(ticks: Sequence[float]) -> list[str]:
    """Return labels with enough decimals to distinguish neighbours, at most LABEL_WIDTH wide."""
    sizes = [abs(tick) for tick in ticks if tick] + [b - a for a, b in pairwise(ticks)]
    decimals = max(0, -math.floor(math.log10(min(sizes, default=1.0)) + 1e-9))
    labels = [f"{tick:.{decimals}f}" for tick in ticks]
    if any(len(label) > LABEL_WIDTH for label in labels):
        return [f"{tick:.0e}".replace("e-0", "e-").replace("e+0", "e")[:LABEL_WIDTH] for tick in ticks]
    return labels


def loss_text(value: float) -> str:
    """Return a loss with four digits, 6 characters wide."""
    if not math.isfinite(value):
        return "     –"
    decimals = 3 if abs(value) < 100 else 1 if abs(value) < 10_000 else 0
    return f"{value:6.{decimals}f}" if abs(value) < 1e6 else f"{value:6.0e}"


def x_text(axis: str, value: float, step: float = 1.0) -> str:
    """Return the label of `value` on an x axis whose ticks are `step` apart: 1,500 · 20.5M · 1:05:00 · 2e15."""
    if axis == "flops" and value:
        decimals = min(3, max(0, math.floor(math.log10(abs(value)) + 1e-9) - math.floor(math.log10(step) + 1e-9)))
        return f"{value:.{decimals}e}".replace("e+0", "e").replace("e+", "e")
    if axis == "time":
        seconds = round(value)
        hours, minutes, rest = seconds // 3600, seconds // 60 % 60, seconds % 60
        if step >= 86400:
            return f"{seconds / 86400:.0f}d"
        return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
    if axis == "step" and abs(value) < 1e6:
        return f"{value:,.0f}"
    for unit, suffix in ((1e12, "T"), (1e9, "B"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= unit:
            decimals = min(3, max(0, -math.floor(math.log10(step / unit) + 1e-9)))
            return f"{value / unit:.{decimals}f}{suffix}"
    return f"{value:.0f}"
