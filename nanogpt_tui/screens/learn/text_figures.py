"""Figures that are lines of text: sentences, texts cut into tokens, bars and tables."""

import re

from rich.cells import cell_len
from textual.content import Content

from nanogpt.learn.figures import Bar, Bars, Pieces, Sentence, Table
from nanogpt_tui.screens.learn.drawing import RenderOptions, cell, heading, number, visible
from nanogpt_tui.text import one_line, printable, safe_content, short
from nanogpt_tui.token_views import cut_styles

LONGEST_CUT = 12  # rows of a text that is cut
LONGEST_BAR = 80
GAP = 2  # columns between those of a table
NARROWEST = 4  # column of a table that does not fit
NUMBER = re.compile(r"[-+<–~±]?[\d.,]*\d\s*[%kMGB]?$|–$|^$")


def sentence(figure: Sentence, width: int) -> list[Content]:
    """Return the lines of a sentence."""
    return safe_content(figure.text.strip(), "$foreground").wrap(width)


def pieces(figure: Pieces, width: int, options: RenderOptions) -> list[Content]:
    """Return a title, the text with every other token shaded, and the first ids."""
    lines = heading(figure.title, width)
    cut = _cut_lines(figure.pieces, width, options)
    lines += cut[:LONGEST_CUT]
    if len(cut) > LONGEST_CUT:
        lines.append(Content.styled("…", "$quiet"))
    if figure.ids:
        ids = " ".join(str(each) for each in figure.ids[:width])
        lines.append(Content.styled(short(f"ids {ids}", width), "$quiet"))
    return lines


def _cut_lines(texts: tuple[str, ...], width: int, options: RenderOptions) -> list[Content]:
    """Return the text in lines of whole tokens. A vertical bar separates them if shades may not be visible."""
    between = options.ansi or options.is_ascii
    styles, newline = cut_styles(options.ansi), "\\n" if options.is_ascii else "↵"
    lines: list[Content] = []
    parts: list[tuple[str, str]] = []
    used = 0
    for place, piece in enumerate(texts):
        text = short(printable(piece).replace("\n", newline).replace("\t", "\\t"), width)
        if used and used + between + cell_len(text) > width:
            lines.append(Content.assemble(*parts))
            parts, used = [], 0
        if used and between:
            parts.append(("|", "$quiet"))
            used += 1
        parts.append((text, styles[place % 2]))
        used += cell_len(text)
    return [*lines, Content.assemble(*parts)] if parts else lines


def bars(figure: Bars, width: int, options: RenderOptions) -> list[Content]:
    """Return a row for each bar: label, bar, and its note, or without one its value.

    If a value has changed, the bar shows by how much: ━━━═══ has grown from three cells to six, ━━━┄┄┄ has shrunk.
    """
    lines = heading(figure.title, width)
    if not figure.rows:
        return lines
    notes = [_note(row) for row in figure.rows]
    labels = [visible(row.label, options.is_ascii) for row in figure.rows]
    has_mark = any(row.marked for row in figure.rows)
    label_width = min(max(map(cell_len, labels)), max(6, width // 3))
    note_width = min(max(map(cell_len, notes)), width // 3)
    room = max(1, min(LONGEST_BAR, width - 2 * has_mark - label_width - note_width - 2))
    largest = max(max(row.value, row.before or 0.0) for row in figure.rows) or 1.0
    mark = ">" if options.is_ascii else "▸"
    for row, label, note in zip(figure.rows, labels, notes, strict=True):
        style = "bold $accent" if row.marked else "$foreground"
        parts = [
            (f"{mark if row.marked else ' '} " if has_mark else "", style),
            (cell(label, label_width, right=True) + " ", style),
            *_bar(row, room, largest, options),
            (" " + short(note, note_width), style),
        ]
        lines.append(Content.assemble(*parts))
    return lines


def _bar(row: Bar, room: int, largest: float, options: RenderOptions) -> list[tuple[str, str]]:
    """Return a bar in `room` cells: what it was and still is, what was added, what is gone."""
    same, more, less = ("=", "+", "-") if options.is_ascii else ("━", "═", "┄")
    now = round(row.value / largest * room)
    before = now if row.before is None else round(row.before / largest * room)
    both = min(now, before)
    style = "$accent" if row.marked else "$secondary"
    return [
        (same * both, style),
        (more * (now - both), style),
        (less * (before - both), "$quiet"),
        (" " * (room - max(now, before)), ""),
    ]


def _note(row: Bar) -> str:
    if row.note:
        return one_line(row.note)
    return number(row.value) if row.before is None else f"{number(row.before)} → {number(row.value)}"


def table(figure: Table, width: int) -> list[Content]:
    """Return a table: numbers at the right of their columns, the widest columns cut if it does not fit."""
    rows = [figure.header, *figure.rows]
    columns = range(len(figure.header))
    widths = [max(cell_len(row[at]) for row in rows) for at in columns]
    while sum(widths) + GAP * (len(widths) - 1) > width and max(widths) > NARROWEST:
        widths[widths.index(max(widths))] -= 1
    right = [bool(figure.rows) and all(NUMBER.match(row[at].strip()) for row in figure.rows) for at in columns]
    lines = heading(figure.title, width)
    for place, row in enumerate(rows):
        text = (" " * GAP).join(cell(row[at], widths[at], right[at]) for at in columns).rstrip()
        lines.append(Content.styled(short(text, width), "$foreground" if place else "$quiet"))
    return lines
