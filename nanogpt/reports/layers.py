"""The health of the layers of a run, as a heat map over time and as a table."""

from collections.abc import Sequence

from nanogpt.events import LayerHealth
from nanogpt.reports.evenly import evenly
from nanogpt.reports.markup import Markup, element

USUAL = -3.0  # log10 of the size of an update by that of the weights
FAR = 2.0  # difference from USUAL that has the full colour
COLUMNS, ROWS = 72, 60  # drawn at most
LEFT, TOP, ROW, WIDTH = 190.0, 48.0, 14.0, 1120.0


def heat_map(measured: Sequence[LayerHealth]) -> Markup | None:
    """Return an `<svg>`: how much each layer's updates differ from the usual size; None if none was measured."""
    chosen = evenly(range(len(measured)), COLUMNS)
    layers = measured[-1].layers
    known = [number for number in range(len(layers)) if any(_ratio(event, number) is not None for event in measured)]
    if not known:
        return None
    drawn = evenly(known, ROWS)
    width, height = (WIDTH - LEFT - 14) / len(chosen), TOP + ROW * len(drawn) + 8
    parts: list[Markup] = [
        element("text", "Updates of each layer by the size of its weights", x=14, y=20, class_="title"),
        element("text", "blue: below one in a thousand, orange: above", x=WIDTH - 14, y=20, text_anchor="end"),
    ]
    for column, at in enumerate(chosen):
        event, x = measured[at], LEFT + column * width
        if column % max(1, len(chosen) // 8) == 0:
            parts.append(element("text", f"{event.step:,}", x=x, y=TOP - 8))
        for row, number in enumerate(drawn):
            ratio = _ratio(event, number)
            if ratio is None:
                continue
            opacity = 0.06 + 0.94 * min(1.0, abs(ratio - USUAL) / FAR)
            parts.append(
                element(
                    "rect",
                    element("title", f"{layers[number]} at step {event.step:,}: 10^{ratio:.1f}"),
                    x=x,
                    y=TOP + row * ROW,
                    width=width - 1,
                    height=ROW - 1,
                    fill_opacity=opacity,
                    class_="f1" if ratio > USUAL else "f0",
                )
            )
    for row, number in enumerate(drawn):
        name = layers[number] if len(layers[number]) <= 26 else f"…{layers[number][-25:]}"
        parts.append(element("text", name, x=LEFT - 8, y=TOP + row * ROW + 10.5, text_anchor="end"))
    title = "Updates of each layer over time"
    return element("svg", *parts, viewBox=f"0 0 {WIDTH:.0f} {height:.0f}", class_="chart", role="img", aria_label=title)


def layer_table(measured: LayerHealth) -> Markup:
    """Return the figures of one measurement as a `<table>`."""
    heads = ("layer", "gradient norm", "weight norm", "update (log10)", "dead units", "mean", "deviation", "kurtosis")
    columns = (
        measured.gradient_norm,
        measured.weight_norm,
        measured.update_ratio,
        measured.dead_units,
        measured.activation_mean,
        measured.activation_std,
        measured.activation_kurtosis,
    )
    rows = [
        element("tr", element("td", layer), *(element("td", _figure(column, number)) for column in columns))
        for number, layer in enumerate(measured.layers)
    ]
    return element("table", element("tr", *(element("th", head) for head in heads)), *rows)


def _ratio(event: LayerHealth, number: int) -> float | None:
    """Return the update ratio of a layer; None if it was not measured or is not finite."""
    value = event.update_ratio[number] if number < len(event.update_ratio) else None
    return value if value is not None and abs(value) < 1e6 else None


def _figure(column: Sequence[float | None], number: int) -> str:
    value = column[number] if number < len(column) else None
    return "–" if value is None else f"{value:.3g}"
