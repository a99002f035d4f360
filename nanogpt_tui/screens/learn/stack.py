"""Figures below one another: each gets its lines, and charts and maps share what is left of the height."""

from collections.abc import Sequence

from textual.content import Content

from nanogpt.learn.figures import Bars, Curves, Figure, HeatMap, Pieces, Points, Sentence, Table
from nanogpt_tui.screens.learn import plots, text_figures
from nanogpt_tui.screens.learn.drawing import RenderOptions

MIN_WIDTH = 30


def stack(figures: Sequence[Figure], width: int, height: int, options: RenderOptions) -> list[Content]:
    """Return the lines of all figures, at most `width` cells wide. There may be more than `height`."""
    width = max(MIN_WIDTH, width)
    limits = [_limits(each) for each in figures]
    drawn = [None if limit else draw(each, width, 0, options) for each, limit in zip(figures, limits, strict=True)]
    left = height - sum(len(lines) for lines in drawn if lines is not None)
    gap = len(figures) - 1 <= left - sum(limit[0] for limit in limits if limit)  # a blank line between two figures
    left -= gap * (len(figures) - 1)
    flexible = drawn.count(None)
    rows: list[Content] = []
    for each, limit, lines in zip(figures, limits, drawn, strict=True):
        if limit is not None:
            part = max(limit[0], min(left // flexible, limit[1], width // 3))
            lines, left, flexible = draw(each, width, part, options), left - part, flexible - 1
        rows += [*([Content()] if rows and gap else []), *(lines or [])]
    return rows


def _limits(figure: Figure) -> tuple[int, int] | None:
    """Return the fewest and the most rows of a figure that can be drawn in any height; None for others."""
    match figure:
        case Curves():
            return plots.MIN_CURVES, plots.MAX_CURVES
        case Points():
            return plots.MIN_POINTS, plots.MAX_POINTS
    return None


def draw(figure: Figure, width: int, height: int, options: RenderOptions) -> list[Content]:
    """Return the lines of one figure. `height` is used by those that can be drawn in any."""
    match figure:
        case Sentence():
            return text_figures.sentence(figure, width)
        case Pieces():
            return text_figures.pieces(figure, width, options)
        case Bars():
            return text_figures.bars(figure, width, options)
        case Table():
            return text_figures.table(figure, width)
        case Curves():
            return plots.curves(figure, width, height, options)
        case HeatMap():
            return plots.heat_map(figure, width, options)
        case Points():
            return plots.points(figure, width, height, options)
