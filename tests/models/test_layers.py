"""The parts that are faster on a CPU do what torch's own do: values, gradients, and dropout's statistics."""

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from nanogpt.models.layers.activations import relu_squared
from nanogpt.models.layers.attention import attention_mask, causal_attention
from nanogpt.models.layers.costs import QUERY_BLOCK
from nanogpt.models.layers.dropout import Dropout, RowDropout, dropout
from nanogpt.models.layers.gelu import gelu
from nanogpt.models.layers.positions import apply_rotary, rotary_angles
from nanogpt.models.modern.config import Config
from nanogpt.models.modern.model import ShortConvolution
from tests import architectures


def projections(dtype=torch.float32):
    """q, k, v as a model makes them: (2, 3, 10, 8) views of one (2, 10, 3·24)."""
    torch.manual_seed(1)
    whole = torch.randn(2, 10, 72).to(dtype).requires_grad_()
    return whole, [part.view(2, 10, 3, 8).transpose(1, 2) for part in whole.split(24, dim=2)]


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_attention_and_its_gradients_are_those_of_torch(dtype, tolerance):
    whole, (q, k, v) = projections(dtype)
    ours, theirs = causal_attention(q, k, v), F.scaled_dot_product_attention(q, k, v, is_causal=True)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    upstream = torch.randn_like(ours)
    gradients = [torch.autograd.grad(y, whole, upstream)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("T", [QUERY_BLOCK, QUERY_BLOCK + 1, 3 * QUERY_BLOCK - 7])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05)])
def test_a_long_window_has_the_attention_and_the_gradients_of_torch(T, masked, dtype, tolerance):
    torch.manual_seed(5)
    whole = torch.randn(2, T, 24).to(dtype).requires_grad_()
    q, k, v = (part.view(2, T, 2, 4).transpose(1, 2) for part in whole.split(8, dim=2))
    mask = attention_mask(0, T, whole.device, window=30, slopes=[0.5, 0.1]) if masked else None
    ours = causal_attention(q, k, v, mask=mask)
    theirs = F.scaled_dot_product_attention(q, k, v, None if mask is None else mask.to(dtype), is_causal=mask is None)
    torch.testing.assert_close(ours, theirs, rtol=tolerance, atol=tolerance)
    upstream = torch.randn_like(ours)
    gradients = [torch.autograd.grad(y, whole, upstream)[0] for y in (ours, theirs)]
    torch.testing.assert_close(*gradients, rtol=tolerance, atol=tolerance)


def test_dropout_in_a_long_window_has_the_gradients_of_its_own_masks():
    torch.manual_seed(6)
    T = QUERY_BLOCK + 60
    q, k = torch.randn(2, 1, 1, T, T, dtype=torch.float64).requires_grad_().unbind(0)
    v = torch.eye(T, dtype=torch.float64)[None, None].requires_grad_()
    dropped = causal_attention(q, k, v, 0.4)
    weights = ((q @ k.mT) / T**0.5 + torch.full((T, T), -torch.inf, dtype=q.dtype).triu(1)).softmax(-1)
    expected = weights * (dropped != 0).detach() * 256 / (256 - 102)
    torch.testing.assert_close(dropped, expected)
    upstream = torch.randn_like(dropped)
    gradients = [torch.autograd.grad((y * upstream).sum(), (q, k)) for y in (dropped, expected)]
    torch.testing.assert_close(*gradients)


def test_attention_with_dropout_has_the_gradients_of_its_own_masks():
    """With v the identity the output is the dropped weights themselves, which the definition then takes as given."""
    torch.manual_seed(2)
    q, k = torch.randn(2, 1, 2, 6, 6, dtype=torch.float64).requires_grad_().unbind(0)
    v = torch.eye(6, dtype=torch.float64).expand(1, 2, 6, 6).clone().requires_grad_()
    state = torch.get_rng_state()

    def attend(q, k, v):
        torch.set_rng_state(state)
        return causal_attention(q, k, v, 0.4)

    dropped = attend(q, k, v)
    weights = ((q @ k.mT) / 6**0.5 + torch.full((6, 6), -torch.inf).triu(1)).softmax(-1)
    kept = dropped != 0
    assert 0 < kept.sum() < weights.count_nonzero()
    torch.testing.assert_close(dropped, weights * kept * 256 / (256 - 102))
    assert torch.autograd.gradcheck(attend, (q, k, v))


def test_dropout_zeroes_as_many_as_it_says_and_keeps_the_mean():
    torch.manual_seed(3)
    y = dropout(torch.ones(1000, 1000), 0.2)
    assert y.eq(0).float().mean().item() == pytest.approx(51 / 256, abs=2e-3)  # five times the spread, √(0.16/10⁶)
    assert y.unique().tolist() == pytest.approx([0, 256 / 205])
    rows, columns = y.mean(0), y.mean(1)  # a pattern would show here: the spread of a mean is 0.5/√1000
    assert (rows - 1).abs().max() < 0.09
    assert (columns - 1).abs().max() < 0.09


def test_dropout_scales_the_gradient_by_the_same_mask():
    x = torch.randn(7, 9, requires_grad=True)
    y = dropout(x, 0.5)
    (gradient,) = torch.autograd.grad(y.sum(), x)
    torch.testing.assert_close(gradient * x, y)


def test_the_seed_alone_decides_what_is_dropped_and_each_call_drops_anew():
    def two():
        torch.manual_seed(4)
        return dropout(torch.ones(64), 0.5), dropout(torch.ones(64), 0.5)

    (first, second), again = two(), two()
    assert torch.equal(first, again[0])
    assert torch.equal(second, again[1])
    assert not torch.equal(first, second)


def test_nothing_is_dropped_while_evaluating_or_at_a_probability_of_zero():
    x = torch.randn(100)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0)(x), x)


@pytest.mark.parametrize(("dims", "rows"), [(1, 200), (2, 200 * 30)])
def test_whole_rows_are_dropped_and_the_others_enlarged_if_asked(dims, rows):
    torch.manual_seed(1)
    x = torch.ones(200, 30, 4)
    kept = RowDropout(0.25, dims, scaled=False)(x).reshape(rows, -1)
    assert set(kept.flatten().tolist()) == {0.0, 1.0}
    assert torch.equal(kept.amin(1), kept.amax(1))  # all of a row, or nothing
    assert kept.mean() == pytest.approx(0.75, abs=0.1)
    scaled = RowDropout(0.25, dims, scaled=True)
    assert scaled(x).unique().tolist() == pytest.approx([0.0, 1 / 0.75])
    assert torch.equal(scaled.eval()(x), x)


def test_gelu_in_bfloat16_is_the_tanh_form_within_its_rounding_and_in_float32_that_form_itself():
    x = torch.linspace(-8, 8, 10001)
    exact = F.gelu(x, approximate="tanh")
    assert torch.equal(gelu(x), exact)
    half = x.bfloat16().requires_grad_()
    exact_there = F.gelu(half.detach().float(), approximate="tanh")
    torch.testing.assert_close(gelu(half).float(), exact_there, rtol=2**-8, atol=5e-4)
    (gradient,) = torch.autograd.grad(gelu(half).sum(), half)
    there = half.detach().float().requires_grad_()
    (exact_gradient,) = torch.autograd.grad(F.gelu(there, approximate="tanh").sum(), there)
    torch.testing.assert_close(gradient.float(), exact_gradient, rtol=2**-8, atol=3e-3)


@pytest.mark.parametrize("setting", ["ngram_dropout", "token_replacement", "stochastic_depth"])
def test_modern_leaves_things_out_in_training_alone(setting):
    ids = torch.arange(64).view(2, 32)

    def passes(share):
        torch.manual_seed(3)
        model = architectures.build(
            architecture="modern", vocab_size=65, block_size=32, n_layer=2, n_embd=32, **{setting: share}
        )
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_()
        torch.manual_seed(4)
        return model.train().logits(ids), model.logits(ids), model.eval().logits(ids)

    first, second, evaluated = passes(0.5)
    assert torch.equal(first, passes(0.5)[0])  # the seed alone decides
    assert not torch.equal(first, second)
    assert torch.equal(evaluated, passes(0.0)[2])


def test_modern_divides_its_logits_by_the_temperature_except_while_training():
    ids, targets = torch.arange(64).view(2, 32), torch.arange(1, 65).view(2, 32)

    def build(**changes):
        torch.manual_seed(3)
        shape = {"vocab_size": 65, "block_size": 32, "n_layer": 2, "n_embd": 32}
        model = architectures.build(architecture="modern", **shape, **changes)
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.normal_(std=0.3)
        return model

    plain, scaled = build(), build(temperature_scaling=1.3)
    assert torch.equal(scaled.train()(ids, targets)[1], plain.train()(ids, targets)[1])
    cap = plain.config.logit_cap
    uncapped = cap * torch.atanh(plain.eval().logits(ids).double() / cap)
    expected = (cap * torch.tanh(uncapped / 1.3 / cap)).float()
    torch.testing.assert_close(scaled.eval().logits(ids), expected, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(scaled(ids)[0][:, 0], scaled.logits(ids)[:, -1])
    loss = F.cross_entropy(scaled.logits(ids).flatten(0, 1), targets.flatten())
    torch.testing.assert_close(scaled(ids, targets)[1], loss)
    assert loss < plain(ids, targets)[1]  # it is too sure of what it cannot know


def squared(x):
    return relu_squared(x), x


def rotated(x):
    return apply_rotary(x, *rotary_angles(3, x.size(1), x.size(-1), 100.0, x)), x


def rotated_heads(x):
    cos, sin = rotary_angles(3, x.size(1), 2, 100.0, x)
    return apply_rotary(x.unflatten(-1, (3, 2)).bfloat16(), cos[:, None], sin[:, None]), x


def convolved(x):
    layer = ShortConvolution(Config(n_embd=x.size(-1), n_head=1))
    layer.weight = nn.Parameter(torch.linspace(-1, 2, layer.weight.numel(), dtype=x.dtype).view_as(layer.weight))
    return layer(x), layer.weight


@pytest.mark.parametrize("T", [1, 3, 9])
@pytest.mark.parametrize(
    ("function", "tolerance"), [(squared, 1e-12), (rotated, 1e-12), (rotated_heads, 0.01), (convolved, 1e-12)]
)
def test_gradients_written_by_hand_are_those_of_autograd(function, tolerance, T, monkeypatch):
    torch.manual_seed(7)
    x = torch.randn(2, T, 6, dtype=torch.float64).requires_grad_()

    def result():
        y, other = function(x)
        upstream = torch.linspace(-1, 1, y.numel(), dtype=x.dtype).view_as(y)
        return y, torch.autograd.grad(y, (x, other), upstream)

    ours = result()
    monkeypatch.setattr("nanogpt.models.layers.cpu_gradients.applies", lambda _x: False)
    torch.testing.assert_close(ours, result(), rtol=tolerance, atol=tolerance)
