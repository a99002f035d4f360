"""The newest merges of a tokenizer that is trained, in columns."""

from collections import deque
from collections.abc import Iterable

from textual.content import Content
from textual.widget import Widget

from nanogpt_tui.text import short

MOST = 2000  # entries that are kept: more than fit on any screen
GAP = 2
TEXT_CELLS = 32


class Merges(Widget):
    """The newest entry is at the bottom of the last column."""

    DEFAULT_CSS = """
    Merges { width: 1fr; height: 1fr; }
    """
    glossary = "BPE"

    def __init__(self) -> None:
        super().__init__(id="merges")
        self._entries: deque[tuple[int, str]] = deque(maxlen=MOST)  # number of the entry, its text

    def clear(self) -> None:
        """Forget all entries."""
        self._entries.clear()
        self.refresh()

    def add(self, last: int, texts: Iterable[str]) -> None:
        """Append entries; `last` is the size of the vocabulary with them."""
        found = list(texts)
        self._entries.extend(zip(range(last - len(found), last), found, strict=True))
        self.refresh()

    def render(self) -> Content:
        width, height = self.size
        if not self._entries or width < 12 or height < 1:
            return Content()
        digits = len(f"{self._entries[-1][0]:,}")
        cells = min(width, digits + TEXT_CELLS)
        columns = max(1, (width + GAP) // (cells + GAP))
        shown = list(self._entries)[-columns * height :]
        lines = [Content()] * height
        for place, (number, text) in enumerate(shown):
            column, row = divmod(place, height)
            entry = short(text, cells - digits - 1)
            style = "bold $foreground" if place == len(shown) - 1 else "$foreground"
            part = Content.assemble((f"{number:>{digits},} ", "$quiet"), (entry, style))
            padding = " " * max(0, cells + GAP - part.cell_length) if column < columns - 1 else ""
            lines[row] = Content.assemble(lines[row], part, padding)
        return Content("\n").join(lines)
