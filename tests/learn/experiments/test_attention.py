"""The experiment with attention: its sequences, the head that is switched off, and that it learns to copy."""

from string import ascii_lowercase
from typing import Any

import pytest
import torch

from nanogpt.inspection.attention import attention_of
from nanogpt.learn.experiments.attention import Head, copied_share, switched_off
from nanogpt.learn.figures import Bars, HeatMap, Table
from nanogpt.learn.labels import percent
from tests.lessons import last_figures, one, press, sentences, started

TINY = {"n_head": 2, "n_embd": 16, "steps": 2, "batch_size": 4, "block_size": 16, "longest_period": 6}


@pytest.fixture
def experiment() -> Any:
    return started("attention", **TINY)[0]


def test_sequences_repeat_themselves_and_only_the_known_repetition_is_a_target(experiment: Any) -> None:
    ids, targets = experiment.tested
    for row, wanted in zip(ids.tolist(), targets.tolist(), strict=True):
        period = row.index(row[0], 1)
        assert 4 <= period <= 6
        assert len(set(row[:period])) == period
        assert row == [row[place % period] for place in range(16)]
        assert wanted[:period] == [-1] * period
        assert wanted[period:] == [row[(place + 1) % period] for place in range(period, 16)]


def test_copied_share_counts_the_targets_alone() -> None:
    class Shifted(torch.nn.Module):
        """Predicts after each letter the next one of the alphabet."""

        def logits(self, ids: torch.Tensor) -> torch.Tensor:
            return torch.nn.functional.one_hot((ids + 1) % 26, 26).float()

    batch = torch.tensor([[0, 5, 7, 9]]), torch.tensor([[-1, 6, 0, 10]])
    assert copied_share(Shifted(), batch) == pytest.approx(2 / 3)  # type: ignore[arg-type]


def test_a_head_that_is_switched_off_adds_nothing_and_comes_back(experiment: Any) -> None:
    model, ids = experiment.model, torch.tensor([experiment.example])
    before = model.logits(ids)
    layer = model.get_submodule("h.0.attn")
    inputs: list[torch.Tensor] = []
    hook = layer.c_proj.register_forward_pre_hook(lambda module, given: inputs.append(given[0]))
    with torch.no_grad(), switched_off(model, Head("h.0.attn", 1), 2):
        x = torch.randn(1, 3, 16)
        without = layer(x)
    hook.remove()
    inputs[0][..., 8:] = 0  # what head 1 of 2 hands to the projection
    assert torch.allclose(without, layer.c_proj(inputs[0]))
    assert torch.equal(model.logits(ids), before)


def test_heat_map_is_the_attention_of_the_marked_head(experiment: Any) -> None:
    shown = press(experiment, "head")
    marked = [bar.label for bar in one(Bars, shown).rows if bar.marked]
    heat_map = one(HeatMap, shown)
    assert len(marked) == 1
    assert heat_map.title.startswith(f"Where {marked[0]} looks")
    layer, head = (int(word.rstrip(",")) - 1 for word in marked[0].split()[1::2])
    weights = attention_of(experiment.model, torch.tensor(experiment.example))[layer].weights[head]
    assert torch.allclose(torch.tensor(heat_map.values), torch.from_numpy(weights))


def test_says_that_nothing_was_learned_in_two_steps(experiment: Any) -> None:
    assert "In this run no head has learned to copy" in sentences(press(experiment, "head"))


def test_switching_off_is_measured_and_undone(experiment: Any) -> None:
    shown = press(experiment, "switch")
    head = experiment._head()
    with switched_off(experiment.model, head, 2):
        share = copied_share(experiment.model, experiment.tested)
    assert f"switched off it predicts {percent(share)} instead of {percent(experiment.copied[-1])}" in sentences(shown)
    assert experiment.done
    assert "switched off" not in sentences(press(experiment, "switch"))


def test_typed_letters_are_continued_without_the_head_that_is_switched_off(experiment: Any) -> None:
    on = last_figures(experiment.answer("kqzwk"))
    off = press(experiment, "switch")
    with switched_off(experiment.model, experiment._head(), 2), torch.no_grad():
        shares = experiment.model.logits(torch.tensor([experiment.example]))[0, -1].softmax(-1)
    share, id = shares.max(0)
    guess = ascii_lowercase[int(id)]
    assert f"After “kqzwk” it predicts “{guess}” with {percent(float(share))}" in sentences(off)
    assert one(Table, off).rows[-1][1] == f"{guess} {percent(float(share))}"
    assert one(Table, on) != one(Table, off)
    assert one(Table, press(experiment, "switch")) == one(Table, on)


def test_every_sequence_has_a_target_however_short_it_is() -> None:
    experiment, shown = started("attention", **TINY | {"block_size": 8, "shortest_period": 10, "longest_period": 26})
    assert (experiment.tested[1] >= 0).any(1).all()
    assert "nan" not in sentences(shown)


def test_typed_letters_are_continued(experiment: Any) -> None:
    assert not experiment.done
    shown = last_figures(experiment.answer("Kq zw, k!"))
    assert experiment.done
    assert "After “kqzwk” it predicts" in sentences(shown)
    assert "“q”" in sentences(shown) or "which came after the earlier “k”" in sentences(shown)
    assert one(Table, shown).rows[-1][0] == "kqzwk"
    assert "the last letter is new" in sentences(last_figures(experiment.answer("abc")))
    assert last_figures(experiment.answer("12 34")).figures


@pytest.mark.slow
def test_an_induction_head_appears() -> None:
    experiment, shown = started("attention")
    assert max(each.scores["induction"] for each in experiment.scores[0]) < 0.2
    assert max(each.scores["induction"] for each in experiment.scores[-1]) > 0.5
    assert experiment.copied[0] < 0.2
    assert experiment.copied[-1] > 0.9
    assert "looks at the letter after the earlier copy" in sentences(shown)
    press(experiment, "switch")
    with switched_off(experiment.model, experiment._head(), experiment.settings.n_head):
        assert copied_share(experiment.model, experiment.tested) < experiment.copied[-1] / 2
    experiment.act("switch")
    last_figures(experiment.answer("kqzwkqz"))
    assert "“w”" in sentences(last_figures(experiment.answer("kqzwkqz")))
