"""Sparklines of one or more rows, with the newest value at the right end.

A column shows one value, or the mean of several if there are more values than columns.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nanogpt_tui.widgets.canvas import GLYPHS, code_points, pack, polyline

Floats = NDArray[np.float64]
ENOUGH = 256  # values of a column whose mean is shown; more cost time and change nothing that can be seen


def means(values: Floats, columns: int) -> Floats:
    """Return (columns,) means of equal parts of `values`, NaN ignored. Fewer values are padded with NaN at the left."""
    if len(values) <= columns:
        return np.concatenate([np.full(columns - len(values), np.nan), values])
    starts = np.arange(columns) * len(values) // columns
    known = np.isfinite(values)
    counts = np.add.reduceat(known, starts, dtype=float)
    sums = np.add.reduceat(np.where(known, values, 0.0), starts)
    return np.asarray(np.divide(sums, counts, out=np.full(columns, np.nan), where=counts > 0), np.float64)


def sparkline(values: ArrayLike, width: int, glyphs: str = "braille", *, log: bool = False) -> str:
    """Return `width` characters: a line of braille dots, or bars of eight heights.

    The lowest value is at the bottom, the highest at the top; a constant series is drawn in the middle.
    """
    kind = GLYPHS[glyphs]
    across = kind.across if glyphs == "braille" else 1
    series = np.asarray(values, float).ravel()
    series = series[:: max(1, len(series) // (ENOUGH * max(1, width * across)))]
    with np.errstate(invalid="ignore", divide="ignore"):
        series = np.where(series > 0, np.log10(series), np.nan) if log else series
    y = means(np.where(np.isfinite(series), series, np.nan), width * across)
    known = y[np.isfinite(y)]
    if not width or not len(known):
        return " " * width
    low, span = known.min(), np.ptp(known)
    # differences in the seventh digit are rounding errors
    height = (y - low) / span if span > 1e-6 * np.abs(known).max() else np.where(np.isfinite(y), 0.5, np.nan)
    if glyphs == "braille":
        dots = polyline(np.arange(len(y), dtype=float), np.rint((1 - height) * 3), len(y), 4)
        return "".join(map(chr, pack(dots, kind)[0][0])).replace("\u2800", " ")
    bars = code_points(kind.bars)
    level = np.where(np.isfinite(height), 1 + np.rint(np.nan_to_num(height) * (len(bars) - 2)), 0).astype(int)
    return "".join(map(chr, bars[level]))


def curve(values: ArrayLike, width: int, height: int, glyphs: str = "braille") -> list[str]:
    """Return `height` strings of `width` characters: a line from the first finite value at the left to the newest at
    the right, the lowest in the last row."""
    kind = GLYPHS[glyphs]
    across, down = width * kind.across, height * kind.down
    series = np.asarray(values, float).ravel()
    series = series[np.isfinite(series)]
    if not across or not len(series):
        return [" " * width] * height
    y = means(series, across) if len(series) > across else series
    depth = (y.max() - y) / (np.ptp(y) or 1.0) * (down - 1)
    dots = polyline(np.linspace(0, across - 1, len(y)), depth, across, down)
    return ["".join(map(chr, row)).replace("\u2800", " ") for row in pack(dots, kind)[0]]
