"""What a frame changes on the terminal: Textual sends a changed region whole, this sends the cells that differ.

Knows what the terminal shows from what it sent before; knows nothing of widgets, nor of how it gets there.
"""

from collections.abc import Iterator
from typing import NamedTuple

from rich.cells import cell_len
from rich.color import ColorSystem
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate, LayoutUpdate
from textual.strip import Strip

NEAR = 2  # unchanged cells between two changed ones that cost less to send than to skip


class CellStyle(NamedTuple):
    """A style as the numbers that a terminal takes: attributes, foreground, background."""

    attributes: str
    ink: str
    ground: str

    @property
    def blank(self) -> "CellStyle":
        """As a space shows it: its ink is not seen."""
        return CellStyle("", "", self.ground) if self.attributes in ("", "1", "2", "3") else self

    def after(self, pen: "CellStyle | None") -> str:
        """The sequence that changes `pen` to this."""
        if pen is None or pen.attributes != self.attributes:
            numbers = ["0", self.attributes, self.ink, self.ground]
        else:
            numbers = [mine for mine, known in zip(self[1:], pen[1:], strict=True) if mine != known]
        return f"\x1b[{';'.join(filter(None, numbers))}m" if numbers else ""


Looks = tuple[CellStyle, CellStyle]  # of a character, and of a space


class DiffRenderer:
    """Turns Textual's updates into what is sent. `forget` when the terminal may show something else."""

    def __init__(self) -> None:
        self._colours = ColorSystem.TRUECOLOR
        self._looks: dict[Style, Looks] = {}
        self._single = set("".join(map(chr, range(32, 127))))  # characters that are known to fill one cell
        self._rows: dict[int, tuple[list[str], list[CellStyle | None]]] = {}  # by row: each cell as it shows
        self._key: object = None

    def paint(self, update: CompositorUpdate, key: object, colours: ColorSystem) -> str:
        """`key` stands for the terminal's state beyond the cells: where it is another, nothing is known of them."""
        if (key, colours) != (self._key, self._colours):
            self._key, self._colours = key, colours
            self._looks.clear()
            self.forget()
        sent: list[str] = []
        pen = pen_blank = None
        for y, x, strip in _fragments(update):
            chars, looks, whole = self._cells(strip)
            here = slice(x, x + len(chars))
            row, row_looks = self._rows.setdefault(y, ([], []))
            missing = here.stop - len(row)
            row += [""] * missing
            row_looks += [None] * missing
            shown = [blank if char == " " else look for char, (look, blank) in zip(chars, looks, strict=True)]
            for first, end in _runs(row[here], chars, row_looks[here], shown, whole):
                sent.append(f"\x1b[{y + 1};{x + first + 1}H")
                for char, (look, blank) in zip(chars[first:end], looks[first:end], strict=True):
                    if pen is None or (blank != pen_blank if char == " " else look != pen):
                        sent.append(look.after(pen))
                        pen, pen_blank = look, blank
                    sent.append(char)
            row[here], row_looks[here] = chars, shown
        return "".join(sent) + "\x1b[m" if sent else ""

    def forget(self) -> None:
        self._rows.clear()

    def _cells(self, strip: Strip) -> tuple[list[str], list[Looks], bool]:
        """The character of each cell, how it looks alone and as a space, and whether they have to be sent as a whole:
        what is wider or narrower than a cell stands where the terminal thinks it does."""
        chars: list[str] = []
        looks: list[Looks] = []
        for text, style, _ in strip:
            chars += text
            looks += [self._look(style or Style.null())] * len(text)
        unknown = set(chars) - self._single
        self._single |= {char for char in unknown if cell_len(char) == 1}
        if unknown <= self._single:
            return chars, looks, False
        return *_placed(chars, looks, strip.cell_length), True

    def _look(self, style: Style) -> Looks:
        known = self._looks.get(style)
        if known is None:
            ink = style.color.downgrade(self._colours).get_ansi_codes() if style.color else ("39",)
            ground = style.bgcolor.downgrade(self._colours).get_ansi_codes(False) if style.bgcolor else ("49",)
            attributes = Strip.render_ansi(style.without_color, self._colours)
            look = CellStyle(attributes, ";".join(ink), ";".join(ground))
            known = self._looks[style] = look, look.blank
        return known


def _fragments(update: CompositorUpdate) -> Iterator[tuple[int, int, Strip]]:
    """(row, column, cells) of all that an update asks for."""
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


def _placed(chars: list[str], looks: list[Looks], width: int) -> tuple[list[str], list[Looks]]:
    """Characters of any width, `width` cells of them: a wide one leaves the cell after it empty, one without a width
    shares the one before."""
    cells: list[str] = []
    placed: list[Looks] = []
    for char, look in zip(chars, looks, strict=True):
        taken = cell_len(char)
        if not taken and ord(char) < 160:  # a control character never goes out, whatever widget let it through
            continue
        if (taken or not cells) and len(cells) < width:
            cells += [char, *[""] * (taken - 1)]
            placed += [look] * max(1, taken)
        else:
            cells[-1] += char
    return cells, placed


def _runs(
    known: list[str], chars: list[str], known_looks: list[CellStyle | None], looks: list[CellStyle], whole: bool
) -> Iterator[tuple[int, int]]:
    """(first cell, cell after the last) of what differs, in pieces that lie apart."""
    if known == chars and known_looks == looks:
        return
    if whole:
        yield 0, len(chars)
        return
    differ = [
        at for at, (a, b, c, d) in enumerate(zip(known, chars, known_looks, looks, strict=True)) if a != b or c != d
    ]
    first = last = differ[0]
    for at in differ[1:]:
        if at > last + 1 + NEAR:
            yield first, last + 1
            first = at
        last = at
    yield first, last + 1
