"""A line filter that shows the whole screen in ASCII, for terminals and fonts without other characters.

It runs on rendered lines, so no screen has to support it. Each character is replaced by one of the same width.
"""

from functools import lru_cache

from rich.cells import cell_len
from rich.segment import Segment
from textual.color import Color
from textual.filter import LineFilter

_PAIRS = {
    "─╌┈╍┄┅‑–—⊘": "-",
    "━═": "=",
    "│┃║▌▐▎▏▕╎┊┆": "|",
    "┌┐└┘├┤┬┴┼╭╮╯╰╸╺╶╴┏┓┗┛┣┫╋╹╻": "+",
    "█▓▉▊▋▇▆▅": "#",
    "▒░▄▃▂▁▀▔": ":",
    "●◆◉■▪✓★": "*",
    "○◇□•": "o",
    "·∙": ".",
    "▲△↑▴": "^",
    "▼▽↓▾": "v",
    "◀◁←⏎⏴↵‹": "<",
    "▶▷→▸⏵›": ">",
    "×✗": "x",
    "“”„": '"',
    "‘’‚": "'",
    "‖": "=",
    "∞≈◌…": "~",  # with a full stop for the ellipsis, a cut-off text would look complete
    "\u00a0\u2800": " ",
}
# names of keys; v and < for the arrows would be read as those keys
KEY_NAMES = {"⏎": "enter", "⌫": "bksp", "←": "left", "→": "right", "↑": "up", "↓": "down"}
_TRANSLATION = {ord(char): ascii_char for chars, ascii_char in _PAIRS.items() for char in chars}


@lru_cache(4096)
def to_ascii(text: str) -> str:
    """Return `text` in ASCII with the same width in cells. A character without an equivalent becomes "?"."""
    if text.isascii():
        return text
    return "".join(c if c.isascii() else "?" * cell_len(c) for c in text.translate(_TRANSLATION))


class AsciiFilter(LineFilter):
    """A Textual line filter that applies `to_ascii` to every segment."""

    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(to_ascii(text), style, control) for text, style, control in segments]
