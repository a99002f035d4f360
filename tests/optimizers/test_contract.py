"""The contract of every optimizer: the weights that decay, and the learning rate of each parameter group."""

import pytest
import torch

from nanogpt.config import OPTIMIZER, names, resolve
from nanogpt.models.base import LanguageModel, ParameterGroup
from tests.architectures import build

RATE, DECAY = 0.01, 0.5


def model_with(scale: float) -> LanguageModel:
    """Return a small model whose head has `scale` as its learning-rate scale."""
    torch.manual_seed(4)
    model = build(architecture="modern", n_layer=1, n_head=1, n_embd=8, block_size=4, vocab_size=5)
    groups = [
        ParameterGroup(g.role, g.parameters, g.decay, scale if g.role == "head" else 1.0)
        for g in model.parameter_groups()
    ]
    model.parameter_groups = lambda: groups  # type: ignore[method-assign]
    return model


def optimizer_of(name: str, model: LanguageModel) -> torch.optim.Optimizer:
    """Return the optimizer, with the rates that the loop gives it."""
    flags = {"optimizer": name, "learning_rate": RATE, "weight_decay": DECAY}
    optimizer = resolve(flags=flags).config.optimizer.build(model, torch.float32)
    for group in optimizer.param_groups:
        group["lr"] = RATE * group["learning_rate_scale"]
    return optimizer


@pytest.mark.parametrize("name", names(OPTIMIZER))
def test_it_trains_every_parameter_once(name: str) -> None:
    model = model_with(3.0)
    trained = [p for group in optimizer_of(name, model).param_groups for p in group["params"]]
    assert sorted(map(id, trained)) == sorted(map(id, model.parameters()))


@pytest.mark.parametrize("name", names(OPTIMIZER))
def test_without_a_gradient_only_the_groups_that_decay_shrink_each_at_its_own_rate(name: str) -> None:
    """An update of nothing is nothing, so one step leaves w · (1 - rate · scale · decay)."""
    model = model_with(3.0)
    optimizer = optimizer_of(name, model)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.rand(parameter.shape) + 1)
            parameter.grad = torch.zeros_like(parameter)
    before = {parameter: parameter.detach().clone() for parameter in model.parameters()}
    optimizer.step()
    for group in model.parameter_groups():
        kept = 1 - RATE * group.learning_rate_scale * DECAY if group.decay else 1.0
        for parameter in group.parameters:
            torch.testing.assert_close(parameter.detach(), kept * before[parameter])


@pytest.mark.parametrize("name", names(OPTIMIZER))
def test_a_group_moves_by_its_own_learning_rate(name: str) -> None:
    """The update is proportional to the rate: the head moves three times as far, the other weights as without."""
    moves = []
    for scale in (1.0, 3.0):
        model = model_with(scale)
        optimizer = optimizer_of(name, model)
        before = {key: value.detach().clone() for key, value in model.named_parameters()}
        torch.manual_seed(9)
        for parameter in model.parameters():
            parameter.grad = torch.randn(parameter.shape)
        optimizer.step()
        moves.append({key: value.detach() - before[key] for key, value in model.named_parameters()})
    for key, plain in moves[0].items():
        assert plain.any()
        torch.testing.assert_close(moves[1][key], (3 if key == "head.weight" else 1) * plain, rtol=1e-4, atol=1e-6)
