"""The table printer of the command line."""

from nanogpt.cli.tables import format_loss, format_whole, print_table


def test_columns_are_aligned_by_the_width_on_screen(capsys):
    print_table([("name", "loss", "title"), ("語語語", "1.5", "two\nlines"), ("a", "12.25", "\x1b[31m")], right=[1])
    # Three wide characters take six columns; "12.25" is the widest loss.
    assert capsys.readouterr().out.splitlines() == [
        "name     loss  title",
        "語語語    1.5  two lines",
        "a       12.25  ␛[31m",
    ]


def test_a_figure_that_is_not_known_is_a_dash():
    assert (format_loss(None), format_loss(1.23456)) == ("–", "1.2346")
    assert (format_whole(None), format_whole(12_345.6)) == ("–", "12,346")
