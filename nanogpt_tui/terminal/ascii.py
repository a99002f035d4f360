"""The whole screen in ASCII, for terminals and fonts that have nothing else. Knows nothing of what is drawn.

A filter over finished lines, so that no screen has to think of it: each character becomes one of the same width.
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
    "∞≈◌…": "~",  # an ellipsis as a full stop would make what is cut off look finished
    "\u00a0\u2800": " ",
}
KEYS = {"⏎": "enter", "⌫": "bksp", "←": "left", "→": "right", "↑": "up", "↓": "down"}  # not v and <, which are keys too
_PLAIN = {ord(char): plain for chars, plain in _PAIRS.items() for char in chars}


@lru_cache(4096)
def plain(text: str) -> str:
    """`text` in ASCII, as many cells wide; what has no likeness is a question mark."""
    if text.isascii():
        return text
    return "".join(c if c.isascii() else "?" * cell_len(c) for c in text.translate(_PLAIN))


class Ascii(LineFilter):
    def apply(self, segments: list[Segment], background: Color) -> list[Segment]:
        return [Segment(plain(text), style, control) for text, style, control in segments]
