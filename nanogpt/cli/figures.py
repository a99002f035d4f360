"""The figures of a lesson as lines of text, for any terminal."""

import math
from collections.abc import Callable, Iterator, Sequence
from itertools import pairwise, zip_longest
from textwrap import wrap

from nanogpt.cli.console import columns, crop
from nanogpt.formatting import printable
from nanogpt.learn.figures import Bars, Curves, Figure, HeatMap, Pieces, Points, Sentence, Table

MARKS = "●○×+◆▲"
ASCII_MARKS = "ox*+#@"
EIGHTHS = " ▏▎▍▌▋▊▉█"
SHADES = " ░▒▓█"
ASCII_SHADES = " .:*#"
CHART_ROWS = 10
MAP_ROWS = 15
BAR_COLUMNS = 32


def figure_lines(figure: Figure, width: int, is_unicode: bool = True) -> Iterator[str]:
    """Yield the lines of a figure, each of at most `width` columns, without control characters."""
    match figure:
        case Sentence(text):
            lines: Iterator[str] = iter(wrap(printable(text), width))
        case Pieces():
            lines = _titled(figure.title, _pieces(figure, width, is_unicode))
        case Bars():
            lines = _titled(figure.title, _bars(figure, is_unicode))
        case Table():
            lines = _titled(figure.title, _table(figure))
        case Curves():
            lines = _titled(figure.title, _curves(figure, width, is_unicode))
        case HeatMap():
            lines = _titled(figure.title, _heat_map(figure, is_unicode))
        case Points():
            lines = _titled(figure.title, _points(figure, width, is_unicode))
    for line in lines:
        yield crop(_one_line(line), width).rstrip()


def _one_line(text: str) -> str:
    return printable(" ".join(text.splitlines())).replace("\t", " ")


def _titled(title: str, lines: Iterator[str]) -> Iterator[str]:
    yield title
    for line in lines:
        yield f"  {line}"


def _padded(text: str, width: int, right: bool = False) -> str:
    padding = " " * (width - columns(text))
    return padding + text if right else text + padding


def _pieces(figure: Pieces, width: int, is_unicode: bool) -> Iterator[str]:
    """Yield the pieces with bars between them; a space is shown as a dot."""
    bar, dot = ("│", "·") if is_unicode else ("|", "_")
    line = bar
    for piece in figure.pieces:
        shown = _one_line(piece).replace(" ", dot) + bar
        if columns(line + shown) > width - 2 and line != bar:
            yield line
            line = bar
        line += shown
    yield line


def _bars(figure: Bars, is_unicode: bool) -> Iterator[str]:
    most = max([row.value for row in figure.rows] + [row.before or 0.0 for row in figure.rows], default=0.0)
    labels = max((columns(_one_line(row.label)) for row in figure.rows), default=0)
    for row in figure.rows:
        note = row.note or f"{row.value:.3g}"
        change = "" if row.before is None else f"  before {_like(row.note, row.before)}"
        mark = (">" if not is_unicode else "▸") if row.marked else " "
        bar = _bar(row.value / most if most else 0.0, is_unicode)
        yield f"{mark} {_padded(_one_line(row.label), labels)} {_padded(bar, BAR_COLUMNS)} {note}{change}"


def _like(note: str, value: float) -> str:
    """Return a number in the unit of a note: in percent if that is."""
    return f"{100 * value:.1f} %" if note.endswith("%") else f"{value:.3g}"


def _bar(share: float, is_unicode: bool) -> str:
    if not is_unicode:
        return "#" * round(BAR_COLUMNS * share)
    full, eighths = divmod(round(8 * BAR_COLUMNS * share), 8)
    return EIGHTHS[-1] * full + (EIGHTHS[eighths] if eighths else "")


def _table(figure: Table) -> Iterator[str]:
    cells = [[_one_line(cell) for cell in row] for row in (figure.header, *figure.rows)]
    widths = [max(map(columns, column)) for column in zip_longest(*cells, fillvalue="")]
    right = [all(_is_figure(row[place]) for row in cells[1:]) for place in range(len(widths))]
    for row in cells:
        yield "  ".join(map(_padded, row, widths, right))


def _is_figure(text: str) -> bool:
    return bool(text) and set(text) <= set("0123456789.,%±+-−e –") and text[-1] in "0123456789.%–"


def _curves(figure: Curves, width: int, is_unicode: bool) -> Iterator[str]:
    """Yield a chart: one mark for each curve, the limits of the axes, and what the marks mean."""
    marks = MARKS if is_unicode else ASCII_MARKS
    x_of, y_of = _scale(figure.log_x), _scale(figure.log_y)
    xs = [x for curve in figure.curves for x in curve.xs]
    ys = [y for curve in figure.curves for y in curve.ys]
    if not xs:
        yield "(nothing yet)"
        return
    labels = [f"{max(ys):.3g}", f"{min(ys):.3g}"]
    margin = max(map(len, labels))
    n_columns = max(20, min(width - margin - 6, 72))
    grid = [[" "] * n_columns for _ in range(CHART_ROWS)]
    place_x = _placer([x_of(x) for x in xs], n_columns)
    place_y = _placer([y_of(y) for y in ys], CHART_ROWS)
    for number, curve in enumerate(figure.curves):
        mark = marks[number % len(marks)]
        points = [(place_x(x_of(x)), place_y(y_of(y))) for x, y in zip(curve.xs, curve.ys, strict=True)]
        for column, row in points if curve.points or not points else _joined(points):
            grid[CHART_ROWS - 1 - row][column] = mark
    axis, corner, line = ("│", "└", "─") if is_unicode else ("|", "+", "-")
    for number, cells in enumerate(grid):
        label = labels[0] if number == 0 else labels[1] if number == CHART_ROWS - 1 else ""
        yield f"{label:>{margin}} {axis}{''.join(cells)}"
    low, high = f"{min(xs):.3g}", f"{max(xs):.3g}"
    yield f"{'':{margin}} {corner}{line * n_columns}"
    title = f"{figure.x_title}, {figure.y_title} upwards"
    gap = max(1, n_columns - len(low) - len(high) - len(title))
    yield f"{'':{margin}}  {low}{' ' * (gap // 2)}{title}{' ' * (gap - gap // 2)}{high}"
    if len(figure.curves) > 1:
        names = (f"{marks[number % len(marks)]} {curve.label}" for number, curve in enumerate(figure.curves))
        yield f"{'':{margin}}  {'   '.join(names)}"


def _scale(is_log: bool) -> Callable[[float], float]:
    return math.log10 if is_log else float


def _placer(values: Sequence[float], cells: int) -> Callable[[float], int]:
    """Return the function from a value to its cell, 0 to cells - 1."""
    low, span = min(values), max(values) - min(values)
    return lambda value: round((cells - 1) * (value - low) / span) if span else 0


def _joined(points: Sequence[tuple[int, int]]) -> Iterator[tuple[int, int]]:
    """Yield the cells of a line through points: one for each column, and all rows of a steep part."""
    yield points[0]
    for (column, row), (next_column, next_row) in pairwise(points):
        steps = max(abs(next_column - column), abs(next_row - row))
        for step in range(1, steps + 1):
            yield column + round((next_column - column) * step / steps), row + round((next_row - row) * step / steps)


def _heat_map(figure: HeatMap, is_unicode: bool) -> Iterator[str]:
    """Yield a line for each row; two columns for each number, darker for a higher one."""
    shades = SHADES if is_unicode else ASCII_SHADES
    labels = [_one_line(label) for label in figure.row_labels]
    margin = max(map(columns, labels), default=0)
    cell = max([2, *(min(columns(_one_line(label)), 6) + 1 for label in figure.column_labels)])
    yield " " * (margin + 1) + "".join(_padded(crop(_one_line(each), cell - 1), cell) for each in figure.column_labels)
    span = (figure.high - figure.low) or 1.0
    for label, row in zip(labels, figure.values, strict=True):
        levels = (min(1.0, max(0.0, (value - figure.low) / span)) if value == value else 0.0 for value in row)
        yield (
            _padded(label, margin, right=True)
            + " "
            + "".join(shades[round(level * (len(shades) - 1))] * cell for level in levels)
        )
    yield f"{shades[0]!r} {figure.low:g} to {shades[-1]!r} {figure.high:g}"


def _points(figure: Points, width: int, is_unicode: bool) -> Iterator[str]:
    """Yield a map of the labels; the mark before a label is that of its group."""
    groups = list(dict.fromkeys(point.group for point in figure.points))
    marks = dict(zip(groups, (MARKS if is_unicode else ASCII_MARKS) * len(groups), strict=False))
    n_columns = max(20, min(width - 2, 72))
    grid = [[" "] * n_columns for _ in range(MAP_ROWS)]
    if figure.points:
        place_x = _placer([point.x for point in figure.points], n_columns - 4)
        place_y = _placer([point.y for point in figure.points], MAP_ROWS)
    for point in figure.points:
        row, column = MAP_ROWS - 1 - place_y(point.y), place_x(point.x)
        text = marks[point.group] + crop(_one_line(point.label), 3)
        column = next((c for c in _near(column, n_columns - len(text)) if _is_free(grid[row], c, len(text))), column)
        grid[row][column : column + len(text)] = text
    yield from ("".join(cells) for cells in grid)
    yield "   ".join(f"{marks[group]} {group}" for group in groups)


def _near(column: int, last: int) -> Iterator[int]:
    """Yield the columns from 0 to `last`, the nearest first."""
    yield from sorted(range(last + 1), key=lambda each: abs(each - column))


def _is_free(cells: Sequence[str], column: int, length: int) -> bool:
    return all(cell == " " for cell in cells[column : column + length])
