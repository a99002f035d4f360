"""Lesson 5: vowels and consonants part in the map of embeddings."""

from itertools import pairwise

import numpy as np
import pytest

from nanogpt.learn.experiment import create
from nanogpt.learn.experiments.embedding_map import VOWELS
from nanogpt.learn.figures import Bars, Curves, Points
from tests.lessons import all_figures, figures_of, last_figures, prepare_text, sentences

SMALL = {"steps": 150, "interval": 50}
pytestmark = pytest.mark.slow


@pytest.fixture
def letters(tmp_path, text):
    # in the text of the tests a syllable is a consonant and a vowel
    prepare_text(tmp_path, "small", text)
    experiment = create("embedding_map", SMALL)
    return experiment, list(all_figures(experiment.start()))


def test_vowels_and_consonants_part_and_the_measure_says_so(letters):
    experiment, pictures = letters
    assert [each.step for each in experiment.snapshots] == [0, 50, 100, 150]
    assert len(pictures) == 4
    first, last = experiment.snapshots[0], experiment.snapshots[-1]
    text = sentences(pictures[-1])
    assert abs(first.vowels - first.mixed) < 0.3
    assert not first.has_parted
    assert last.has_parted
    assert f"Vowels and consonants have parted: after 150 steps two vowels are alike by {last.vowels:.2f}" in text
    assert f"(before training {first.vowels:.2f}), a vowel and a consonant by {last.mixed:.2f}" in text
    assert f"For {last.vowel_pairs} of 4 vowels the nearest letter is a vowel" in text
    curves = figures_of(Curves, pictures[-1])[0].curves
    assert curves[0].ys == tuple(each.vowels for each in experiment.snapshots)
    assert curves[2].ys == tuple(each.mixed for each in experiment.snapshots)
    assert not figures_of(Curves, pictures[0])


def test_letters_are_as_alike_as_the_cosine_of_their_centred_embeddings(letters):
    experiment, _ = letters
    ids = [experiment.tokenizer.encode(letter)[0] for letter in experiment.letters]
    vectors = experiment.trainer.model.token_embeddings().detach().numpy()[ids]
    vectors = vectors - vectors.mean(0)
    found: dict[str, list[float]] = {"vowels": [], "consonants": [], "mixed": []}
    for place, letter in enumerate(experiment.letters):
        for other in range(place):
            one, two = vectors[place], vectors[other]
            n_vowels = (letter in VOWELS) + (experiment.letters[other] in VOWELS)
            kind = ("consonants", "mixed", "vowels")[n_vowels]
            found[kind].append(float(one @ two / np.linalg.norm(one) / np.linalg.norm(two)))
    last = experiment.snapshots[-1]
    for kind, values in found.items():
        assert getattr(last, kind) == pytest.approx(np.mean(values), abs=1e-4)


def test_the_map_has_every_letter_in_its_group_and_turns_little(letters):
    experiment, pictures = letters
    maps = [figures_of(Points, each)[0].points for each in pictures]
    assert {point.label: point.group for point in maps[-1]} == {
        letter: "vowel" if letter in VOWELS else "consonant" for letter in experiment.letters
    }
    for before, after in pairwise(maps[1:]):
        for axis in ("x", "y"):
            assert sum(getattr(a, axis) * getattr(b, axis) for a, b in zip(before, after, strict=True)) >= 0


def test_a_letter_shows_its_neighbours(letters):
    experiment, _ = letters
    assert "Type one of the letters on the map" in sentences(last_figures(experiment.answer("7")))
    assert not experiment.done
    shown = last_figures(experiment.answer(" A"))
    assert experiment.done
    (bars,) = figures_of(Bars, shown)
    values = [float(row.note) for row in bars.rows]
    assert values == sorted(values, reverse=True)
    count = sum(row.label in VOWELS for row in bars.rows)
    assert f"“a” is a vowel, and {count} of its {len(bars.rows)} nearest letters are vowels." in sentences(shown)


def test_it_can_train_longer(letters):
    experiment, _ = letters
    last_figures(experiment.act("more"))
    assert [each.step for each in experiment.snapshots] == [0, 50, 100, 150, 200, 250, 300]


def test_a_text_without_english_letters_is_replaced(tmp_path):
    prepare_text(tmp_path, "greek", "αβγδε ζηθικ λμνξο πρστυ φχψω\n" * 1000)
    experiment = create("embedding_map", {**SMALL, "steps": 20, "interval": 10})
    last_figures(experiment.start())
    shown = last_figures(experiment.answer("e"))
    assert len(figures_of(Points, shown)[0].points) > 20
