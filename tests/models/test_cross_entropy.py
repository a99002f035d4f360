"""The loss in pieces is torch's, with its gradients."""

import math

import pytest
import torch
from torch.nn import functional as F

from nanogpt.models.parts import cross_entropy as module
from nanogpt.models.parts.cross_entropy import cross_entropy
from nanogpt.training import estimate


def made(ignored):
    torch.manual_seed(3)
    targets = torch.randint(50, (37,))
    targets[torch.arange(37) % 5 == 0] = -1 if ignored else 0
    return torch.randn(37, 8, dtype=torch.float64), torch.randn(50, 8, dtype=torch.float64), targets


@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize(("rows", "numbers"), [(1024, 1 << 22), (10, 1 << 22), (10, 200), (1024, 1)])
def test_it_is_torchs_in_pieces_of_every_size(monkeypatch, ignored, rows, numbers):
    monkeypatch.setattr(module, "ROWS", rows)
    monkeypatch.setattr(module, "NUMBERS", numbers)
    x, weight, targets = made(ignored)
    loss, of_x, of_weight = cross_entropy(x, weight, targets, keep=True)
    theirs = F.cross_entropy(x.requires_grad_() @ weight.requires_grad_().t(), targets, ignore_index=-1)
    for ours, wanted in zip((loss, of_x, of_weight), (theirs, *torch.autograd.grad(theirs, (x, weight))), strict=True):
        torch.testing.assert_close(ours, wanted.detach())


def test_in_16_bits_it_is_near():
    x, weight, targets = made(ignored=True)
    exact = cross_entropy(x, weight, targets, keep=True)
    near = cross_entropy(x.bfloat16(), weight.bfloat16(), targets, keep=True)
    assert near[0].dtype == torch.float32
    for ours, wanted in zip(near, exact, strict=True):
        assert (ours - wanted).norm() < 0.02 * wanted.norm()


def test_without_gradients_there_are_none():
    x, weight, targets = made(ignored=False)
    loss, of_x, of_weight = cross_entropy(x, weight, targets, keep=False)
    torch.testing.assert_close(loss, F.cross_entropy(x @ weight.t(), targets))
    assert of_x is None
    assert of_weight is None


def test_the_loss_of_what_is_all_but_impossible_is_finite_and_of_what_is_no_number_is_none():
    weight, targets = torch.tensor([[1.0], [-1.0]]), torch.tensor([1, 0])
    x = torch.tensor([[300.0], [300.0]])
    assert cross_entropy(x, weight, targets, keep=False)[0] == 300
    assert math.isnan(cross_entropy(x * math.nan, weight, targets, keep=False)[0])
    assert math.isnan(cross_entropy(x, weight, targets * 0 - 1, keep=False)[0])


def test_the_estimate_of_memory_knows_the_pieces():
    assert (estimate.AT_ONCE, estimate.NUMBERS) == (module.ROWS, module.NUMBERS)
