"""The logit lens: what each layer would predict after each token. Pure functions of an inspection."""

from typing import TYPE_CHECKING

from rich.cells import cell_len
from textual.content import Content

from nanogpt_tui.screens.look.parts import (
    GAP,
    Frame,
    bars,
    beside,
    clickable,
    first_shown,
    fit,
    quoted,
    short_layers,
    token_label,
)
from nanogpt_tui.widgets.shades import shade, shade_legend

if TYPE_CHECKING:
    from nanogpt.inspection.logit_lens import LensLayer
    from nanogpt.tokenizers.base import Tokenizer
    from nanogpt_tui.session.inspector import LensFound

MIN_CELL, MAX_CELL = 5, 10  # columns of a prediction: a shade, the token, a space
TABLE_SHARE = 0.55  # of the height at most
LISTED = 8  # predictions of the chosen layer


def lens_view(found: "LensFound", tokenizer: "Tokenizer", ids: tuple[int, ...], frame: Frame) -> Content:
    """Return the view in the size of the frame. `ids` are the tokens of the prompt."""
    table = _table(found.layers, tokenizer, ids, frame)
    below = _details(found.layers, tokenizer, ids, frame.sized(frame.width, frame.height - len(table) - 1))
    return Content("\n").join([*table, Content(), *below][: frame.height])


def _table(layers: "list[LensLayer]", tokenizer: "Tokenizer", ids: tuple[int, ...], frame: Frame) -> list[Content]:
    names = short_layers([each.name for each in layers])
    label = max(4, *map(len, names)) + 3
    longest = max(
        cell_len(token_label(tokenizer, int(layer.ids[at, 0]), frame.ascii_only))
        for layer in layers
        for at in range(len(ids))
    )
    cell = max(MIN_CELL, min(MAX_CELL, longest + 2))
    columns = max(1, min(len(ids), (frame.width - label) // cell))
    rows = max(1, min(len(layers), int(frame.height * TABLE_SHARE) - 3))
    first = first_shown(frame.token, columns, len(ids))
    shown = range(first, first + columns)
    top = first_shown(len(layers) - 1 - frame.layer, rows, len(layers))
    lines = [_row("", [(frame.labels[at], _style(at == frame.token)) for at in shown], label, cell, " ")]
    for place in range(top, top + rows):
        at_layer = len(layers) - 1 - place  # the last layer is at the top, as the text is read from there
        layer = layers[at_layer]
        parts = [
            Content.styled(
                fit(f"{'▸' if at_layer == frame.layer else ' '} {names[at_layer]}", label),
                _style(at_layer == frame.layer),
            )
        ]
        for at in shown:
            probability = float(layer.probabilities[at, 0])
            is_right = at + 1 < len(ids) and int(layer.ids[at, 0]) == ids[at + 1]
            mark = shade(probability, frame.ascii_only)
            text = fit(token_label(tokenizer, int(layer.ids[at, 0]), frame.ascii_only), cell - 2)
            style = "bold $accent" if is_right else "$foreground"
            if at == frame.token:
                style += " reverse" if at_layer == frame.layer else " underline"
            parts.append(
                clickable(
                    Content.assemble((mark, "$accent" if is_right else "$quiet"), (text, style), " "),
                    f"lens_at({at_layer}, {at})",
                )
            )
        lines.append(Content.assemble(*parts))
    following = [(frame.labels[at + 1] if at + 1 < len(ids) else "", _style(at == frame.token)) for at in shown]
    lines.append(_row("next", following, label, cell, " "))
    legend = f"{'':<{label}}{shade_legend(frame.ascii_only)}   bold: the token that does come next"
    lines.append(Content.styled(fit(legend, frame.width).rstrip(), "$quiet"))
    return lines


def _row(name: str, texts: list[tuple[str, str]], label: int, cell: int, mark: str) -> Content:
    cells = ((mark + fit(text, cell - 2) + " ", style) for text, style in texts)
    return Content.assemble((fit(f"  {name}", label), "$quiet"), *cells)


def _style(is_chosen: bool) -> str:
    return "bold $foreground" if is_chosen else "$quiet"


def _details(layers: "list[LensLayer]", tokenizer: "Tokenizer", ids: tuple[int, ...], frame: Frame) -> list[Content]:
    """Return the predictions of the chosen layer, and beside them how probable the next token is by layer."""
    layer, at = layers[frame.layer], frame.token
    width = (frame.width - GAP) // 2
    listed = [
        (quoted(token_label(tokenizer, int(id), frame.ascii_only)), float(probability), f"{probability:.1%}")
        for id, probability in zip(layer.ids[at], layer.probabilities[at], strict=True)
    ][: max(1, min(LISTED, frame.height - 1))]
    left = [Content.styled(fit(f"{layer.name} after {quoted(frame.labels[at])}", width), "$quiet")]
    left += bars(listed, min(width, 48))
    if at + 1 == len(ids):
        return left
    names = short_layers([each.name for each in layers])
    shown = min(len(layers), max(1, frame.height - 1))
    top = first_shown(len(layers) - 1 - frame.layer, shown, len(layers))
    places = [len(layers) - 1 - place for place in range(top, top + shown)]
    values = [float(layers[place].target_probability[at]) for place in places]
    rows = [(names[place], value, f"{value:.1%}") for place, value in zip(places, values, strict=True)]
    right = [Content.styled(fit(f"{quoted(frame.labels[at + 1])}, which does come next, by layer", width), "$quiet")]
    right += bars(rows, min(width, 48), places.index(frame.layer))
    return beside(left, right, width)
