"""Safe and short texts for the screen, from files, models, the network and numbers.

Content made here is plain: it has no markup, so `[bold]` is six characters, and no control characters.
"""

import math
import re

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from nanogpt.formatting import duration, printable

__all__ = ["count", "duration", "format_bytes", "one_line", "printable", "safe_content", "short", "short_weights"]

MIN_NAME_CELLS = 2


def safe_content(text: str, style: str = "") -> Content:
    """Return `text` as plain content, with control, bidirectional and other invisible characters made visible."""
    return Content.styled(printable(text).expandtabs(4), style)


def escaped(text: str) -> str:
    """Return `text` in one line, as a person types it: with \\n for a line break and two backslashes for one."""
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def unescaped(text: str) -> str:
    """Return the text that a person typed in one line; see `escaped`. Any other backslash stands for itself."""
    return re.sub(r"\\([\\n])", lambda found: "\n" if found[1] == "n" else "\\", text)


def one_line(text: str) -> str:
    """Return `text` on one line, without control characters; a line break is shown as a person types it, as \\n."""
    return printable(text).replace("\n", "\\n")


def count(number: float) -> str:
    """Format a number in at most six cells: 950, 20.3 M, 1.2 G."""
    for unit, size in (("G", 1e9), ("M", 1e6), ("k", 1e4)):
        if abs(number) >= size:
            return f"{number / (1e3 if unit == 'k' else size):.{0 if unit == 'k' else 1}f} {unit}"
    return f"{number:,.0f}"


def format_bytes(size: float) -> str:
    """Format a number of bytes: 12.3 kB, 950.0 MB, 1.2 GB."""
    return f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB" if size >= 1e5 else f"{size / 1e3:.1f} kB"


def short(text: str, width: int) -> str:
    """Cut `text` to at most `width` cells, with an ellipsis at the end."""
    return text if cell_len(text) <= width else set_cell_size(text, max(0, width - 1)) + "…"


def short_weights(weights: str, width: int) -> str:
    """Cut the label of weights ("a-long-name · step 900") to at most `width` cells. The name is cut before the step."""
    name, dot, step = weights.rpartition(" · ")
    return short(short(name, max(MIN_NAME_CELLS, width - cell_len(dot + step))) + dot + step, width)


def loss_text(value: float | None) -> str:
    """Return a loss with four decimals, or a dash for None and NaN."""
    return "–" if value is None or math.isnan(value) else f"{value:.4f}"
