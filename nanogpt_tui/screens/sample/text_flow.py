"""Text that grows, broken into lines of cells, each cell knowing which piece it came from. Knows nothing of widgets."""

from bisect import bisect_right
from typing import NamedTuple

from rich.cells import get_character_cell_size

from nanogpt_tui.text import printable

# Joiners and variation selectors: terminals disagree on how wide what they make is, so each character stands alone.
LEFT_OUT = frozenset("\u200b\u200c\u200d\u2060\ufe0e\ufe0f")
MOST_MARKS = 4  # accents on one character


class Cell(NamedTuple):
    """One character with the marks on it, `width` (1 or 2) columns wide, of piece number `piece`; `sign` where it is
    no part of the text."""

    text: str
    width: int
    piece: int
    sign: bool = False


class TextFlow:
    """Lines of at most `width` columns (3 or more), broken at spaces where there are some. `add` only appends."""

    def __init__(self, width: int, newline: str = " ") -> None:
        self.width = max(3, width)
        self.lines: list[list[Cell]] = [[]]
        self._newline = newline  # stands where a line ends, so that there is something to point at
        self._used = 0  # columns of the last line

    def add(self, text: str, piece: int) -> int:
        """Appends the text of a piece, control characters made visible; returns the first line that changed."""
        first = len(self.lines) - 1
        for character in printable(text).expandtabs(4):
            first = min(first, self._put(character, piece))
        return first

    def add_sign(self, sign: str, piece: int) -> int:
        """Appends a character that stands before a piece and is no part of its text; returns as `add` does."""
        return self._put(sign, piece, True)

    def _put(self, character: str, piece: int, sign: bool = False) -> int:
        line = self.lines[-1]
        changed = len(self.lines) - 1
        if character == "\n":
            line.append(Cell(self._newline, 1, piece))
            self._begin([])
            return changed
        width = get_character_cell_size(character)
        if width == 0:
            if character not in LEFT_OUT and line and len(line[-1].text) <= MOST_MARKS:
                line[-1] = line[-1]._replace(text=line[-1].text + character)
            return changed
        if self._used + width > self.width - (character != " "):  # the last column is for a space or newline
            spaces = [place for place, cell in enumerate(line) if cell.text == " "]
            keep = spaces[-1] + 1 if spaces and character != " " else len(line)
            carried = line[keep:]
            del line[keep:]
            self._begin(carried)
        self.lines[-1].append(Cell(character, width, piece, sign))
        self._used += width
        return changed

    def _begin(self, cells: list[Cell]) -> None:
        self.lines.append(cells)
        self._used = sum(cell.width for cell in cells)

    def line_of(self, piece: int) -> int:
        """The line on which a piece begins, or would if it had any text."""
        starts = [line[0].piece if line else piece + 1 for line in self.lines]
        found = max(0, bisect_right(starts, piece) - 1)
        while found > 0 and self.lines[found][0].piece == piece:  # it began further up
            found -= 1
        line = self.lines[found]
        return found if not line or line[-1].piece >= piece or found + 1 >= len(self.lines) else found + 1

    def piece_at(self, line: int, column: int) -> int | None:
        """The piece under a column of a line; None beside the text."""
        if not 0 <= line < len(self.lines):
            return None
        for cell in self.lines[line]:
            column -= cell.width
            if column < 0:
                return cell.piece
        return None
