"""What every architecture promises, on a small random model of each."""

import math

import architectures
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nanogpt.config import ARCHITECTURE, names
from nanogpt.errors import SettingError

V, T = 61, 12


@pytest.fixture(params=names(ARCHITECTURE))
def architecture(request):
    return request.param


def small(architecture, **changes):
    torch.manual_seed(5)
    shape = {"n_layer": 3, "n_head": 2, "n_embd": 32, "block_size": T, "vocab_size": V}
    return architectures.build(architecture=architecture, **shape | changes).eval()


def opinionated(model):
    """Weights large enough that whatever a position sees, its logits show; also those that start at zero."""
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(8) if parameter.any() else parameter.normal_(std=0.2)
    return model


def some_ids(rows=2, length=T):
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(3))


@torch.inference_mode()
def test_a_later_token_changes_no_earlier_logits(architecture):
    model, ids = opinionated(small(architecture)), some_ids()
    before = model.logits(ids)
    for position in range(1, T):
        changed = ids.clone()
        changed[:, position] = (changed[:, position] + 1) % V
        after = model.logits(changed)
        torch.testing.assert_close(after[:, :position], before[:, :position], rtol=0, atol=1e-5)
        assert (after[:, position] - before[:, position]).abs().amax() > 1e-2


@pytest.mark.parametrize("bias", [False, True])
@torch.inference_mode()
def test_any_chunks_through_the_cache_give_the_logits_of_one_pass(architecture, bias):
    model, ids = opinionated(small(architecture, bias=bias)), some_ids()
    whole = model.logits(ids)
    for chunks in ([1] * T, [5, 1, 4, 2], [1, T - 1], [T]):
        cache, end = model.new_cache(ids.size(0)), 0
        for chunk in chunks:
            logits, loss = model(ids[:, end : end + chunk], cache=cache)
            end += chunk
            assert loss is None
            assert cache.length == end
            torch.testing.assert_close(logits, whole[:, end - 1 : end], rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_more_positions_than_the_window_are_refused(architecture):
    model = small(architecture)
    with pytest.raises(ValueError, match="block_size"):
        model(some_ids(length=T + 1))
    cache = model.new_cache(2)
    model(some_ids(), cache=cache)
    with pytest.raises(ValueError, match="block_size"):
        model(some_ids(length=1), cache=cache)


@torch.inference_mode()
def test_without_targets_the_last_position_alone_is_returned(architecture):
    model, ids = small(architecture), some_ids()
    logits, _ = model(ids)
    assert logits.shape == (2, 1, V)
    torch.testing.assert_close(logits, model.logits(ids)[:, -1:])


@torch.inference_mode()
def test_a_fresh_model_knows_nothing(architecture):
    """The loss of a uniform guess is ln V; initial logits have a spread of some 0.02·√C, which adds half its square."""
    _, loss = small(architecture)(some_ids(rows=32), some_ids(rows=32).roll(-1, 1))
    assert loss.item() == pytest.approx(math.log(V), abs=0.1)


def test_targets_of_minus_one_do_not_count(architecture):
    model, ids = opinionated(small(architecture)), some_ids(rows=1)
    targets = ids.roll(-1, 1)
    masked = targets.clone()
    masked[:, 4:] = -1
    _, loss = model(ids, masked)
    _, loss_of_the_beginning = model(ids[:, :4], targets[:, :4])
    assert loss.item() == pytest.approx(loss_of_the_beginning.item(), rel=1e-5)
    loss.backward()
    late = torch.autograd.grad(model(ids, targets)[1], model.parameters(), allow_unused=True)
    assert any(not torch.equal(a, b.grad) for a, b in zip(late, model.parameters(), strict=True))


@pytest.mark.parametrize("bias", [False, True])
def test_gradients_reach_every_parameter(architecture, bias):
    model, ids = opinionated(small(architecture, bias=bias)).train(), some_ids()
    model(ids, ids.roll(-1, 1))[1].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@pytest.mark.parametrize("bias", [False, True])
def test_each_parameter_is_in_one_group_and_vectors_do_not_decay(architecture, bias):
    model = small(architecture, bias=bias)
    groups = model.parameter_groups()
    grouped = [id(parameter) for group in groups for parameter in group.parameters]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    for group in groups:
        for parameter in group.parameters:
            assert group.decay == (parameter.dim() >= 2)
            assert group.role == "vector" or parameter.dim() == 2


@pytest.mark.parametrize("changes", [{}, {"bias": True}, {"n_layer": 1, "block_size": 40}, {"ngram": 4}])
def test_the_configuration_knows_the_number_of_parameters(architecture, changes):
    model = small(architecture, **changes)
    assert model.config.n_parameters() == model.n_parameters() == sum(p.numel() for p in model.parameters())


def test_the_configuration_knows_the_flops_of_a_training_step(architecture):
    """Counted by torch: the products of a forward pass, three times over for the backward pass's two.

    torch counts products of matrices alone; what else has weights (short convolutions) is under 2 % here.
    """
    model, ids = small(architecture), some_ids(rows=1)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.logits(ids)
    assert model.config.flops_per_token() == pytest.approx(3 * counter.get_total_flops() / T, rel=0.02)


@torch.inference_mode()
def test_cropping_keeps_the_logits_of_what_still_fits(architecture):
    model, ids = opinionated(small(architecture)), some_ids(length=5)
    before = model.logits(ids)
    model.crop_block_size(5)
    assert model.config.block_size == 5
    torch.testing.assert_close(model.logits(ids), before)
    with pytest.raises(ValueError, match="block_size"):
        model(some_ids(length=6))
    assert model(ids, cache=model.new_cache(2))[0].shape == (2, 1, V)


def test_a_cropped_model_still_trains(architecture):
    model = small(architecture).train()
    model.crop_block_size(5)
    ids = some_ids(length=5)
    model(ids, ids.roll(-1, 1))[1].backward()
    assert all(parameter.requires_grad and parameter.grad is not None for parameter in model.parameters())


def test_cropping_to_more_than_there_is_is_refused(architecture):
    with pytest.raises(SettingError, match=rf"block_size={T + 1}.*{T}"):
        small(architecture).crop_block_size(T + 1)


def test_dropout_acts_in_training_only(architecture):
    model, ids = opinionated(small(architecture, dropout=0.5)), some_ids()
    assert torch.equal(model.logits(ids), model.logits(ids))
    model.train()
    assert not torch.equal(model.logits(ids), model.logits(ids))


def test_an_unknown_architecture_is_refused_with_the_nearest_one():
    with pytest.raises(SettingError, match=r"gtp2.*Did you mean gpt2\?"):
        architectures.build(architecture="gtp2", vocab_size=V)
