"""Muon: what an update looks like, and which parameters get one."""

import pytest
import torch

from nanogpt.config import resolve
from nanogpt.errors import SettingError
from nanogpt.models.base import LanguageModel, ParameterGroup
from nanogpt.optimizers.muon.optimizer import MOMENTUM, UPDATE_RMS, Muon, orthogonalize
from tests import architectures

SHAPE = {"n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 8, "vocab_size": 11}
BETAS = (0.9, 0.99)


@pytest.mark.parametrize("shape", [(3, 16, 16), (2, 64, 16), (2, 16, 64)])
def test_all_singular_values_come_to_about_one(shape):
    torch.manual_seed(1)
    values = torch.linalg.svdvals(orthogonalize(torch.randn(shape)))
    assert values.min() > 0.5
    assert values.max() < 1.3


def test_the_singular_vectors_stay():
    torch.manual_seed(1)
    u, _, v = torch.linalg.svd(torch.randn(16, 16))
    matrix = u @ torch.diag(torch.linspace(0.2, 1, 16)) @ v
    turned = u.T @ orthogonalize(matrix[None])[0] @ v.T
    torch.testing.assert_close(turned, torch.diag(turned.diagonal()), atol=1e-4, rtol=0)


@pytest.mark.parametrize("architecture", architectures.TRAINED)
def test_the_matrices_between_hidden_states_are_muons_and_nothing_else_is(architecture):
    model = architectures.build(architecture=architecture, **SHAPE)
    optimizer = resolve(flags={"optimizer": "muon"}).config.optimizer.build(model, torch.float32)
    first, *others = optimizer.param_groups
    hidden = [p for group in model.parameter_groups() if group.role == "hidden" for p in group.parameters]
    assert first["muon"]
    assert set(first["params"]) == set(hidden)
    assert all(p.dim() == 2 for p in hidden)
    assert not any(group["muon"] for group in others)
    together = [p for group in (first, *others) for p in group["params"]]
    assert len(together) == len(set(together)) == len(list(model.parameters()))


def test_an_architecture_without_such_matrices_is_refused_in_words():
    class Bigram(LanguageModel):
        def __init__(self):
            super().__init__()
            self.config = architectures.shape(vocab_size=3)
            self.table = torch.nn.Embedding(3, 3)

        def parameter_groups(self):
            return [ParameterGroup("embedding", list(self.parameters()), decay=True)]

    with pytest.raises(SettingError, match=r"optimizer=muon.*no matrices between hidden states.*adamw"):
        resolve(flags={"optimizer": "muon"}).config.optimizer.build(Bigram(), torch.float32)


def stepped(gradient, rate, weight_decay, steps=1):
    weight = torch.nn.Parameter(torch.full_like(gradient, 2.0))
    optimizer = Muon(
        [{"params": [weight], "weight_decay": weight_decay, "muon": True}], dtype=torch.float32, lr=rate, betas=BETAS
    )
    for _ in range(steps):
        weight.grad = gradient.clone()
        optimizer.step()
    return weight.detach(), optimizer.state[weight]


@pytest.mark.parametrize("size", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("shape", [(32, 32), (96, 32), (32, 128)])
def test_an_update_has_the_size_of_one_of_adamw_whatever_the_gradients(shape, size):
    torch.manual_seed(1)
    weight, _ = stepped(size * torch.randn(shape), rate=0.1, weight_decay=0.0)
    rms = (weight - 2.0).square().mean().sqrt().item()
    assert rms == pytest.approx(0.1 * UPDATE_RMS, rel=0.25)


def test_weights_decay_apart_from_the_gradient():
    weight, _ = stepped(torch.zeros(4, 4), rate=0.1, weight_decay=0.5)
    torch.testing.assert_close(weight, torch.full((4, 4), 2.0 * (1 - 0.1 * 0.5)))


def test_the_momentum_is_a_running_mean_of_the_gradients():
    gradient = torch.eye(4)
    _, state = stepped(gradient, rate=0.1, weight_decay=0.0, steps=3)
    torch.testing.assert_close(state["momentum"], gradient * (1 - MOMENTUM**3))


def test_what_is_not_muons_moves_as_under_adamw():
    torch.manual_seed(1)
    start, gradient = torch.randn(5, 3), torch.randn(5, 3)
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    matrix = torch.nn.Parameter(torch.randn(4, 4))
    both = Muon([{"params": [matrix], "muon": True}, {"params": [ours]}], dtype=torch.float32, lr=0.01, betas=BETAS)
    alone = torch.optim.AdamW([theirs], lr=0.01, betas=BETAS, weight_decay=0.0)
    for _ in range(3):
        ours.grad, theirs.grad, matrix.grad = gradient.clone(), gradient.clone(), torch.randn(4, 4)
        both.step()
        alone.step()
    torch.testing.assert_close(ours, theirs)


def test_a_matrix_without_a_gradient_stays():
    matrix = torch.nn.Parameter(torch.ones(3, 3))
    Muon([{"params": [matrix], "muon": True}], dtype=torch.float32, lr=0.1, betas=BETAS).step()
    assert torch.equal(matrix.detach(), torch.ones(3, 3))
