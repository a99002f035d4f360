"""How figures are drawn on this terminal, and what their parts have in common."""

from collections.abc import Iterable
from dataclasses import dataclass

from rich.cells import cell_len, set_cell_size
from textual.content import Content

from nanogpt.formatting import significant
from nanogpt_tui.text import one_line, short

TINY = 0.001  # numbers below are not written out


@dataclass(frozen=True, slots=True)
class RenderOptions:
    """`glyphs` is "braille", "block" or "ascii"; `ansi`: the theme has the terminal's own colours."""

    glyphs: str = "braille"
    ansi: bool = False

    @property
    def is_ascii(self) -> bool:
        """Whether only ASCII is drawn."""
        return self.glyphs == "ascii"


def heading(title: str, width: int, note: str = "") -> list[Content]:
    """Return the line above a figure, of at most `width` cells: its title, and a note; no line without both."""
    text = short(one_line(title), width)
    rest = short(f"   {one_line(note)}" if text else one_line(note), width - cell_len(text)) if note else ""
    return [Content.assemble((text, "bold"), (rest, "$quiet"))] if title or note else []


def flow(entries: Iterable[Content], width: int) -> list[Content]:
    """Return entries beside one another, in as many lines as they take; none is broken."""
    lines: list[Content] = []
    for entry in entries:
        if lines and lines[-1].cell_length + 3 + entry.cell_length <= width:
            lines[-1] = Content.assemble(lines[-1], "   ", entry)
        else:
            lines.append(entry)
    return lines


def cell(text: str, width: int, right: bool = False) -> str:
    """Return `text` on one line in exactly `width` cells: cut with an ellipsis, or padded."""
    text = short(one_line(text), width)
    padding = " " * (width - cell_len(text))
    return padding + text if right else set_cell_size(text, width)


def number(value: float) -> str:
    """Return a number in few characters: 0, <0.001, 0.21, 12.3, 1,302."""
    return f"{'-' if value < 0 else ''}<{TINY}" if 0 < abs(value) < TINY else significant(value)


def visible(label: str, is_ascii: bool) -> str:
    r"""Return a label on one line, with names for white space at its ends: ␣, ↵ and → (in ASCII _, \n and \t)."""
    names = {" ": "_", "\n": "\\n", "\t": "\\t"} if is_ascii else {" ": "␣", "\n": "↵", "\t": "→"}
    inner = label.strip(" \n\t")
    start = label.index(inner) if inner else len(label)
    ends = label[:start], label[start + len(inner) :]
    before, after = ("".join(names[letter] for letter in end) for end in ends)
    return before + one_line(inner) + after
