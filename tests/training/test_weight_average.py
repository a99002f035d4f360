"""Weight averaging: its formula, its losses, and its exact resume."""

import dataclasses

import pytest
import torch

from nanogpt.errors import UserError
from nanogpt.events import Evaluated, Step
from nanogpt.models.flat_parameters import FlatParameters
from nanogpt.training import CommandQueue, Save, Snapshot, train
from nanogpt.training.weight_average import WeightAverage
from tests.architectures import build


class Saves:
    """Keeps the snapshots, which are copies, by step."""

    def __init__(self):
        self.by_step: dict[int, Snapshot] = {}

    def __call__(self, snapshot, is_best):
        self.by_step[snapshot.progress.step] = snapshot
        return ""


def evaluations(events):
    return [(e.step, e.val_loss, e.ema_val_loss) for e in events if isinstance(e, Evaluated)]


@pytest.mark.parametrize("is_flat", [True, False])
def test_it_is_the_average_of_the_formula(is_flat):
    torch.manual_seed(1)
    model = build(architecture="gpt2", n_layer=1, n_head=1, n_embd=8, block_size=4, vocab_size=5)
    flat = FlatParameters(list(model.parameters())) if is_flat else None
    average, parameter = WeightAverage(model, 0.25, flat), model.get_parameter("h.0.mlp.c_fc.weight")
    expected = parameter.detach().clone()
    for step, decay in ((1, 2 / 11), (2, 0.25), (3, 0.25)):  # min(0.25, (1 + n) / (10 + n)): 2/11, 3/12, 4/13
        with torch.no_grad():
            for each in model.parameters():
                each.add_(torch.randn(each.shape))
        average.update(step)
        expected = decay * expected + (1 - decay) * parameter.detach()
    torch.testing.assert_close(average.state_dict()["h.0.mlp.c_fc.weight"], expected)


@pytest.mark.parametrize("dtype", ["float32", pytest.param("bfloat16", marks=pytest.mark.slow)])
def test_its_loss_is_that_of_the_saved_average_and_the_raw_loss_is_the_one_without_it(tiny, tokens, dtype):
    saves = Saves()
    config = tiny(ema_decay=0.9, dtype=dtype, dropout=0.1)
    events = list(train(config, tokens, save=saves))
    without = list(train(tiny(dtype=dtype, dropout=0.1), tokens))
    assert [e.loss for e in events if isinstance(e, Step)] == [e.loss for e in without if isinstance(e, Step)]
    assert [each[:2] for each in evaluations(events)] == [each[:2] for each in evaluations(without)]
    assert all(each[2] is None for each in evaluations(without))
    saved = saves.by_step[12]
    assert saved.average.keys() == dict(saved.model).keys()
    assert not torch.equal(saved.average["wte.weight"], saved.model["wte.weight"])
    averaged = Snapshot(saved.model_config, saved.average)
    alone = list(train(tiny(eval_only=True, dtype=dtype), tokens, start=averaged))
    assert evaluations(alone)[0][1] == evaluations(events)[-1][2] == saved.progress.ema_val_loss


def test_a_checkpoint_by_a_command_within_an_evaluation_has_the_raw_weights(tiny, tokens):
    class AtEveryBoundary(CommandQueue):
        calls = 0

        def take(self, *, is_last=False):
            self.calls += 1
            return [Save()] if self.calls % 2 else []

    saved: list[tuple[int, torch.Tensor]] = []

    def save(snapshot, is_best):
        saved.append((snapshot.progress.step, snapshot.model["wte.weight"]))
        return ""

    config = tiny(ema_decay=0.9, max_iters=6)
    list(train(config, tokens, save=save, commands=AtEveryBoundary()))
    weights = [weight for step, weight in saved if step == 6]
    assert len(weights) > 1, "within the evaluation, and after it"
    assert all(torch.equal(weight, weights[-1]) for weight in weights)


@pytest.mark.parametrize("changes", [{}, {"architecture": "modern", "optimizer": "muon"}, {"compile": "false"}])
def test_a_resumed_training_has_bit_identical_averages(tiny, tokens, changes):
    config = tiny(ema_decay=0.9, checkpoint_interval=5, **changes)
    saves, resumed = Saves(), Saves()
    whole = list(train(config, tokens, save=saves))
    rest = list(train(config, tokens, save=resumed, start=saves.by_step[5], resume=True))
    assert evaluations(rest) == evaluations(whole)[1:]
    for name, tensor in saves.by_step[12].average.items():
        assert torch.equal(resumed.by_step[12].average[name], tensor)


def test_a_run_that_was_not_averaged_is_averaged_from_its_checkpoint_on(tiny, tokens):
    saves, resumed = Saves(), Saves()
    list(train(tiny(checkpoint_interval=5), tokens, save=saves))
    first = saves.by_step[5]
    assert first.average == {}
    list(train(tiny(ema_decay=0.5, checkpoint_interval=6), tokens, save=resumed, start=first, resume=True))
    weight = resumed.by_step[6].model["wte.weight"]
    expected = 0.5 * first.model["wte.weight"] + 0.5 * weight  # (1 + 6) / (10 + 6) = 0.4375 is below 0.5
    expected = expected + (0.5 - 0.4375) * (weight - first.model["wte.weight"])
    torch.testing.assert_close(resumed.by_step[6].average["wte.weight"], expected)


def test_the_average_of_another_model_is_refused(tiny, tokens):
    saves = Saves()
    config = tiny(ema_decay=0.9, checkpoint_interval=5)
    list(train(config, tokens, save=saves))
    wrong = dataclasses.replace(saves.by_step[5], average={"wte.weight": torch.zeros(2, 2)})
    with pytest.raises(UserError, match="averaged weights are of another model"):
        list(train(config, tokens, start=wrong, resume=True))
