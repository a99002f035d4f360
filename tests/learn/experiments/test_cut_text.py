"""Lesson 1: a text cut into characters, bytes and byte pairs."""

import pytest

from nanogpt.learn.experiment import create
from nanogpt.learn.figures import Pieces, Table
from tests.lessons import figures_of, last_figures, prepare_text, sentences


@pytest.fixture
def cut(tmp_path):
    # "the" is the only word: its pairs are merged to " the" in three merges
    prepare_text(tmp_path, "words", "the the the the the\n" * 1500)
    experiment = create("cut_text", {"merges": 3, "example": "the hat"})
    return experiment, last_figures(experiment.start())


def test_the_same_text_is_cut_in_each_way(cut):
    _, shown = cut
    characters, in_bytes, pairs, *_ = figures_of(Pieces, shown)
    assert characters.pieces == tuple("the h t")  # the text has no "a"
    assert in_bytes.pieces == tuple("the hat")
    assert in_bytes.ids == tuple(b"the hat")
    assert pairs.title == "byte pairs: 5 tokens"
    assert pairs.pieces == ("the", " ", "h", "a", "t")
    assert figures_of(Table, shown)[0].rows[:3] == (
        ("characters", "5", "7", "1.00"),
        ("bytes", "256", "7", "1.00"),
        ("byte pairs", "259", "5", "1.40"),
    )
    text = sentences(shown)
    assert "30,000 characters of your data set words" not in text  # what was read, not what there is
    assert "The first new tokens: “he”, “the”, “ the”." in text
    assert "Byte pairs need 5 tokens instead of 7: 29% fewer. The longest here is “the”." in text
    assert "Not among the 5 characters of your data set words: “a”." in text


def test_what_the_learner_types_is_cut(cut):
    experiment, _ = cut
    assert not experiment.done
    shown = last_figures(experiment.answer("é the"))
    assert experiment.done
    assert "5 characters are 6 bytes, 1 more: “é” takes 2." in sentences(shown)
    assert figures_of(Pieces, shown)[1].pieces[:2] == ("\\xc3", "\\xa9")
    assert "no shorter than bytes" in sentences(last_figures(experiment.answer("xyz")))


def test_odd_answers_are_cut_too(cut):
    experiment, _ = cut
    assert "nothing to cut" in sentences(last_figures(experiment.answer("")))
    assert not experiment.done
    shown = last_figures(experiment.answer("\x1b[2J" + "x" * 500))
    assert "Only the first 400 of your 504 characters" in sentences(shown)
    assert all(piece.isprintable() for figure in figures_of(Pieces, shown) for piece in figure.pieces)


def test_without_an_example_nothing_is_cut_at_first(tmp_path):
    prepare_text(tmp_path, "words", "the the the the the\n" * 1500)
    shown = last_figures(create("cut_text", {"merges": 3, "example": ""}).start())
    assert "was merged 3 times" in sentences(shown)
    assert not figures_of(Pieces, shown)
