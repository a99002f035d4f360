"""GPT-2's training backend for a CPU is the readable model: value, gradients, dropout's masks and mean."""

import pytest
import torch

from nanogpt.models.flat_parameters import FlatParameters
from nanogpt.models.gpt2 import cpu_block as block
from nanogpt.models.gpt2 import cpu_training
from nanogpt.models.gpt2.cpu_training import CpuTraining
from tests import architectures


def model_and_batch(bias, dropout=0.0, dtype=torch.float32, width=24):
    """A readable model whose weights are all random; ids and targets (3, 9), some targets not counting."""
    torch.manual_seed(6)
    shape = {"n_layer": 2, "n_head": 3, "n_embd": width, "block_size": 10, "vocab_size": 7}
    model = architectures.build(**shape, bias=bias, dropout=dropout).to(dtype)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, 0.3)
    return model, torch.randint(0, 7, (3, 9)), torch.randint(-1, 7, (3, 9))


def fused_loss(model, ids, targets, dtype, flat=None):
    return CpuTraining(model, dtype, flat)(ids, targets)[1]


def in_groups(model):
    """The parameters in the order of the groups that decay and do not."""
    return sorted(model.parameters(), key=lambda parameter: parameter.dim() < 2)


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("flat", [False, True])
@pytest.mark.parametrize("bias", [False, True])
def test_it_is_the_readable_one(bias, flat, smoothing):
    model, ids, targets = model_and_batch(bias)
    model.label_smoothing = smoothing
    memory = FlatParameters(in_groups(model)) if flat else None
    readable, fused = model(ids, targets)[1], fused_loss(model, ids, targets, torch.float32, memory)
    torch.testing.assert_close(fused, readable)
    weights = list(model.parameters())
    for ours, theirs in zip(*(torch.autograd.grad(loss, weights) for loss in (fused, readable)), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-6)


def test_gradients_scale_with_the_loss_and_add_up():
    model, ids, targets = model_and_batch(bias=True)
    weights = list(model.parameters())
    whole = torch.autograd.grad(fused_loss(model, ids, targets, torch.float32), weights)
    for _ in range(2):
        (fused_loss(model, ids, targets, torch.float32) / 4).backward()
    for weight, gradient in zip(weights, whole, strict=True):
        torch.testing.assert_close(weight.grad, gradient / 2)


def test_gradients_of_all_that_moves_alike_are_one_piece_of_memory():
    model, ids, targets = model_and_batch(bias=True)
    parameters = in_groups(model)
    flat = FlatParameters(parameters)
    backend = CpuTraining(model, torch.float32, flat)
    for _ in range(2):  # a second micro-batch is added to the first
        _, loss = backend(ids, targets)
        assert loss is not None
        loss.backward()
        gradients = flat.gradients_of(parameters)
        assert gradients is not None
        assert torch.equal(gradients, torch.cat([parameter.grad.flatten() for parameter in parameters]))


@pytest.mark.parametrize("bias", [False, True])
def test_with_dropout_it_has_the_gradients_of_its_own_masks(bias):
    model, ids, targets = model_and_batch(bias, dropout=0.3, dtype=torch.float64, width=6)
    weights, state = list(model.parameters()), torch.get_rng_state()
    directions = [torch.randn_like(weight) for weight in weights]

    def loss(step=0.0):
        torch.set_rng_state(state)
        with torch.no_grad():
            torch._foreach_add_(weights, directions, alpha=step)
        value = fused_loss(model, ids, targets, torch.float64)
        with torch.no_grad():
            torch._foreach_add_(weights, directions, alpha=-step)
        return value

    gradients = torch.autograd.grad(loss(), weights)
    slope = sum((gradient * direction).sum() for gradient, direction in zip(gradients, directions, strict=True))
    torch.testing.assert_close((loss(1e-6) - loss(-1e-6)) / 2e-6, slope, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("silent", ["attn", "mlp"])
def test_a_block_with_dropout_gives_the_readable_one_on_average(silent):
    """With one half silent the result is linear in all masks, so that its mean is what no dropout gives."""
    readable = model_and_batch(bias=False)[0].h[0]
    with torch.no_grad():
        getattr(readable, silent).c_proj.weight.zero_()
        attn, mlp = readable.attn, readable.mlp
        layers = (readable.ln_1, attn.c_attn, attn.c_proj, readable.ln_2, mlp.c_fc, mlp.c_proj)
        weights = block.Weights(*(weight for layer in layers for weight in (layer.weight, layer.bias)))
        x = torch.randn(2, 10, 24)
        branch = (readable(x) - x).view(20, 24)
        results = torch.stack([block.forward(x.view(20, 24), weights, 2, 3, 0.2)[0] for _ in range(500)])
    # twice √(0.2/0.8)/√500, and for two masks √2 of that
    assert (results.mean(0) - x.view(20, 24) - branch).norm() / branch.norm() < 0.08


def test_while_evaluating_nothing_is_dropped():
    model, ids, targets = model_and_batch(bias=False, dropout=0.5)
    with torch.no_grad():
        fused = fused_loss(model.eval(), ids, targets, torch.float32)
        torch.testing.assert_close(fused, model(ids, targets)[1])


def test_in_16_bits_it_comes_close_to_the_readable_one():
    model, ids, targets = model_and_batch(bias=False)
    half, readable = fused_loss(model, ids, targets, torch.bfloat16), model(ids, targets)[1]
    assert half.dtype == torch.float32
    assert abs(half - readable) < 0.01 * readable
    weights = list(model.parameters())
    for ours, theirs in zip(*(torch.autograd.grad(loss, weights) for loss in (half, readable)), strict=True):
        assert (ours - theirs).norm() < 0.05 * theirs.norm()


@pytest.mark.parametrize("flat", [False, True])
def test_gradients_converted_one_by_one_are_those_converted_at_once(flat, monkeypatch):
    model, ids, targets = model_and_batch(bias=True)
    memory = FlatParameters(in_groups(model)) if flat else None
    found = []
    for most in (cpu_training.CONVERTED_AT_ONCE, 0):
        monkeypatch.setattr(cpu_training, "CONVERTED_AT_ONCE", most)
        gradients = torch.autograd.grad(fused_loss(model, ids, targets, torch.bfloat16, memory), model.parameters())
        found.append([gradient.clone() for gradient in gradients])
    assert all(torch.equal(*pair) for pair in zip(*found, strict=True))


def test_it_is_chosen_for_16_bits_on_a_cpu_alone():
    model, _, _ = model_and_batch(bias=False)
    assert model.training_backend("cpu", torch.float32) is None
    assert model.training_backend("cuda", torch.bfloat16) is None
    assert model.training_backend("cpu", torch.bfloat16).name == "gpt2.cpu_training"
