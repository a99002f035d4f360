"""Text that grows, broken into lines of cells. Each cell knows the piece of text (a token) that it belongs to."""

from bisect import bisect_right
from typing import NamedTuple

from rich.cells import get_character_cell_size

from nanogpt_tui.text import printable
from nanogpt_tui.token_views import ZERO_WIDTH

MAX_COMBINING = 4  # combining characters (accents) in one cell


class Cell(NamedTuple):
    """One character with its accents, `width` (1 or 2) columns wide, of piece number `piece`.

    `is_mark`: it is not part of the text.
    """

    text: str
    width: int
    piece: int
    is_mark: bool = False


class TextFlow:
    """Lines of at most `width` columns (at least 3), broken at spaces if possible."""

    def __init__(self, width: int, newline: str = " ") -> None:
        self.width = max(3, width)
        self.lines: list[list[Cell]] = [[]]
        self._newline = newline  # drawn for a line break, so that it can be clicked
        self._used = 0  # columns of the last line

    def add(self, text: str, piece: int) -> int:
        """Append the text of a piece, control characters made visible; return the first line that changed."""
        first = len(self.lines) - 1
        for character in printable(text).expandtabs(4):
            first = min(first, self._append(character, piece))
        return first

    def add_mark(self, mark: str, piece: int) -> int:
        """Append a character that is not part of the text before a piece; return the first line that changed."""
        return self._append(mark, piece, True)

    def _append(self, character: str, piece: int, is_mark: bool = False) -> int:
        line = self.lines[-1]
        changed = len(self.lines) - 1
        if character == "\n":
            line.append(Cell(self._newline, 1, piece))
            self._start_line([])
            return changed
        width = get_character_cell_size(character)
        if width == 0:
            if character not in ZERO_WIDTH and line and len(line[-1].text) <= MAX_COMBINING:
                line[-1] = line[-1]._replace(text=line[-1].text + character)
            return changed
        if self._used + width > self.width - (character != " "):  # the last column is kept for a space or line break
            spaces = [place for place, cell in enumerate(line) if cell.text == " "]
            keep = spaces[-1] + 1 if spaces and character != " " else len(line)
            carried = line[keep:]
            del line[keep:]
            self._start_line(carried)
        self.lines[-1].append(Cell(character, width, piece, is_mark))
        self._used += width
        return changed

    def _start_line(self, cells: list[Cell]) -> None:
        self.lines.append(cells)
        self._used = sum(cell.width for cell in cells)

    def line_of(self, piece: int) -> int:
        """Return the line on which a piece begins, or would begin if its text is empty."""
        starts = [line[0].piece if line else piece + 1 for line in self.lines]
        found = max(0, bisect_right(starts, piece) - 1)
        while found > 0 and self.lines[found][0].piece == piece:  # it began on an earlier line
            found -= 1
        line = self.lines[found]
        return found if not line or line[-1].piece >= piece or found + 1 >= len(self.lines) else found + 1

    def piece_at(self, line: int, column: int) -> int | None:
        """Return the piece at a column of a line; None if there is no text."""
        if not 0 <= line < len(self.lines):
            return None
        for cell in self.lines[line]:
            column -= cell.width
            if column < 0:
                return cell.piece
        return None
