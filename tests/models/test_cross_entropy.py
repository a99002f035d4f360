"""The loss in pieces is torch's, with its gradients."""

import math

import pytest
import torch
from torch.nn import functional as F

from nanogpt.models.layers import costs
from nanogpt.models.layers import cross_entropy as module
from nanogpt.models.layers.cross_entropy import chunked_cross_entropy, cross_entropy


def made(ignored):
    torch.manual_seed(3)
    targets = torch.randint(50, (37,))
    targets[torch.arange(37) % 5 == 0] = -1 if ignored else 0
    return torch.randn(37, 8, dtype=torch.float64), torch.randn(50, 8, dtype=torch.float64), targets


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("cap", [0.0, 3.0])
@pytest.mark.parametrize("ignored", [False, True])
@pytest.mark.parametrize(("rows", "numbers"), [(1024, 1 << 22), (10, 1 << 22), (10, 200), (1024, 1)])
def test_it_is_torchs_in_pieces_of_every_size(monkeypatch, ignored, rows, numbers, cap, smoothing):
    monkeypatch.setattr(module, "CHUNK_ROWS", rows)
    monkeypatch.setattr(module, "CHUNK_LOGITS", numbers)
    x, weight, targets = made(ignored)
    logits = x.requires_grad_() @ weight.requires_grad_().t()
    capped = cap * torch.tanh(logits / cap) if cap else logits
    theirs = F.cross_entropy(capped, targets, ignore_index=-1, label_smoothing=smoothing)
    ours = cross_entropy(x[None], weight, targets[None], cap, smoothing)
    torch.testing.assert_close(ours, theirs)
    for scale in (1, 0.25):
        gradients = (torch.autograd.grad(scale * loss, (x, weight), retain_graph=True) for loss in (ours, theirs))
        for mine, wanted in zip(*gradients, strict=True):
            torch.testing.assert_close(mine, wanted)


@pytest.mark.parametrize("smoothing", [0.0, 0.3])
def test_in_16_bits_it_is_near(smoothing):
    x, weight, targets = made(ignored=True)
    exact = chunked_cross_entropy(x, weight, targets, 0.0, smoothing, needs_grad=True)
    near = chunked_cross_entropy(x.bfloat16(), weight.bfloat16(), targets, 0.0, smoothing, needs_grad=True)
    assert near[0].dtype == torch.float32
    for ours, wanted in zip(near, exact, strict=True):
        assert ours is not None
        assert wanted is not None
        assert (ours - wanted).norm() < 0.02 * wanted.norm()


def test_without_gradients_there_are_none():
    x, weight, targets = made(ignored=False)
    loss, grad_x, grad_weight = chunked_cross_entropy(x, weight, targets, 0.0, 0.0, needs_grad=False)
    torch.testing.assert_close(loss, F.cross_entropy(x @ weight.t(), targets))
    assert grad_x is None
    assert grad_weight is None


def test_a_frozen_head_has_no_gradient_and_none_is_computed():
    x, weight, targets = made(ignored=True)
    (wanted,) = torch.autograd.grad(cross_entropy(x.requires_grad_()[None], weight.requires_grad_(), targets[None]), x)
    loss = cross_entropy(x[None], weight.detach(), targets[None])
    assert loss.grad_fn is not None
    (grad_x,) = torch.autograd.grad(2 * loss, x)
    torch.testing.assert_close(grad_x, 2 * wanted)
    x, weight = x.detach(), weight.detach()
    assert chunked_cross_entropy(x, weight, targets, 0.0, 0.0, needs_grad=True, is_frozen=True)[2] is None


def test_the_loss_of_what_is_all_but_impossible_is_finite_and_of_what_is_no_number_is_none():
    weight, targets = torch.tensor([[1.0], [-1.0]]), torch.tensor([1, 0])
    x = torch.tensor([[300.0], [300.0]])
    assert chunked_cross_entropy(x, weight, targets, 0.0, 0.0, needs_grad=False)[0] == 300
    assert math.isnan(chunked_cross_entropy(x * math.nan, weight, targets, 0.0, 0.0, needs_grad=False)[0])
    assert math.isnan(chunked_cross_entropy(x, weight, targets * 0 - 1, 0.0, 0.0, needs_grad=False)[0])


def test_the_estimate_of_memory_knows_the_pieces():
    assert (costs.CHUNK_ROWS, costs.CHUNK_LOGITS) == (module.CHUNK_ROWS, module.CHUNK_LOGITS)
