"""Tables on stdout: rows as aligned columns, and the figures in their cells."""

from collections.abc import Collection, Iterable

from nanogpt.cli.console import columns
from nanogpt.formatting import printable

UNKNOWN = "–"


def print_table(rows: Iterable[tuple[str, ...]], right: Collection[int] = ()) -> None:
    """Print rows of equally many cells as aligned columns, those with an index in `right` aligned to the right."""
    cells = [tuple(printable(" ".join(cell.splitlines())) for cell in row) for row in rows]
    widths = [max(map(columns, column)) for column in zip(*cells, strict=True)]
    for row in cells:
        padded = []
        for index, (cell, width) in enumerate(zip(row, widths, strict=True)):
            padding = " " * (width - columns(cell))
            padded.append(padding + cell if index in right else cell + padding)
        print("  ".join(padded).rstrip())


def format_loss(value: float | None) -> str:
    """Return a loss in nats per token with four decimals, or a dash if it is not known."""
    return UNKNOWN if value is None else f"{value:.4f}"


def format_whole(value: float | None) -> str:
    """Return a number without decimals, or a dash if it is not known."""
    return UNKNOWN if value is None else f"{value:,.0f}"
