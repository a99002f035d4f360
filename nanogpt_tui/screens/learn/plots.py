"""Figures that are drawn on a canvas: curves, heat maps and points on a map.

No figure needs colour to be read: curves differ in their dots and have their names at their ends, the points of a group
have a sign of their own, and a heat map has shades.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from rich.cells import cell_len
from textual.content import Content

from nanogpt.learn.figures import Curve, Curves, HeatMap, Points
from nanogpt_tui.screens.learn.drawing import RenderOptions, cell, flow, heading, number, visible
from nanogpt_tui.text import one_line, short
from nanogpt_tui.widgets.canvas import GLYPHS, Canvas, Dots, plain, polyline
from nanogpt_tui.widgets.scales import LABEL_WIDTH, Scale, multiples, nice_step, x_text, y_labels, y_scale, y_ticks
from nanogpt_tui.widgets.shades import SHADES, shade_rows

Floats = NDArray[np.float64]
KINDS = ("$accent", "$secondary", "$warning", "$error", "$success", "$foreground")  # of curves and groups
STYLES = ("$foreground", "$rule", "$quiet", *KINDS)
AXIS, LABEL, KIND = 1, 2, 3
SIGNS, ASCII_SIGNS = "●○◆◇■□", "*o#+x%"
PATTERNS = ((1, 1), (3, 1), (8, 5), (6, 2))  # of a curve's dots: how many are a period, and how many of it are drawn
SAMPLES, ASCII_SAMPLES = ("━━", "··", "╌╌", "╴╴"), ("==", "..", "--", "- ")  # of the patterns
MARGIN = LABEL_WIDTH + 1
NAME_CELLS = 17  # of the name of a curve at its end, with the sample
NARROW = 50  # columns of a chart without such names
MIN_CURVES, MAX_CURVES = 9, 24  # rows
MIN_ROWS = 6  # of the plot and the axis
MIN_POINTS, MAX_POINTS = 10, 30  # rows
WIDEST_CELL = 6  # of a heat map


# ---- curves


def curves(figure: Curves, width: int, height: int, options: RenderOptions) -> list[Content]:
    """Return a chart of `height` rows, at least MIN_CURVES: a heading, the plot, and the x axis.

    Short names are written at the ends of the curves, long ones in lines above the plot.
    """
    top = heading(figure.title, width, figure.y_title)
    known = [curve for curve in figure.curves if curve.xs]
    if not known:
        return [*top, Content.styled("no points yet", "$quiet")]
    kinds = [sum(other.points == curve.points for other in known[:at]) for at, curve in enumerate(known)]
    samples = [(_sign if curve.points else _sample)(kind, options) for kind, curve in zip(kinds, known, strict=True)]
    names = [f"{sample} {plain(one_line(each.label))}" for sample, each in zip(samples, known, strict=True)]
    longest = max(map(len, names)) if any(curve.label for curve in known) else 0
    aside = longest if longest <= NAME_CELLS and width >= NARROW else 0
    if longest and not aside:
        top += flow((Content.styled(short(name, width), _style(at)) for at, name in enumerate(names)), width)
    canvas = Canvas(width, max(MIN_ROWS, height - len(top)), GLYPHS[options.glyphs])
    plot = _Plot(canvas, width - MARGIN - aside - bool(aside), figure)
    plot.draw_axes(figure)
    for at in sorted(range(len(known)), key=lambda at: known[at].points):  # points over lines
        plot.draw_curve(known[at], KIND + at % len(KINDS), kinds[at], options)
    ends = sorted((plot.row(curve.ys[-1]), at) for at, curve in enumerate(known))
    if aside:
        for row, (_, at) in zip(_spread([row for row, _ in ends], plot.height), ends, strict=True):
            canvas.text(width - aside, row, names[at], KIND + at % len(KINDS))
    return [*top, *canvas.contents(STYLES)]


class _Plot:
    """The part of a canvas inside the axes, with its two scales. It has two rows below it."""

    def __init__(self, canvas: Canvas, width: int, figure: Curves) -> None:
        self.canvas, self.width, self.height = canvas, max(8, width), canvas.height - 2
        self.columns, self.rows = self.width * canvas.glyphs.across, self.height * canvas.glyphs.down
        xs = [x for curve in figure.curves for x in curve.xs]
        ys = [y for curve in figure.curves for y in curve.ys]
        self.x = _x_scale(min(xs), max(xs), figure.log_x, any(curve.points for curve in figure.curves))
        self.y = y_scale(min(ys), max(ys), figure.log_y)

    def draw_axes(self, figure: Curves) -> None:
        canvas, glyphs = self.canvas, self.canvas.glyphs
        ticks = y_ticks(self.y, max(3, self.height // 3))
        for tick, label in zip(ticks, y_labels(ticks), strict=True):
            row = self.row(tick)
            canvas.fill(row, slice(MARGIN, MARGIN + self.width), glyphs.grid, AXIS)
            canvas.text(0, row, label.rjust(LABEL_WIDTH), LABEL)
        bottom, name = self.height, plain(one_line(figure.x_title))
        canvas.fill(bottom, slice(MARGIN, MARGIN + self.width), glyphs.axis, AXIS)
        free, end = 0, canvas.width - len(name) - 1
        canvas.text(end + 1, bottom + 1, name, LABEL)
        for tick, label in _x_ticks(self.x, max(2, self.width // 14)):
            at = self._column(tick)
            start = max(0, at - len(label) // 2)
            if start >= free and start + len(label) <= end:
                canvas.text(at, bottom, glyphs.tick, AXIS)
                canvas.text(start, bottom + 1, label, LABEL)
                free = start + len(label) + 1

    def draw_curve(self, curve: Curve, style: int, kind: int, options: RenderOptions) -> None:
        """Draw a curve in a style. `kind` is the number of its pattern, or of its sign."""
        xs, ys = np.array(curve.xs), np.array(curve.ys)
        if curve.points:
            for x, y in zip(xs.tolist(), ys.tolist(), strict=True):
                self.canvas.text(self._column(x), self.row(y), _sign(kind, options), style)
        else:
            order = np.argsort(xs, kind="stable")
            at, first = np.unique(xs[order], return_index=True)
            dots = polyline(
                self.x.fraction(at) * (self.columns - 1),
                (1 - self.y.fraction(ys[order][first])) * (self.rows - 1),
                self.columns,
                self.rows,
            )
            self.canvas.dots(_patterned(dots, kind), style, MARGIN, 0)

    def row(self, y: float) -> int:
        """Return the row of the canvas in which a value is."""
        fraction = float(np.clip(self.y.fraction(y), 0, 1))
        return round((1 - fraction) * (self.rows - 1)) // self.canvas.glyphs.down

    def _column(self, x: float) -> int:
        return MARGIN + round(float(self.x.fraction(x)) * (self.columns - 1)) // self.canvas.glyphs.across


def _x_scale(low: float, high: float, log: bool, padded: bool) -> Scale:
    """Return a scale from the first to the last x, from 0 if that is near; `padded`: with room at both ends."""
    if log:
        wider = 1.15 if padded or low == high else 1.0
        return Scale(low / wider, high * wider, True)
    if low == high:
        return Scale(low - 0.5, low + 0.5)
    if 0 < low <= 0.1 * high:
        low = 0.0
    edge = 0.04 * (high - low) if padded else 0.0
    return Scale(low - edge, high + edge)


def _x_ticks(scale: Scale, count: int) -> list[tuple[float, str]]:
    """Return the ticks of an x axis and their labels."""
    if scale.log:
        ticks = y_ticks(scale, count)
        return [(tick, _amount(tick)) for tick in ticks]
    step = nice_step(scale.high - scale.low, count)
    ticks = multiples(step, scale.low, scale.high)
    if scale.high < 1000:
        return list(zip(ticks, (label.strip() for label in y_labels(ticks)), strict=True))
    return [(tick, x_text("tokens" if scale.high >= 1e5 else "step", tick, step)) for tick in ticks]


def _amount(value: float) -> str:
    """Return a number of a logarithmic axis: 0.001, 20, 5k, 1M."""
    for size, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:.3g}{unit}"
    return f"{value:.3g}"


def _patterned(dots: Dots, kind: int) -> Dots:
    """Return the dots of a line with the gaps of its pattern."""
    period, drawn = PATTERNS[kind % len(PATTERNS)]
    ordinal = np.cumsum(dots.ravel(order="F")).reshape(dots.shape, order="F") - 1
    return dots & (ordinal % period < drawn)


def _sample(kind: int, options: RenderOptions) -> str:
    return (ASCII_SAMPLES if options.is_ascii else SAMPLES)[kind % len(PATTERNS)]


def _sign(kind: int, options: RenderOptions) -> str:
    return (ASCII_SIGNS if options.is_ascii else SIGNS)[kind % len(SIGNS)]


def _spread(rows: list[int], height: int) -> list[int]:
    """Return increasing rows near the given ones, each its own if there is room: where names are written."""
    spread: list[int] = []
    for row in rows:
        spread.append(max(row, spread[-1] + 1 if spread else 0))
    limit = height - 1
    for place in reversed(range(len(spread))):
        spread[place] = min(spread[place], limit)
        limit = spread[place] - 1
    return spread


# ---- heat maps


def heat_map(figure: HeatMap, width: int, options: RenderOptions) -> list[Content]:
    """Return a row of shades for each row of values, the names of the columns above, the scale below.

    If not all columns fit, the last ones are shown.
    """
    labels = [visible(label, options.is_ascii) for label in figure.row_labels]
    names = [visible(label, options.is_ascii) for label in figure.column_labels]
    first_width = min(max(map(cell_len, labels), default=0), max(4, width // 4))
    room = width - first_width - 1
    longest = max(map(cell_len, names), default=1)
    size = max(1, min(room // max(1, len(names)), WIDEST_CELL, max(2, longest + 1)))
    shown = slice(max(0, len(names) - room // size), None)
    hidden = len(names) - len(names[shown])
    lines = heading(figure.title, width, f"the last {len(names) - hidden} of {len(names)} columns" if hidden else "")
    if any(names):
        header = "".join(cell(name, size) if size > 1 else short(name, 1) for name in _spaced(names[shown], size))
        lines.append(Content.styled(" " * (first_width + 1) + header.rstrip(), "$quiet"))
    values = np.array(figure.values, np.float64).reshape(len(labels), len(names))[:, shown]
    fractions = (values - figure.low) / ((figure.high - figure.low) or 1.0)
    for label, row in zip(labels, shade_rows(fractions, options.is_ascii), strict=True):
        cells = "".join(shade * size for shade in row)
        lines.append(Content.assemble((cell(label, first_width, right=True) + " ", "$quiet"), (cells, "$accent")))
    darkest = SHADES["ascii" if options.is_ascii else ""][-1]
    scale = f"{'':{first_width}} blank {number(figure.low)}   {darkest * 2} {number(figure.high)}"
    lines.append(Content.styled(short(scale, width), "$quiet"))
    return lines


def _spaced(names: Sequence[str], size: int) -> list[str]:
    """Return names that leave a blank between two columns; of one that is too long, its beginning."""
    return [name if cell_len(name) < size or size < 3 else short(name, size - 1) for name in names]


# ---- maps


def points(figure: Points, width: int, height: int, options: RenderOptions) -> list[Content]:
    """Return a map of `height` rows, at least MIN_POINTS. A label that would cover another point is left out."""
    groups = list(dict.fromkeys(point.group for point in figure.points))
    lines = heading(figure.title, width)
    if not figure.points:
        return [*lines, Content.styled("no points yet", "$quiet")]
    if any(groups):
        signs = [(f"{_sign(place, options)} {one_line(group)}   ", _style(place)) for place, group in enumerate(groups)]
        lines.append(Content.assemble(*signs).truncate(width, ellipsis=True))
    canvas = Canvas(width, max(3, height - len(lines)), GLYPHS[options.glyphs])
    across, down = _places(figure, width, canvas.height)
    taken = set(zip(across, down, strict=True))
    for x, y, point in zip(across, down, figure.points, strict=True):
        kind = KIND + groups.index(point.group) % len(KINDS)
        canvas.text(x, y, _sign(groups.index(point.group), options), kind)
    for x, y, point in zip(across, down, figure.points, strict=True):
        text = plain(visible(point.label, options.is_ascii))
        for start in (x + 1, x - len(text)):
            cells = {(at, y) for at in range(start, start + len(text))}
            if start >= 0 and start + len(text) <= width and not cells & taken:
                canvas.text(start, y, text, KIND + groups.index(point.group) % len(KINDS))
                taken |= cells
                break
    return [*lines, *canvas.contents(STYLES)]


def _style(place: int) -> str:
    return KINDS[place % len(KINDS)]


def _places(figure: Points, width: int, height: int) -> tuple[list[int], list[int]]:
    """Return column and row of each point: the map is as large as it fits, a row as high as two columns are wide."""
    x, y = (np.array([getattr(point, axis) for point in figure.points]) for axis in ("x", "y"))
    side = max(1, max((len(visible(point.label, False)) for point in figure.points), default=0)) + 1
    inner, rows = max(1, width - 2 * side), max(1, height - 1)
    scale = max(float(np.ptp(x)) / inner, float(np.ptp(y)) / (2 * rows)) or 1.0  # per column
    across = np.clip(width / 2 + (x - (x.max() + x.min()) / 2) / scale, 0, width - 1)
    down = np.clip((height - 1) / 2 - (y - (y.max() + y.min()) / 2) / (2 * scale), 0, height - 1)
    return across.astype(int).tolist(), np.rint(down).astype(int).tolist()
