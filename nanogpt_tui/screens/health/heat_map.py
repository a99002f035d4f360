"""A heat map of the layers over time, and the figures that it can show. Pure functions of the recorded measurements."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import zip_longest
from statistics import fmean

import numpy as np
from numpy.typing import NDArray

from nanogpt.events import LayerHealth
from nanogpt_tui.text import printable
from nanogpt_tui.widgets.shades import shade_rows
from nanogpt_tui.widgets.sparkline import means

LABEL = 22  # columns at most


@dataclass(frozen=True, slots=True)
class Figure:
    """A figure of a layer. log: it is compared by its logarithm. help: what it says, in a sentence."""

    title: str
    field: str
    help: str
    log: bool = False
    percent: bool = False

    def values(self, event: LayerHealth) -> list[float]:
        """Return the figure of each layer, NaN where it is not defined; for several heads their mean.

        A record of another program may have too few figures, or too many.
        """
        found: list[float] = []
        for _, value in zip_longest(event.layers, getattr(event, self.field)[: len(event.layers)]):
            if isinstance(value, tuple):
                known = [each for each in value if each is not None]
                value = fmean(known) if known else None
            found.append(np.nan if value is None else float(value))
        return found

    def text(self, value: float) -> str:
        """Return a value in few characters; a dash if it is not defined."""
        if np.isnan(value):
            return "–"
        return f"{value:.0%}" if self.percent else f"{value:.3g}"


FIGURES = (
    Figure(
        "update / weights",
        "update_ratio",
        "log10 of the size of an update by the size of the weights: about -3 is usual, above -1 is far too much",
    ),
    Figure("gradient norm", "gradient_norm", "0 means that the layer does not learn", log=True),
    Figure("dead units", "dead_units", "the share of units that hardly vary from token to token", percent=True),
    Figure("activation std", "activation_std", "the deviation of what the layer puts out", log=True),
    Figure(
        "kurtosis", "activation_kurtosis", "3 for a normal distribution; far more means rare, large values", log=True
    ),
    Figure(
        "attention entropy",
        "attention_entropy",
        "0: a head looks at one token alone; 1: at all tokens alike",
        percent=True,
    ),
    Figure("weight norm", "weight_norm", "the size of the weights; it should not grow without end", log=True),
)


def table(events: Sequence[LayerHealth], figure: Figure) -> NDArray[np.float64]:
    """Return the figure of each layer (row) at each measurement (column). The layers are those of the last one."""
    layers = events[-1].layers
    columns = [figure.values(event) if event.layers == layers else [np.nan] * len(layers) for event in events]
    return np.array(columns, np.float64).T


def columns_of(values: NDArray[np.float64], width: int) -> NDArray[np.float64]:
    """Return (rows, up to width) columns: means of neighbouring measurements if there are more than fit.

    Few measurements are several columns wide, all the same number.
    """
    if values.shape[1] <= width:
        return np.repeat(values, width // values.shape[1], axis=1)
    return np.stack([means(row, width) for row in values])


def column_of(at: int, count: int, width: int) -> int:
    """Return the column, of up to `width`, that shows measurement `at` of `count`; the middle one of several."""
    if count <= width:
        wide = width // count
        return at * wide + wide // 2
    return ((at + 1) * width - 1) // count


def axis(first: str, last: str, pointer: str, at: int | None, width: int) -> str:
    """Return the line below a heat map: the first and the last step at its ends, and the pointer at column `at`."""
    cells = list(f"{first:<{max(0, width - len(last))}}{last}"[:width])
    if at is not None:
        start = min(at, max(0, width - len(pointer)))
        cells[start : start + len(pointer)] = pointer
        if start and cells[start - 1].isalnum():
            cells[:start] = " " * start
        end = start + len(pointer)
        if end < len(cells) and cells[end].isalnum():
            cells[end:] = " " * (len(cells) - end)
    return "".join(cells)


def shaded(values: NDArray[np.float64], figure: Figure, ascii_only: bool) -> tuple[list[str], tuple[float, float]]:
    """Return a line of shades for each row, and the values of the lightest and the darkest shade.

    All rows have one scale, so that layers compare. A value that is not defined is a blank.
    """
    with np.errstate(divide="ignore", invalid="ignore"):
        level = np.where(values > 0, np.log10(values), np.nan) if figure.log else values
    known = level[np.isfinite(level)]
    if not len(known):
        return [" " * values.shape[1]] * len(values), (np.nan, np.nan)
    low, high = float(known.min()), float(known.max())
    lines = shade_rows((level - low) / ((high - low) or 1.0), ascii_only, lightest=1)
    return lines, (10**low, 10**high) if figure.log else (low, high)


def histogram_lines(counts: Sequence[int], width: int, bars: str, rows: int = 2) -> list[str]:
    """Return the histogram of a layer's output as bars of characters in some rows, at most `width` columns."""
    if not counts:
        return []
    values = np.repeat(np.array(counts, float), max(1, min(2, width // len(counts))))
    full = len(bars) - 1  # the height of a row
    heights = np.rint(values / values.max() * rows * full).astype(int)
    heights[(values > 0) & (heights == 0)] = 1
    return [
        "".join(bars[max(0, min(full, height - row * full))] for height in heights) for row in reversed(range(rows))
    ]


def label(layer: str) -> str:
    """Return the name of a layer, shortened at its start."""
    name = printable(layer)
    return name if len(name) <= LABEL else "…" + name[1 - LABEL :]
