"""Lesson 2: Shannon's game."""

import math

import pytest
import torch

from nanogpt.learn.experiment import create
from nanogpt.learn.experiments.guess_next import TRIED, bounds, standard_error
from nanogpt.learn.figures import Bars, Table
from tests.lessons import figures_of, last_figures, prepare_text, sentences

pytestmark = pytest.mark.slow


@pytest.fixture
def game(tmp_path, text):
    prepare_text(tmp_path, "small", text)
    experiment = create("guess_next", {"order": 3, "characters": 4})
    last_figures(experiment.start())
    return experiment


def test_bounds_are_shannons() -> None:
    # q = 1/2, 1/4, 1/4: the entropy is 1.5 bits; from below 1·¼·0 + 2·0·1 + 3·¼·log2 3
    assert bounds([1, 1, 2, 3]) == pytest.approx((3 / 4 * math.log2(3), 1.5))
    assert bounds([1, 1, 1]) == (0.0, 0.0)
    # always found at guess 4: no information for one who knows that, so 0 from above; and not less from below
    low, high = bounds([4, 4])
    assert low <= high == 0.0
    assert standard_error([1.0, 3.0]) == pytest.approx(1.0)  # deviation √2, over √2


def test_right_guesses_are_counted_and_several_can_be_typed(game):
    targets = [character.text for character in game.game]
    shown = last_figures(game.answer("".join(targets[:2])))
    assert [character.guesses for character in game.game] == [1, 1, 0, 0]
    assert len(figures_of(Table, shown)[0].rows) == 2
    assert f"Yes: “{targets[1]}”, at guess 1." in sentences(shown)


def test_a_wrong_guess_is_said_and_the_character_is_shown_in_the_end(game):
    target = game.game[0].text
    wrong = [character for character in "0123456789" if character != target]
    assert f"Not “{wrong[0]}”." in sentences(last_figures(game.answer(wrong[0] + target)))
    assert "You tried" in sentences(last_figures(game.answer(wrong[0])))
    for character in wrong[1:TRIED]:
        shown = last_figures(game.answer(character))
    assert game.game[0].guesses == TRIED + game.game[0].rank, "the model knows no digits"
    assert f"counted as found at guess {TRIED + game.game[0].rank}," in sentences(shown)


def test_the_result_is_that_of_the_guesses_and_of_the_model(game):
    assert [action.key for action in game.actions] == ["enter"]
    last_figures(game.act("give up"))
    assert game.game[0].guesses == game.game[0].rank
    shown = last_figures(game.answer("".join(character.text for character in game.game[1:])))
    assert game.done
    assert game.question == ""
    bars = {row.label: row.value for row in figures_of(Bars, shown)[0].rows}
    yours = [game.game[0].rank, 1, 1, 1]
    assert (bars["you, at least"], bars["you, at most"]) == pytest.approx(bounds(yours))
    ids = torch.tensor(game.tokenizer.encode(game.context + "".join(each.text for each in game.game)))
    bits = []
    for end in range(len(ids) - 4, len(ids)):
        logits, _ = game.model(ids[None, end - 2 : end])
        logs = torch.log_softmax(logits[0, -1], -1)
        bits.append(float(-logs[ids[end]].detach()) / math.log(2))
        assert game.game[end - len(ids) + 4].rank == 1 + int((logs > logs[ids[end]]).sum())
    assert bars["model, exactly"] == pytest.approx(sum(bits) / 4, rel=1e-4)
    assert bars["blind guessing"] == pytest.approx(math.log2(game.tokenizer.vocab_size))


def test_a_game_in_which_nothing_was_guessed_is_the_models_and_not_done(game):
    for _ in range(4):
        last_figures(game.act("give up"))
    assert [each.guesses for each in game.game] == [each.rank for each in game.game]
    assert not game.question
    assert not game.done


def test_it_can_be_played_again_on_another_passage(game):
    context = game.context
    last_figures(game.answer("".join(character.text for character in game.game)))
    assert [action.name for action in game.actions] == ["again"]
    last_figures(game.act("again"))
    assert game.context != context
    assert game.question
    assert game.done  # what was done stays so
