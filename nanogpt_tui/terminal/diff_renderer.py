"""A differential renderer: sends only the cells that changed, where Textual sends a changed region whole.

It remembers what the terminal shows from what it has sent.
"""

from collections.abc import Iterator
from typing import NamedTuple

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import Strip

MERGE_GAP = 2  # so few unchanged cells between two changed ones cost less to send than a cursor movement


class CellStyle(NamedTuple):
    """A style as SGR parameters: attributes, foreground colour, background colour."""

    attributes: str
    foreground: str
    background: str

    @property
    def of_space(self) -> "CellStyle":
        """The style as a space shows it: the foreground is not visible, unless the space is underlined or reversed."""
        return CellStyle("", "", self.background) if self.attributes in ("", "1", "2", "3") else self

    def sequence_after(self, current: "CellStyle | None") -> str:
        """Return the escape sequence that switches the terminal from style `current` to this one."""
        if current is None or current.attributes != self.attributes:
            numbers = ["0", self.attributes, self.foreground, self.background]
        else:
            numbers = [new for new, old in zip(self[1:], current[1:], strict=True) if new != old]
        return f"\x1b[{';'.join(filter(None, numbers))}m" if numbers else ""


StylePair = tuple[CellStyle, CellStyle]  # of a visible character, and of a space


class DiffRenderer:
    """Convert Textual's updates to the bytes to send. Call `reset` when the terminal may show something else."""

    def __init__(self) -> None:
        self._colours = ColorSystem.TRUECOLOR
        self._style_pairs: dict[Style, StylePair] = {}
        self._single_width = set("".join(map(chr, range(32, 127))))  # characters that are known to fill one cell
        self._rows: dict[int, tuple[list[str], list[CellStyle | None]]] = {}  # by row: the cells on the terminal
        self._key: object = None

    def render(self, update: CompositorUpdate, key: object, colours: ColorSystem) -> str:
        """Return the text to send for an update.

        `key` identifies the terminal's state beyond its cells: with another key, everything is sent again.
        """
        if (key, colours) != (self._key, self._colours):
            self._key, self._colours = key, colours
            self._style_pairs.clear()
            self.reset()
        sent: list[str] = []
        current = current_of_space = None
        for y, x, strip in _fragments(update):
            chars, pairs, as_one = self._cells(strip)
            columns = slice(x, x + len(chars))
            row, row_styles = self._rows.setdefault(y, ([], []))
            missing = columns.stop - len(row)
            row += [""] * missing
            row_styles += [None] * missing
            styles = [of_space if char == " " else style for char, (style, of_space) in zip(chars, pairs, strict=True)]
            for first, end in _changed_spans(row[columns], chars, row_styles[columns], styles, as_one):
                sent.append(f"\x1b[{y + 1};{x + first + 1}H")
                for char, (style, of_space) in zip(chars[first:end], pairs[first:end], strict=True):
                    if current is None or (of_space != current_of_space if char == " " else style != current):
                        sent.append(style.sequence_after(current))
                        current, current_of_space = style, of_space
                    sent.append(char)
            row[columns], row_styles[columns] = chars, styles
        return "".join(sent) + "\x1b[m" if sent else ""

    def reset(self) -> None:
        """Forget what the terminal shows, so that everything is sent again."""
        self._rows.clear()

    def _cells(self, strip: Strip) -> tuple[list[str], list[StylePair], bool]:
        """Return the character and the styles of each cell, and whether all cells must be sent together.

        They must be if a character does not fill exactly one cell: the terminal may place it elsewhere.
        """
        chars: list[str] = []
        pairs: list[StylePair] = []
        for text, style, _ in strip:
            chars += text
            pairs += [self._style_pair(style or Style.null())] * len(text)
        unknown = set(chars) - self._single_width
        self._single_width |= {char for char in unknown if cell_len(char) == 1}
        if unknown <= self._single_width:
            return chars, pairs, False
        return *_fit_cells(chars, pairs, strip.cell_length), True

    def _style_pair(self, style: Style) -> StylePair:
        known = self._style_pairs.get(style)
        if known is None:
            foreground = style.color.downgrade(self._colours).get_ansi_codes() if style.color else ("39",)
            background = style.bgcolor.downgrade(self._colours).get_ansi_codes(False) if style.bgcolor else ("49",)
            attributes = Strip.render_ansi(style.without_color, self._colours)
            cell_style = CellStyle(attributes, ";".join(foreground), ";".join(background))
            known = self._style_pairs[style] = cell_style, cell_style.of_space
        return known


def _fragments(update: CompositorUpdate) -> Iterator[tuple[int, int, Strip]]:
    """Yield (row, column, cells) for everything in an update."""
    if isinstance(update, LayoutUpdate):
        for y, line in enumerate(update.strips, update.region.y):
            x = update.region.x
            for strip in line:
                yield y, x, strip
                x += strip.cell_length
    elif isinstance(update, ChopsUpdate):
        for y, start, end in update.spans:
            for stop, (x, chop) in zip(update.chop_ends[y], update.chops[y].items(), strict=False):
                if chop is not None and x < end and stop > start:
                    yield y, x, chop


def _fit_cells(chars: list[str], pairs: list[StylePair], width: int) -> tuple[list[str], list[StylePair]]:
    """Distribute characters of any width over `width` cells. A wide one leaves the next cell empty, one without width
    is added to the previous cell."""
    cells: list[str] = []
    cell_pairs: list[StylePair] = []
    for char, pair in zip(chars, pairs, strict=True):
        char_width = cell_len(char)
        if not char_width and ord(char) < 160:  # never send a control character, from whatever widget
            continue
        if (char_width or not cells) and len(cells) < width:
            cells += [char, *[""] * (char_width - 1)]
            cell_pairs += [pair] * max(1, char_width)
        else:
            cells[-1] += char
    return cells, cell_pairs


def _changed_spans(
    old_chars: list[str],
    chars: list[str],
    old_styles: list[CellStyle | None],
    styles: list[CellStyle],
    as_one: bool,
) -> Iterator[tuple[int, int]]:
    """Yield (first cell, cell after the last) of each span to send; spans are more than MERGE_GAP cells apart."""
    if old_chars == chars and old_styles == styles:
        return
    if as_one:
        yield 0, len(chars)
        return
    changed = [
        at for at, (a, b, c, d) in enumerate(zip(old_chars, chars, old_styles, styles, strict=True)) if a != b or c != d
    ]
    first = last = changed[0]
    for at in changed[1:]:
        if at > last + 1 + MERGE_GAP:
            yield first, last + 1
            first = at
        last = at
    yield first, last + 1
