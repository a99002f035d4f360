"""The figures of the lessons, drawn: exact text, without colour, in ASCII, and in the space that there is."""

from itertools import pairwise

import pytest
from textual.content import Content

from nanogpt.learn.figures import (
    Bar,
    Bars,
    Curve,
    Curves,
    Figure,
    HeatMap,
    Pieces,
    Point,
    Points,
    Sentence,
    Table,
)
from nanogpt_tui.screens.learn.drawing import RenderOptions, flow, number, visible
from nanogpt_tui.screens.learn.stack import draw, stack
from nanogpt_tui.terminal.ascii import to_ascii

ASCII = RenderOptions("ascii")
HOSTILE = "[bold]x[/] \x1b[31m\u202e"


def lines(figure: Figure, width: int = 60, height: int = 12, options: RenderOptions = ASCII) -> list[str]:
    return [line.plain.rstrip() for line in draw(figure, width, height, options)]


GUESSES = Bars("Guesses", (Bar("u", 0.12, before=0.06, marked=True), Bar("e", 0.03, before=0.12), Bar(" ", 0.0)))


def test_bars_show_what_was_added_and_what_is_gone() -> None:
    # width 40: 2 for the mark, 1 label, 2 gaps, notes of 12 cells: 23 for bars
    assert lines(GUESSES, 40) == [
        "Guesses",
        "> u ============+++++++++++ 0.060 → 0.12",
        "  e ======----------------- 0.12 → 0.030",
        "  _                         0",
    ]


def test_bars_in_other_characters_have_the_same_cells() -> None:
    drawn = lines(GUESSES, 40, options=RenderOptions())
    assert drawn[1] == "▸ u ━━━━━━━━━━━━═══════════ 0.060 → 0.12"
    assert drawn[2] == "  e ━━━━━━┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄┄ 0.12 → 0.030"


def test_a_note_stands_for_the_number_and_a_long_label_is_cut() -> None:
    # width 30: a third of it for the label
    assert lines(Bars("", (Bar("a long label", 1.0, "12%"), Bar("b", 0.5, "6%"))), 30) == [
        "a long la… =============== 12%",
        "         b ========        6%",
    ]
    assert lines(Bars("Nothing", ()), 30) == ["Nothing"]


def test_a_text_is_cut_between_tokens_with_its_ids() -> None:
    figure = Pieces("bytes", ("the", " la", "zy\n", " dog"), (5, 17, 3, 9))
    assert lines(figure, 12) == ["bytes", "the| la|zy\\n", " dog", "ids 5 17 3 9"]
    shaded = draw(figure, 30, 9, RenderOptions())
    assert shaded[1].plain == "the lazy↵ dog"
    styles = [str(span.style) for span in shaded[1].spans]
    assert all(one != other for one, other in pairwise(styles))
    assert lines(figure, 30, options=RenderOptions(ansi=True))[1] == "the| la|zy↵| dog"


def test_a_table_has_its_numbers_at_the_right_and_is_cut_where_it_is_widest() -> None:
    figure = Table(
        "Sizes", ("cut into", "tokens", "text"), (("characters", "1,024", "to be or not"), ("bytes", "9", "x"))
    )
    assert lines(figure) == [
        "Sizes",
        "cut into    tokens  text",
        "characters   1,024  to be or not",
        "bytes            9  x",
    ]
    assert lines(figure, 30) == [
        "Sizes",
        "cut into    tokens  text",
        "characters   1,024  to be or …",
        "bytes            9  x",
    ]
    assert max(map(len, lines(figure, 12))) <= 12


def test_a_heat_map_has_a_name_for_each_row_and_column_and_a_scale() -> None:
    figure = HeatMap("Attention", ((1.0, 0.0), (0.5, 0.5)), ("a", "b"), ("a", "b"), 0.0, 1.0)
    assert lines(figure, 30, options=RenderOptions()) == ["Attention", "  a b", "a ██", "b ▒▒▒▒", "  blank 0   ██ 1.0"]
    assert lines(figure, 30) == ["Attention", "  a b", "a @@", "b ====", "  blank 0   @@ 1.0"]


def test_a_heat_map_that_is_too_wide_shows_its_last_columns() -> None:
    letters = tuple("abcdefghijklmnopqrstuvwxyz")
    figure = HeatMap("", (tuple(float(at) for at in range(26)),), ("r",), letters, 0.0, 25.0)
    drawn = lines(figure, 12)  # ten columns are left beside "r "
    assert drawn[:2] == ["the last 10…", "  qrstuvwxyz"]
    assert max(map(len, drawn)) <= 12


def test_curves_have_their_names_at_their_ends() -> None:
    rising = Curve("rising", (0.0, 10.0), (1.0, 3.0))
    falling = Curve("falling", (0.0, 10.0), (3.0, 1.0))
    drawn = lines(Curves("Loss", "step", "nats", (rising, falling)), 60, 12)
    assert len(drawn) == 12
    assert drawn[0] == "Loss   nats"
    assert drawn[1].endswith("== rising")
    assert drawn[9].endswith(".. falling")
    assert drawn[11].split()[-1] == "step"
    assert [word for word in drawn[11].split() if word.isdigit()] == ["0", "5", "10"]


def test_long_names_of_curves_are_a_legend_above() -> None:
    curve = Curve("best previous-letter score", (0.0, 1.0), (0.0, 1.0))
    drawn = lines(Curves("", "step", "", (curve, Curve("points", (0.5,), (0.5,), points=True))), 40, 12)
    assert drawn[0] == "== best previous-letter score   * points"
    assert len(drawn) == 12


def test_the_axes_of_a_power_law_are_logarithmic() -> None:
    sizes = Curve("runs", (1e3, 1e4, 1e5), (4.0, 3.0, 2.5), points=True)
    fit = Curve("fit", (1e3, 1e5), (4.0, 2.4))
    drawn = lines(Curves("Scale", "parameters", "loss", (sizes, fit), log_x=True, log_y=True), 70, 14)
    assert {"1k", "10k"} <= set(drawn[-1].split())
    assert drawn[-1].endswith("parameters")
    assert sum(line.count("*") for line in drawn[1:-2]) == 4  # three points, and the sign beside their name


@pytest.mark.parametrize("height", [9, 12, 24])
def test_points_of_one_place_and_of_one_value_can_be_drawn(height: int) -> None:
    assert len(lines(Curves("", "x", "y", (Curve("c", (3.0,), (2.0,)),)), 40, height)) == height
    assert len(lines(Points("", (Point("a", 1.0, 1.0, "g"),)), 40, height)) == height
    assert lines(Curves("Loss", "x", "", ()), 40, height) == ["Loss", "no points yet"]


def test_a_map_has_a_sign_for_each_group_and_the_same_scale_both_ways() -> None:
    # 8 rows of points below two lines, 4 cells at both sides: 32 columns for 2 units, 7 rows (14 columns) for 2 units
    square = [
        ("a", -1.0, 1.0, "vowels"),
        ("b", 1.0, 1.0, "other"),
        ("c", -1.0, -1.0, "other"),
        ("d", 1.0, -1.0, "other"),
    ]
    drawn = lines(Points("Map", tuple(Point(*each) for each in square)), 40, 10)
    assert drawn[:2] == ["Map", "* vowels   o other"]
    top, bottom = drawn[2], drawn[9]
    assert "*a" in top
    assert "ob" in top
    assert "oc" in bottom
    assert "od" in bottom
    assert top.index("ob") - top.index("*a") == 2 * (9 - 2)


def test_points_at_one_place_do_not_cover_one_another_with_their_names() -> None:
    crowd = tuple(Point(letter, 0.0, 0.0, "g") for letter in "abc")
    drawn = "\n".join(lines(Points("", (*crowd, Point("z", 1.0, 0.0, "g"))), 40, 10))
    assert drawn.count("a") == 1
    assert "z" in drawn


def test_figures_share_the_height_and_charts_take_what_is_left() -> None:
    figures: list[Figure] = [
        Sentence("The loss fell."),
        GUESSES,
        Curves("Loss", "step", "nats", (Curve("loss", (0.0, 1.0), (2.0, 1.0)),)),
    ]
    # a sentence, four rows of bars, two blank lines; the chart takes at most a third of the width
    assert len(stack(figures, 72, 20, RenderOptions())) == 20
    assert len(stack(figures, 72, 60, RenderOptions())) == 1 + 4 + 2 + 24
    crowded = stack(figures, 72, 10, RenderOptions())
    assert len(crowded) == 1 + 4 + 9
    assert Content() not in crowded


@pytest.mark.parametrize(
    "options", [RenderOptions(), RenderOptions("block"), RenderOptions("ascii"), RenderOptions("ascii", ansi=True)]
)
@pytest.mark.parametrize("width", [30, 76, 140])
def test_no_figure_is_wider_than_its_room_and_no_text_of_it_does_anything(options: RenderOptions, width: int) -> None:
    figures: list[Figure] = [
        Sentence(HOSTILE * 9),
        Pieces(HOSTILE, (HOSTILE, "日本" * 40), (1, 2)),
        Bars(HOSTILE, (Bar(HOSTILE, 1.0, HOSTILE, 2.0, True), Bar("日本語", 0.0))),
        Table(HOSTILE, (HOSTILE, "b"), ((HOSTILE * 5, "日本語"),)),
        Curves(HOSTILE, HOSTILE, HOSTILE, (Curve(HOSTILE, (1.0, 2.0), (1.0, 1.0)),)),
        HeatMap(HOSTILE, ((0.1,) * 80,) * 2, (HOSTILE, "日"), ("日本",) * 80, 0.0, 1.0),
        Points(HOSTILE, (Point(HOSTILE, 0.0, 0.0, HOSTILE), Point("日本", 1.0, 2.0, ""))),
    ]
    drawn = stack(figures, width, 40, options)
    assert [line.plain for line in drawn if line.cell_length > width] == []
    text = "\n".join(line.plain for line in drawn)
    assert "\x1b" not in text
    assert "\u202e" not in text
    assert "[bold]" in text
    assert to_ascii(text).isascii()


@pytest.mark.parametrize(
    ("value", "text"), [(0, "0"), (0.00002, "<0.001"), (0.123, "0.12"), (-0.2, "-0.20"), (1302, "1,302")]
)
def test_numbers_are_short(value: float, text: str) -> None:
    assert number(value) == text


def test_white_space_at_the_ends_of_a_label_has_a_name() -> None:
    assert [visible(text, False) for text in (" ", "\n", " the", "a b", "")] == ["␣", "↵", "␣the", "a b", ""]
    assert visible(" \n", True) == "_\\n"


def test_keys_beside_one_another_are_broken_between_two_of_them() -> None:
    entries = [Content(text) for text in ("s one step", "t ten steps", "lesson done")]
    assert [line.plain for line in flow(entries, 24)] == ["s one step   t ten steps", "lesson done"]
    assert [line.plain for line in flow(entries, 23)] == ["s one step", "t ten steps", "lesson done"]
