"""AdamW: the same as torch's."""

import copy
from typing import Any

import pytest
import torch

from nanogpt.models.flat_parameters import FlatParameters
from nanogpt.optimizers.adamw.optimizer import AdamW

SETTINGS: dict[str, Any] = {"lr": 0.01, "betas": (0.9, 0.99)}


def both(start):
    ours, theirs = torch.nn.Parameter(start.clone()), torch.nn.Parameter(start.clone())
    group = {"weight_decay": 0.1}
    return (
        (ours, AdamW([{"params": [ours], **group}], **SETTINGS)),
        (theirs, torch.optim.AdamW([{"params": [theirs], **group}], fused=True, **SETTINGS)),
    )


def advance(pair, gradients):
    weight, optimizer = pair
    for gradient in gradients:
        weight.grad = gradient.clone()
        optimizer.step()
        optimizer.zero_grad()


@pytest.mark.parametrize("shape", [(5,), (7, 3)])
def test_it_moves_as_torchs_does(shape):
    torch.manual_seed(1)
    ours, theirs = both(torch.randn(shape))
    gradients = torch.randn(4, *shape)
    advance(ours, gradients)
    advance(theirs, gradients)
    assert torch.equal(ours[0], theirs[0])


def test_it_goes_on_from_the_state_that_torchs_has_saved():
    torch.manual_seed(1)
    ours, theirs = both(torch.randn(3, 4))
    gradients = torch.randn(4, 3, 4)
    advance(theirs, gradients[:2])
    with torch.no_grad():
        ours[0].copy_(theirs[0])
    ours[1].load_state_dict(copy.deepcopy(theirs[1].state_dict()))
    advance(ours, gradients[2:])
    advance(theirs, gradients[2:])
    assert torch.equal(ours[0], theirs[0])


def in_one_piece(optimizer, weights, gradients):
    optimizer.zero_grad()
    pieces = optimizer.flat.views_of(optimizer.flat.new_gradients(), weights)
    for weight, piece, gradient in zip(weights, pieces, gradients, strict=True):
        weight.grad = piece.copy_(gradient)
    optimizer.step()


def test_what_lies_one_behind_another_moves_as_one_and_the_same_and_its_state_is_named_as_ever():
    torch.manual_seed(1)
    shapes = [(7, 3), (5,), (2, 2)]
    start = [torch.randn(shape) for shape in shapes]
    gradients = [[torch.randn(shape) for shape in shapes] for _ in range(4)]
    apart, together = ([torch.nn.Parameter(weight.clone()) for weight in start] for _ in range(2))
    flat = FlatParameters(together)
    theirs = torch.optim.AdamW([{"params": apart, "weight_decay": 0.1}], fused=True, **SETTINGS)
    ours = AdamW([{"params": together, "weight_decay": 0.1}], flat=flat, **SETTINGS)
    for step, each in enumerate(gradients):
        for weight, gradient in zip(apart, each, strict=True):
            weight.grad = gradient.clone()
        theirs.step()
        if step == 2:  # as a resume does
            saved = copy.deepcopy(ours.state_dict())
            assert saved["state"].keys() == theirs.state_dict()["state"].keys()
            assert {key: value.shape for key, value in saved["state"][0].items()} == {
                "step": (),
                "exp_avg": (7, 3),
                "exp_avg_sq": (7, 3),
            }
            ours = AdamW([{"params": together, "weight_decay": 0.1}], flat=flat, **SETTINGS)
            ours.load_state_dict(saved)
        in_one_piece(ours, together, each)
    assert ours.flat_state
    for mine, other in zip(together, apart, strict=True):
        torch.testing.assert_close(mine, other, rtol=1e-6, atol=1e-7)
    states = [optimizer.state_dict()["state"] for optimizer in (ours, theirs)]
    for number in range(3):
        for key, value in states[1][number].items():
            torch.testing.assert_close(states[0][number][key], value, rtol=1e-6, atol=1e-7)


def test_weights_in_one_piece_that_have_taken_different_steps_each_keep_their_count():
    weights = [torch.nn.Parameter(torch.ones(2)) for _ in range(2)]
    ours = AdamW([{"params": weights}], flat=FlatParameters(weights), **SETTINGS)
    weights[0].grad = torch.ones(2)
    ours.step()
    in_one_piece(ours, weights, [torch.ones(2)] * 2)
    in_one_piece(ours, weights, [torch.ones(2)] * 2)
    assert [state["step"].item() for state in ours.state.values()] == [3, 2]


def test_what_has_no_gradient_stays():
    weight = torch.nn.Parameter(torch.ones(3))
    AdamW([{"params": [weight], "weight_decay": 0.5}], **SETTINGS).step()
    assert torch.equal(weight.detach(), torch.ones(3))
