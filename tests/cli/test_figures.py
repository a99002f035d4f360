"""Figures as lines of text: they fit, they are plain, and they show what is in the figure."""

import pytest

from nanogpt.cli.console import columns
from nanogpt.cli.figures import figure_lines
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

ODD = "\x1b[2J\x9b漢字\u202e[bold]\t"
LONG = "word " * 60
CURVE = Curve(ODD, (1.0, 10.0, 100.0), (1.0, 0.1, 0.01))
FIGURES: list[Figure] = [
    Sentence(f"{LONG}{ODD}"),
    Pieces("pieces", (ODD, " a", "b" * 300), (1, 2, 3)),
    Bars("bars", (Bar(ODD, 0.5, "50 %", 0.2, True), Bar("b", 0.0), Bar("c", 1.0, LONG))),
    Bars("none", ()),
    Table("table", ("a", ODD), (("1", "2.50"), (LONG, "x"))),
    Table("empty", ("a",), ()),
    Curves("curves", "x", "y", (CURVE, Curve("b", (5.0,), (0.5,), True)), True, True),
    Curves("one point", "x", "y", (Curve("a", (1.0,), (1.0,)),)),
    Curves("nothing", "x", "y", (Curve("a", (), ()),)),
    HeatMap("heat", ((0.0, 0.5), (1.0, float("nan"))), (ODD, "b"), ("c", ODD), 0.0, 1.0),
    Points("points", (*(Point(letter, 1.0, 2.0, "one") for letter in "abc"), Point(ODD, 0.0, 0.0, "two"))),
    Points("no points", ()),
]


@pytest.mark.parametrize("figure", FIGURES, ids=lambda figure: type(figure).__name__)
@pytest.mark.parametrize("width", [40, 79, 200])
@pytest.mark.parametrize("is_unicode", [True, False])
def test_lines_fit_and_are_plain(figure: Figure, width: int, is_unicode: bool) -> None:
    for line in figure_lines(figure, width, is_unicode):
        assert columns(line) <= width
        assert line.isprintable()
        if not is_unicode:
            assert not set(line) & set("│└─█▏▸░▒▓●○×·")


def lines(figure: Figure) -> list[str]:
    return list(figure_lines(figure, 80))


def test_bars_are_as_long_as_their_share_of_the_longest() -> None:
    first, second = lines(Bars("t", (Bar("a", 1.0, "100 %", 0.5), Bar("bb", 0.5, marked=True))))[1:]
    assert first.count("█") == 32
    assert second.count("█") == 16
    assert first.endswith("100 %  before 50.0 %")
    assert second.lstrip().startswith("▸ bb")
    assert second.endswith("0.5")


def test_a_table_aligns_its_columns_and_figures_to_the_right() -> None:
    assert lines(Table("t", ("name", "n"), (("a", "1,000"), ("bb", "7")))) == [
        "t",
        "  name      n",
        "  a     1,000",
        "  bb        7",
    ]


def test_curves_have_their_limits_at_the_axes() -> None:
    shown = lines(
        Curves("t", "steps", "loss", (Curve("up", (0.0, 1.0), (0.0, 1.0)), Curve("down", (0.0, 1.0), (1.0, 0.0))))
    )
    assert shown[1].lstrip().startswith("1 │○")
    assert shown[1].endswith("●")
    assert shown[10].lstrip().startswith("0 │●")
    assert shown[-1].split() == ["●", "up", "○", "down"]


def test_a_logarithmic_axis_puts_equal_ratios_at_equal_distances() -> None:
    shown = lines(Curves("t", "n", "loss", (Curve("a", (1.0, 10.0, 100.0), (1.0, 1.0, 1.0), True),), log_x=True))
    row = next(line for line in shown if "●" in line)
    first, second, third = (place for place, mark in enumerate(row) if mark == "●")
    assert abs((second - first) - (third - second)) <= 1


def test_points_keep_their_order_on_both_axes() -> None:
    marks = (Point("a", 0.0, 0.0, "v"), Point("b", 1.0, 1.0, "c"), Point("d", 0.5, 0.5, "c"))
    shown = lines(Points("t", marks))
    places = {
        label: next((-row, line.index(label)) for row, line in enumerate(shown[1:-1]) if label in line)
        for label in "adb"
    }
    assert places["a"] < places["d"] < places["b"]
    assert places["a"][1] < places["d"][1] < places["b"][1]
    assert shown[-1].split() == ["●", "v", "○", "c"]


def test_a_piece_shows_its_spaces() -> None:
    assert lines(Pieces("t", (" the", "\\n"), (5, 6))) == ["t", "  │·the│\\n│"]
