"""Pictures (SVG) of attention, the logit lens and the embeddings."""

from collections.abc import Iterable, Iterator, Sequence
from xml.sax.saxutils import escape

import numpy as np
from numpy.typing import NDArray

from nanogpt.inspection.attention import Attention, HeadScores
from nanogpt.inspection.logit_lens import LensLayer

FONT = "'DejaVu Sans Mono', 'Cascadia Mono', Menlo, Consolas, monospace"
INK, QUIET, ACCENT, PAPER = "#1c1c1c", "#6c6c6c", "#00875f", "#fdfdfd"
MARGIN, LINE, LETTER = 16.0, 18.0, 7.3  # pixels; a letter of size 12 is LETTER wide
TILE = 120.0  # a side of a small heat map
CELL = 18.0  # a side of a weight in a large heat map
LEVELS = 10  # of opacity
MAP = (900.0, 640.0)


def attention_picture(layers: Sequence[Attention], scores: Iterable[HeadScores]) -> str:
    """Return small heat maps of all heads, a row for each layer. Rows attend to columns."""
    kinds = {(each.layer, each.head): each.kind for each in scores}
    left = MARGIN + LETTER * max(len(layer.name) for layer in layers) + 12
    parts: list[str] = []
    for row, layer in enumerate(layers):
        top = MARGIN + row * (TILE + 2 * LINE)
        parts.append(text(MARGIN, top + LINE + TILE / 2, layer.name, QUIET))
        for head, weights in enumerate(layer.weights):
            x, kind = left + head * (TILE + 12), kinds.get((layer.name, head), "")
            parts.append(text(x, top + 12, f"{head} {kind}".rstrip(), ACCENT if kind else QUIET))
            parts.append(heat_map(weights, x, top + LINE, TILE / len(weights)))
    heads = max(len(layer.weights) for layer in layers)
    return svg(parts, left + heads * (TILE + 12) + MARGIN, MARGIN + len(layers) * (TILE + 2 * LINE))


def head_picture(layer: Attention, head: int, tokens: Sequence[str]) -> str:
    """Return the heat map of one head over a text: each token (row) attends to those before it (columns)."""
    left, top = MARGIN + LETTER * max(map(len, tokens)) + 8, MARGIN + 2 * LINE
    size = CELL * len(tokens)
    parts = [
        text(MARGIN, MARGIN + 12, f"{layer.name} head {head}", INK),
        heat_map(layer.weights[head], left, top, CELL),
    ]
    for at, token in enumerate(tokens):
        middle = CELL * (at + 0.5) + 4
        parts.append(text(left - 6, top + middle, token, INK, "end"))
        parts.append(
            f'<g transform="translate({left + middle:.1f} {top + size + 6:.1f}) rotate(-90)">'
            f"{text(0, 0, token, INK, 'end')}</g>"
        )
    return svg(parts, left + size + MARGIN, top + size + LETTER * max(map(len, tokens)) + MARGIN)


def lens_picture(layers: Sequence[LensLayer], tokens: Sequence[str], predicted: Sequence[Sequence[str]]) -> str:
    """Return a table of what each layer would predict after each token, shaded by its probability.

    The last layer is at the top. `predicted`: by layer and position, the most likely token.
    """
    names = [layer.name for layer in layers]
    left = MARGIN + LETTER * max(4, *map(len, names)) + 12
    width = LETTER * max(3, *(len(token) for row in (tokens, *predicted) for token in row)) + 12
    parts: list[str] = []
    for at, token in enumerate(tokens):
        parts.append(text(left + at * width + 6, MARGIN + 12, token, QUIET))
        for row, layer in enumerate(reversed(layers)):
            y, probability = MARGIN + (row + 1) * (LINE + 4), float(layer.probabilities[at, 0])
            parts.append(
                f'<rect x="{left + at * width:.1f}" y="{y:.1f}" width="{width - 2:.1f}" height="{LINE + 2:.1f}" '
                f'fill="{ACCENT}" fill-opacity="{0.8 * probability:.2f}"/>'
            )
            parts.append(text(left + at * width + 6, y + 14, predicted[len(layers) - 1 - row][at], INK))
    for row, name in enumerate(reversed(names)):
        parts.append(text(MARGIN, MARGIN + (row + 1) * (LINE + 4) + 14, name, QUIET))
    return svg(parts, left + len(tokens) * width + MARGIN, MARGIN + (len(layers) + 1) * (LINE + 4) + MARGIN)


def map_picture(points: NDArray[np.float32], share: float, tokens: Sequence[str], marked: Iterable[int]) -> str:
    """Return the map (V, 2) of the tokens, with some of them marked; `share` of the variance is shown."""
    low, span = points.min(0), np.maximum(np.ptp(points, axis=0), 1e-12)
    width, height = MAP
    chosen = set(marked)
    order = sorted(range(len(tokens)), key=lambda id: id in chosen)  # the marked ones are drawn last, on top
    parts = []
    for id in order:
        x, y = (points[id] - low) / span
        style = ACCENT if id in chosen else QUIET
        parts.append(text(MARGIN + 20 + x * width, MARGIN + (1 - y) * height + 12, tokens[id], style, "middle"))
    caption = f"the first two principal components of the embeddings: {share:.0%} of the variance"
    parts.append(text(MARGIN, MARGIN + height + 2 * LINE, caption, QUIET))
    return svg(parts, width + 2 * MARGIN + 40, height + 2 * MARGIN + 2 * LINE)


def heat_map(weights: NDArray[np.float32], x: float, y: float, cell: float) -> str:
    """Return weights from 0 to 1 (rows, columns) as squares whose opacity grows with the root of the weight.

    All squares of one opacity are one path, so that the picture stays small.
    """
    levels = np.rint(np.sqrt(weights) * LEVELS).astype(int)
    side = cell * len(weights)
    frame = f'<rect x="{x:.1f}" y="{y:.1f}" width="{side:.1f}" height="{side:.1f}" fill="none" stroke="#d0d0d0"/>'
    paths = [frame]
    for level in range(1, LEVELS + 1):
        squares = "".join(_squares(levels == level, x, y, cell))
        if squares:
            paths.append(f'<path d="{squares}" fill="{ACCENT}" fill-opacity="{level / LEVELS:.1f}"/>')
    return "".join(paths)


def _squares(wanted: NDArray[np.bool_], x: float, y: float, cell: float) -> Iterator[str]:
    for row, column in np.argwhere(wanted):
        yield f"M{x + column * cell:.1f} {y + row * cell:.1f}h{cell:.1f}v{cell:.1f}h-{cell:.1f}z"


def text(x: float, y: float, words: str, colour: str, anchor: str = "start") -> str:
    """Return a text whose baseline is at (x, y). `words` are printable."""
    return f'<text x="{x:.1f}" y="{y:.1f}" fill="{colour}" text-anchor="{anchor}">{escape(words)}</text>'


def svg(parts: Iterable[str], width: float, height: float) -> str:
    """Return a picture of this size in pixels."""
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" font-family="{FONT}" font-size="12" xml:space="preserve">\n'
        f'<rect width="100%" height="100%" fill="{PAPER}"/>\n' + "\n".join(parts) + "\n</svg>\n"
    )
