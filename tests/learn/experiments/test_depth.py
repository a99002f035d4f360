"""The experiment with the ladder: its rungs are those of `nanogpt ladder`, its losses and gradients measured."""

import pytest
import torch

from nanogpt.errors import UserError
from nanogpt.learn.experiment import create
from nanogpt.learn.figures import Bars, Table
from nanogpt.runs import load_rungs
from tests.lessons import one, press, sentences, started

TINY = {"n_embd": 16, "steps": 3, "tokens": 64, "block_size": 8}


def test_climbs_the_ladder_rung_by_rung() -> None:
    experiment, shown = started("depth", **TINY, rungs="bigram,heads,residual,deeper")
    assert sentences(shown).startswith("Rung 1, bigram: a table")
    assert "Next, rung 2 of 4, heads: 4 heads instead of 1." in sentences(shown)
    shown = press(experiment, "next")
    assert [bar.label for bar in one(Bars, shown).rows] == ["bigram", "heads"]
    assert [action.name for action in experiment.actions] == ["next", "all"]
    shown = press(experiment, "all")
    names = [bar.label for bar in one(Bars, shown).rows]
    assert names == [row[0] for row in one(Table, shown).rows] == ["bigram", "heads", "residual", "deeper"]
    assert not experiment.done
    assert [action.name for action in experiment.actions] == ["residual"]
    press(experiment, "residual")
    assert experiment.done
    assert experiment.actions == ()


def test_rungs_have_the_settings_of_the_ladder_in_the_size_of_the_lesson() -> None:
    experiment, _ = started("depth", **TINY, rungs="bigram,deeper")
    for rung in load_rungs(["bigram", "deeper"]):
        config = experiment._model(experiment._settings(rung.config)).config
        assert config.name == rung.config.model.name
        assert config.n_embd == 16
        assert config.block_size == (1 if rung.name == "bigram" else 8)
    assert (config.n_layer, config.norm, config.residual, config.n_head) == (4, "layer", True, 4)


def test_sentence_says_whether_a_rung_lowered_the_loss() -> None:
    experiment, _ = started("depth", **TINY | {"steps": 20}, rungs="bigram,one-head,residual")
    for _ in range(2):
        shown = press(experiment, "next")
        lower = experiment.results[-2].loss - experiment.results[-1].loss
        word = "no change" if abs(lower) < 0.005 else "lower" if lower > 0 else "does not help"
        assert word in sentences(shown)
    losses = [result.loss for result in experiment.results]
    helped = (losses[0] - losses[1] >= 0.005) + (losses[1] - losses[2] >= 0.005)
    assert f"{helped} of 2 ideas lowered the loss" in sentences(shown)


def test_loss_of_the_bigram_is_that_of_every_unseen_character() -> None:
    experiment, _ = started("depth", **TINY, rungs="bigram")
    rung = experiment.rungs[0]
    model = experiment._model(experiment._settings(rung.config))
    trainer = experiment._trainer(model)
    list(trainer.train(3))
    ids = experiment.data.validation[:4096]
    with torch.no_grad():
        log_probabilities = model.logits(ids[:-1, None])[:, 0].log_softmax(-1)
    expected = -log_probabilities.gather(1, ids[1:, None]).mean()
    assert experiment.results[0].loss == pytest.approx(float(expected), rel=1e-4)


def test_gradients_are_those_of_each_block_before_the_first_step() -> None:
    experiment, _ = started("depth", **TINY, rungs="bigram,deeper")
    shown = press(experiment, "all", "residual")
    bars = one(Bars, shown, "Gradient").rows
    settings = experiment._settings(experiment.rungs[-1].config)
    for has_residual, found in ((True, [bar.before for bar in bars]), (False, [bar.value for bar in bars])):
        model = experiment._model(settings | {"residual": has_residual})
        trainer = experiment._trainer(model)
        _, loss = model(*trainer.next_batch(trainer.random))
        loss.backward()
        norms = [sum(float((p.grad**2).sum()) for p in block.parameters()) ** 0.5 for block in model.h]
        assert found == pytest.approx(norms, rel=1e-3)


def test_unknown_rung_is_refused_in_one_line() -> None:
    with pytest.raises(UserError, match="no rung 'biggram'"):
        list(create("depth", {"rungs": "biggram"}).start())
