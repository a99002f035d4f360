"""What is sent of a frame: enough for the terminal to show it, and little more."""

import re

import pyte
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.color import ColorSystem
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, LayoutUpdate
from textual.geometry import Region
from textual.strip import Strip

from nanogpt_tui.terminal.diff_renderer import DiffRenderer

WIDTH, HEIGHT = 24, 4
STYLES = [
    Style.parse(text)
    for text in ("", "#5fd7af on #121212", "#8a8a8a on #121212", "bold #5fd7af on #121212", "reverse red on blue")
]

Line = list[tuple[str, Style]]
texts = st.text(st.sampled_from("ab  ⠁⣿━漢"), max_size=WIDTH)
lines = st.lists(st.tuples(texts, st.sampled_from(STYLES)), max_size=4)
screens = st.lists(lines, min_size=HEIGHT, max_size=HEIGHT)


def strip(line: Line) -> Strip:
    return Strip([Segment(text, style) for text, style in line]).adjust_cell_length(WIDTH, STYLES[1])


def whole(*rows: Strip) -> LayoutUpdate:
    return LayoutUpdate([[row] for row in rows], Region(0, 0, WIDTH, HEIGHT))


def part(rows: dict[int, Strip]) -> ChopsUpdate:
    chops = [{0: rows.get(y)} for y in range(HEIGHT)]
    return ChopsUpdate(chops, [(y, 0, WIDTH) for y in sorted(rows)], [[WIDTH]] * HEIGHT)


class Seen:
    """A terminal that is fed."""

    def __init__(self) -> None:
        self.screen = pyte.Screen(WIDTH, HEIGHT)
        self.stream = pyte.Stream(self.screen)

    def cells(self) -> list[list[tuple[object, ...]]]:
        """As a person sees them: the ink of a space is no matter, unless it is reversed."""
        rows = [[self.screen.buffer[y][x] for x in range(WIDTH)] for y in range(HEIGHT)]
        return [[cell if cell.data != " " or cell.reverse else (" ", cell.bg) for cell in row] for row in rows]


def paint(renderer: DiffRenderer, update: LayoutUpdate | ChopsUpdate) -> str:
    return renderer.render(update, "key", ColorSystem.EIGHT_BIT)


@settings(max_examples=60, deadline=None)
@given(st.lists(screens, min_size=2, max_size=4), st.sets(st.integers(0, HEIGHT - 1), min_size=1))
def test_the_terminal_shows_what_a_full_redraw_would(
    frames: list[list[list[tuple[str, Style]]]], rows: set[int]
) -> None:
    renderer, shown = DiffRenderer(), Seen()
    current: dict[int, Strip] = {}
    for number, frame in enumerate(frames):
        new = {y: strip(line) for y, line in enumerate(frame) if number == 0 or y in rows}
        current |= new
        shown.stream.feed(paint(renderer, part(new) if number else whole(*new.values())))
    redrawn = Seen()
    redrawn.stream.feed(paint(DiffRenderer(), whole(*(current[y] for y in range(HEIGHT)))))
    assert shown.cells() == redrawn.cells()


def test_a_figure_that_counts_sends_its_digits() -> None:
    renderer = DiffRenderer()
    rows = [strip([("step", STYLES[2]), (f"   {number:>6}", STYLES[1])]) for number in (1238, 1239, 1239)]
    paint(renderer, part({1: rows[0]}))
    assert re.sub(r"\x1b\[[0-9;]*m", "", paint(renderer, part({1: rows[1]}))) == "\x1b[2;13H9"
    assert paint(renderer, part({1: rows[2]})) == ""


def test_another_key_and_forgetting_send_all_again() -> None:
    renderer, row = DiffRenderer(), strip([("all of it", STYLES[1])])
    paint(renderer, part({0: row}))
    assert "all of it" in renderer.render(part({0: row}), "another terminal", ColorSystem.EIGHT_BIT)
    renderer.reset()
    assert "all of it" in renderer.render(part({0: row}), "another terminal", ColorSystem.EIGHT_BIT)


def test_colours_are_those_of_256() -> None:
    sent = DiffRenderer().render(part({0: strip([("x", STYLES[1])])}), "key", ColorSystem.EIGHT_BIT)
    assert "38;5;79;48;5;233m" in sent
    assert ";2;" not in sent


def test_no_control_character_goes_out() -> None:
    row = Strip([Segment("a\x1b]0;title\x07\x9b2Jb\r\n\x00", STYLES[1])]).adjust_cell_length(WIDTH)
    assert not set(re.sub(r"\x1b\[[0-9;]*[mH]", "", paint(DiffRenderer(), part({0: row})))) & {
        *map(chr, range(32)),
        "\x9b",
    }
