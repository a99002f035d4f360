"""What an experiment shows: figures of plain values, which the command line prints and the app draws.

Text in a figure may come from a data set or a model: code that draws it replaces control characters and uses no markup.
"""

import json
from dataclasses import dataclass

from nanogpt import records


@dataclass(frozen=True, slots=True)
class Sentence:
    """A statement about this run, computed from it."""

    text: str


@dataclass(frozen=True, slots=True)
class Pieces:
    """A text cut into tokens: the text of each token and its id, in order."""

    title: str
    pieces: tuple[str, ...]
    ids: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Bar:
    """One bar. `value` is 0 or more; `before` is what it was before the last action; `marked`: the one to look at."""

    label: str
    value: float
    note: str = ""
    before: float | None = None
    marked: bool = False


@dataclass(frozen=True, slots=True)
class Bars:
    """Bars on one scale, from 0 to the largest value among `value` and `before`."""

    title: str
    rows: tuple[Bar, ...]


@dataclass(frozen=True, slots=True)
class Table:
    """A table of cells; each row has as many as the header."""

    title: str
    header: tuple[str, ...]
    rows: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, slots=True)
class Curve:
    """A line through equally many xs and ys, finite numbers; `points`: separate points instead of a line."""

    label: str
    xs: tuple[float, ...]
    ys: tuple[float, ...]
    points: bool = False


@dataclass(frozen=True, slots=True)
class Curves:
    """Curves in one chart. A logarithmic axis has positive values only."""

    title: str
    x_title: str
    y_title: str
    curves: tuple[Curve, ...]
    log_x: bool = False
    log_y: bool = False


@dataclass(frozen=True, slots=True)
class HeatMap:
    """A table of numbers as shades from `low` to `high`; one label for each row and each column."""

    title: str
    values: tuple[tuple[float, ...], ...]
    row_labels: tuple[str, ...]
    column_labels: tuple[str, ...]
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Point:
    """A labelled point; points of one `group` are drawn alike."""

    label: str
    x: float
    y: float
    group: str


@dataclass(frozen=True, slots=True)
class Points:
    """Points on a map, whose two axes have the same scale."""

    title: str
    points: tuple[Point, ...]


Figure = Sentence | Pieces | Bars | Table | Curves | HeatMap | Points


@dataclass(frozen=True, slots=True)
class Figures:
    """All figures that are shown now; they replace the previous `Figures`.

    `live`: they show a computation that leaves nothing if it is cancelled; then those before them are shown again.
    """

    figures: tuple[Figure, ...]
    live: bool = False


@dataclass(frozen=True, slots=True)
class Working:
    """The progress of a computation: the share that is done, 0 to 1, and a short phrase for what it does."""

    share: float
    doing: str


Update = Figures | Working


def to_json(update: Update) -> str:
    """Return an update as one line of JSON; each figure has the name of its class under the key `figure`."""
    if isinstance(update, Working):
        return records.encode("update", update)
    figures = ",".join(records.encode("figure", figure) for figure in update.figures)
    return f'{{"update":{json.dumps(type(update).__name__)},"figures":[{figures}]}}'
