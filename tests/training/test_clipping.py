"""The gradients' norm is bounded as torch's own function bounds it, whether they lie one behind another or not."""

import pytest
import torch

from nanogpt.models.flat_parameters import FlatParameters
from nanogpt.training.clipping import clip_factor, clip_gradients


@pytest.mark.parametrize("in_one_piece", [False, True])
@pytest.mark.parametrize("limit", [0.5, 100.0, float("inf")])
def test_it_clips_as_torchs_does_and_tells_the_norm_before(limit, in_one_piece):
    torch.manual_seed(2)
    gradients = [torch.randn(3, 4), torch.randn(5)]
    ours, theirs = ([torch.nn.Parameter(torch.zeros_like(g)) for g in gradients] for _ in range(2))
    for some in (ours, theirs):
        for weight, gradient in zip(some, gradients, strict=True):
            weight.grad = gradient.clone()
    flat = None
    if in_one_piece:
        flat = FlatParameters(ours)
        for weight in ours:
            weight.grad = None
        for weight, piece, gradient in zip(ours, flat.views_of(flat.new_gradients(), ours), gradients, strict=True):
            weight.grad = piece.copy_(gradient)
        assert flat.gradients_of(ours) is not None
    norm = clip_gradients(ours if in_one_piece else [*ours, torch.nn.Parameter(torch.zeros(2))], limit, flat)
    assert norm.item() == pytest.approx(torch.nn.utils.clip_grad_norm_(theirs, limit).item())
    for mine, other in zip(ours, theirs, strict=True):
        torch.testing.assert_close(mine.grad, other.grad)


def test_a_gradient_that_is_not_finite_gives_a_norm_that_is_not():
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([1.0, float("nan")])
    assert clip_gradients([weight], 1.0).isnan()


@pytest.mark.parametrize("limit", [0.5, 100.0])
def test_a_gpu_multiplies_by_what_torchs_function_multiplies_by(limit):
    weight = torch.nn.Parameter(torch.zeros(2))
    weight.grad = torch.tensor([3.0, 4.0])
    torch.nn.utils.clip_grad_norm_([weight], limit)
    torch.testing.assert_close(torch.tensor([3.0, 4.0]) * clip_factor(torch.tensor(5.0), limit), weight.grad)
