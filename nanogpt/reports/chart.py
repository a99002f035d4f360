"""Line charts as SVG: curves over steps, with a band for values that share a column, and marks.

Up to POINTS points are drawn as they are. Of more, a line shows the mean of the values in each of as many columns, and
a band behind it their minimum and maximum, so that the size of a chart does not grow with the run.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nanogpt.reports.markup import Markup, element

Floats = NDArray[np.float64]
Range = tuple[float, float]

POINTS = 240
LEFT, RIGHT, TOP, BOTTOM = 58.0, 14.0, 40.0, 28.0  # margins around the plot
LETTER = 6.7  # about the width of a letter of the legend
LOG_FROM = 20.0  # largest by smallest value, from which on a scale may be logarithmic

STYLE = """
.chart { font: 12px system-ui, sans-serif; }
.chart text { fill: #6b6b68; }
.chart .title { fill: #1d1d1b; font-size: 14px; font-weight: 600; }
.chart .grid { stroke: #e7e6e2; }
.chart .mark { stroke: #c2410c; stroke-dasharray: 3 3; }
.chart .line { fill: none; stroke-width: 1.75; stroke-linejoin: round; }
.chart .band { fill-opacity: 0.18; }
.chart .c0 { stroke: #2f6bd8; } .chart .f0 { fill: #2f6bd8; }
.chart .c1 { stroke: #d9720b; } .chart .f1 { fill: #d9720b; }
.chart .c2 { stroke: #1a8a5f; } .chart .f2 { fill: #1a8a5f; }
.chart .c3 { stroke: #8b4fc4; } .chart .f3 { fill: #8b4fc4; }
@media (prefers-color-scheme: dark) {
  .chart text { fill: #a3a29d; }
  .chart .title { fill: #ecebe7; }
  .chart .grid { stroke: #34343a; }
  .chart .mark { stroke: #fb923c; }
  .chart .c0 { stroke: #7fa9ff; } .chart .f0 { fill: #7fa9ff; }
  .chart .c1 { stroke: #ffb066; } .chart .f1 { fill: #ffb066; }
  .chart .c2 { stroke: #5fd0a0; } .chart .f2 { fill: #5fd0a0; }
  .chart .c3 { stroke: #c69bf2; } .chart .f3 { fill: #c69bf2; }
}
"""


@dataclass(frozen=True, slots=True)
class Curve:
    """Values over ascending steps. `colour` is from 0 to 3; `dots` marks each point, which then has a tooltip, unless
    there are more than POINTS."""

    name: str
    steps: ArrayLike
    values: ArrayLike
    colour: int = 0
    dots: bool = False


@dataclass(frozen=True, slots=True)
class _Drawn:
    """The points of a curve that are drawn, and the band behind them (low, high), if there is one."""

    curve: Curve
    x: Floats
    y: Floats
    low: Floats | None = None
    high: Floats | None = None

    def visible(self) -> Floats:
        """Return the values that the axis has to show: not the outliers of the band."""
        if self.low is None or self.high is None:
            return self.y
        return np.append(self.y, (np.quantile(self.low, 0.1), np.quantile(self.high, 0.9)))


@dataclass(frozen=True, slots=True)
class _Scale:
    """From values to pixels."""

    low: float
    high: float
    pixels: float
    is_log: bool = False
    is_flipped: bool = False

    def __call__(self, values: ArrayLike) -> Floats:
        known = np.asarray(values, np.float64)
        if self.is_log:
            known = np.log10(np.maximum(known, 1e-300))
        share: Floats = (known - self.low) / (self.high - self.low)
        return self.pixels * (1 - share if self.is_flipped else share)

    def ticks(self) -> list[float]:
        """Return the round values of the grid."""
        if not self.is_log:
            return _round_values(self.low, self.high)
        decades = range(math.floor(self.low), math.ceil(self.high) + 1)
        factors = (1, 2, 5) if self.high - self.low < 2 else (1,)
        values = [factor * 10.0**decade for decade in decades for factor in factors]
        found = [value for value in values if self.low <= math.log10(value) <= self.high]
        return found[:: max(1, len(found) // 6)]


def chart(
    title: str,
    curves: Sequence[Curve],
    *,
    may_be_log: bool = False,
    marks: Sequence[tuple[float, str]] = (),
    width: float = 560.0,
    height: float = 250.0,
) -> Markup:
    """Return an `<svg>` of the curves, without colours: `STYLE` has them.

    may_be_log: the scale is logarithmic if all values are positive and differ enough. marks: vertical lines at steps,
    each with its tooltip. Values that are not finite are left out.
    """
    drawn = [each for each in map(_drawn, curves) if len(each.x)]
    inner_width, inner_height = width - LEFT - RIGHT, height - TOP - BOTTOM
    parts: list[str] = [element("text", title, x=LEFT, y=18, class_="title")]
    if not drawn:
        parts.append(element("text", "no values", x=width / 2, y=height / 2, text_anchor="middle"))
        return _svg(parts, title, width, height)
    values = np.concatenate([each.visible() for each in drawn])
    is_log = may_be_log and values.min() > 0 and values.max() / values.min() > LOG_FROM
    ys = np.log10(values) if is_log else values
    y_scale = _Scale(*_padded(float(ys.min()), float(ys.max()), 0.06), inner_height, is_log, is_flipped=True)
    x_scale = _Scale(*_span(drawn), inner_width)
    for value in y_scale.ticks():
        y = TOP + float(y_scale(value))
        parts.append(element("line", x1=LEFT, x2=width - RIGHT, y1=y, y2=y, class_="grid"))
        parts.append(element("text", label(value), x=LEFT - 8, y=y + 4, text_anchor="end"))
    for value in x_scale.ticks():
        x = LEFT + float(x_scale(value))
        parts.append(element("text", label(value), x=x, y=height - 8, text_anchor="middle"))
    plot = [*_marks(marks, x_scale, inner_height)]
    for each in drawn:
        plot += _curve(each, x_scale, y_scale)
    # an svg inside an svg clips what is outside of it
    parts.append(element("svg", *plot, x=LEFT, y=TOP, width=inner_width, height=inner_height))
    parts += _legend(drawn, width - RIGHT)
    return _svg(parts, title, width, height)


def standalone(drawing: Markup) -> str:
    """Return the text of an SVG file, with the colours."""
    start, rest = drawing.split(">", 1)
    background = '<rect width="100%" height="100%" fill="#ffffff" class="ground"/>'
    dark = "@media (prefers-color-scheme: dark) { .chart .ground { fill: #16161a; } }"
    return f'{start} xmlns="http://www.w3.org/2000/svg"><style>{STYLE}{dark}</style>{background}{rest}\n'


def label(value: float) -> str:
    """Return a number of an axis in few characters."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if abs(value) >= size:
            return f"{value / (1e3 if unit == 'k' else size):.4g}{unit}"
    return f"{value:.4g}"


def _svg(parts: Sequence[str], title: str, width: float, height: float) -> Markup:
    return element("svg", *parts, viewBox=f"0 0 {width:.0f} {height:.0f}", class_="chart", role="img", aria_label=title)


def _drawn(curve: Curve) -> _Drawn:
    """Return what is drawn of a curve: its finite points, or their summary by column if they are many."""
    x, y = np.asarray(curve.steps, np.float64), np.asarray(curve.values, np.float64)
    known = np.isfinite(x) & np.isfinite(y)
    x, y = x[known], y[known]
    if len(x) <= POINTS:
        return _Drawn(curve, x, y)
    column = np.minimum((x - x[0]) * (POINTS / max(x[-1] - x[0], 1e-9)), POINTS - 1).astype(int)
    starts = np.flatnonzero(np.diff(column, prepend=-1))
    counts = np.diff(starts, append=len(x))
    mean_x, mean_y = np.add.reduceat(x, starts) / counts, np.add.reduceat(y / counts.repeat(counts), starts)
    return _Drawn(curve, mean_x, mean_y, np.minimum.reduceat(y, starts), np.maximum.reduceat(y, starts))


def _span(drawn: Sequence[_Drawn]) -> Range:
    """Return the range of the steps."""
    low, high = min(float(each.x[0]) for each in drawn), max(float(each.x[-1]) for each in drawn)
    return (low, high) if high > low else (low - 1, high + 1)


def _padded(low: float, high: float, share: float) -> Range:
    """Return a range that is wider by a share on both sides, and never empty."""
    room = share * (high - low) or 0.1 * abs(high) or 1.0
    return low - room, high + room


def _round_values(low: float, high: float) -> list[float]:
    """Return three to seven round numbers between `low` and `high`."""
    rough = (high - low) / 5
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(unit * factor for factor in (1, 2, 2.5, 5, 10) if unit * factor >= rough * 0.99)
    first, last = math.ceil(low / step), math.floor(high / step)
    return [number * step for number in range(first, last + 1)]


def _curve(drawn: _Drawn, x_scale: _Scale, y_scale: _Scale) -> Iterator[Markup]:
    """Yield the band, the line and the dots of a curve."""
    colour, x, y = drawn.curve.colour, x_scale(drawn.x), y_scale(drawn.y)
    if drawn.low is not None and drawn.high is not None:
        outline = _path(np.append(x, x[::-1]), np.append(y_scale(drawn.high), y_scale(drawn.low)[::-1]))
        yield element("path", d=f"{outline}Z", class_=f"band f{colour}")
    if len(x) > 1:
        yield element("path", d=_path(x, y), class_=f"line c{colour}")
    if (drawn.curve.dots and drawn.low is None) or len(x) == 1:  # a mean of several values is no point
        for at, (px, py) in enumerate(zip(x.tolist(), y.tolist(), strict=True)):
            tip = f"{drawn.curve.name} {drawn.y[at]:.4f} at step {drawn.x[at]:,.0f}"
            yield element("circle", element("title", tip), cx=px, cy=py, r=2.6, class_=f"f{colour}")


def _path(x: Floats, y: Floats) -> str:
    pixels = np.clip(np.column_stack((x, y)), -9999, 9999)  # a band may be far outside of the plot
    return "M" + "L".join(f"{px:.1f} {py:.1f}" for px, py in pixels.tolist())


def _marks(marks: Sequence[tuple[float, str]], x_scale: _Scale, height: float) -> Iterator[Markup]:
    for step, tip in marks:
        x = float(x_scale(step))
        yield element("line", element("title", tip), x1=x, x2=x, y1=0, y2=height, class_="mark")


def _legend(drawn: Sequence[_Drawn], right: float) -> Iterator[Markup]:
    """Yield the names of the curves from the right, if there are several."""
    if len(drawn) == 1:
        return
    for each in reversed(drawn):
        right -= LETTER * len(each.curve.name)
        yield element("text", each.curve.name, x=right, y=18)
        yield element("rect", x=right - 15, y=9, width=10, height=10, rx=2, class_=f"f{each.curve.colour}")
        right -= 30
