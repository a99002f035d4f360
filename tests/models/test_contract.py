"""The contract of every architecture, on a small random model of each.

Which parts apply follows from the declared capabilities and settings of an architecture, never from its name.
"""

import math
from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nanogpt.config import ARCHITECTURE, component, component_settings, names
from nanogpt.errors import SettingError
from nanogpt.models.base import Cache
from nanogpt.sampling.decoding import decode
from nanogpt.training.snapshot import restore_weights
from tests import architectures

V, T = 61, 12
SHORTER = 9  # a cropped window, which an n-gram model of the longest order still fits
SHAPE = {"n_layer": 3, "n_head": 2, "n_embd": 32, "block_size": T, "vocab_size": V}


@pytest.fixture(params=names(ARCHITECTURE))
def architecture(request):
    return request.param


def capabilities(architecture):
    return component(ARCHITECTURE, architecture).capabilities


def having(capability):
    """Return a parametrization over the architectures with a capability."""
    able = [name for name in names(ARCHITECTURE) if getattr(capabilities(name), capability)]
    return pytest.mark.parametrize("architecture", able)


ALL = names(ARCHITECTURE)


def variants(of=ALL):
    """Return each architecture as it is, and with one change.

    A change is each switch turned, each other choice, each small count at its upper bound, and each count that is off
    (0) at 1.
    """
    found = []
    for name in of:
        own = [s for s in component_settings(ARCHITECTURE, name).values() if s.name not in ("architecture", *SHAPE)]
        switches = [{setting.name: not setting.default} for setting in own if setting.value_type is bool]
        choices = [{s.name: choice} for s in own for choice in s.choices if choice != s.default]
        counts = [{s.name: s.high} for s in own if s.value_type is int and s.high is not None and s.high <= 16]
        off = [{s.name: 1} for s in own if s.value_type is int and s.default == 0]
        found += [(name, changes) for changes in [{}, *switches, *choices, *counts, *off]]
    return pytest.mark.parametrize(("architecture", "changes"), found)


def small(architecture, **changes):
    torch.manual_seed(5)
    return architectures.build(architecture=architecture, **SHAPE | changes).eval()


def opinionated(model):
    """Make the weights large, also those that start at zero, so that each input of the model changes its logits.

    A counted model counts a text.
    """
    if model.config.capabilities.counted:
        text = some_ids(rows=1, length=20_000)[0].numpy()
        model.count(text, 0, len(text))
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() >= 2:
                parameter.mul_(8) if parameter.any() else parameter.normal_(std=0.2)
    return model


def assert_same_logits(found, expected):
    """To 1e-4, of the largest where they are large: without norms large weights make millions of them."""
    scale = expected.abs().max().clamp(min=1)
    torch.testing.assert_close(found / scale, expected / scale, rtol=1e-4, atol=1e-4)


def some_ids(rows=2, length=T):
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(3))


@variants(of=[name for name in ALL if capabilities(name).every_position])
@torch.inference_mode()
def test_a_later_token_changes_no_earlier_logits(architecture, changes):
    model, ids = opinionated(small(architecture, **changes)), some_ids()
    before = model.logits(ids)
    for position in range(1, T):
        changed = ids.clone()
        changed[:, position] = (changed[:, position] + 1) % V
        after = model.logits(changed)
        torch.testing.assert_close(after[:, :position], before[:, :position], rtol=0, atol=1e-5)
        assert (after[:, position] - before[:, position]).abs().amax() > 1e-2


@variants(of=[name for name in ALL if capabilities(name).cache])
@torch.inference_mode()
def test_any_chunks_through_the_cache_give_the_logits_of_one_pass(architecture, changes):
    model, ids = opinionated(small(architecture, **changes)), some_ids()
    whole = torch.cat([model(ids[:, :end])[0] for end in range(1, T + 1)], 1)  # (B, T, V)
    for chunks in ([1] * T, [5, 1, 4, 2], [1, T - 1], [T]):
        cache, end = model.new_cache(ids.size(0)), 0
        for chunk in chunks:
            logits, loss = model(ids[:, end : end + chunk], cache=cache)
            end += chunk
            assert loss is None
            assert cache.length == end
            assert_same_logits(logits, whole[:, end - 1 : end])


@torch.inference_mode()
def test_more_positions_than_the_window_are_refused(architecture):
    with pytest.raises(ValueError, match="block_size"):
        small(architecture)(some_ids(length=T + 1))


@having("cache")
@torch.inference_mode()
def test_more_positions_than_the_window_are_refused_by_the_cache(architecture):
    model = small(architecture)
    cache = model.new_cache(2)
    model(some_ids(), cache=cache)
    with pytest.raises(ValueError, match="block_size"):
        model(some_ids(length=1), cache=cache)


@having("cache")
def test_the_cache_of_another_architecture_is_refused(architecture):
    class OtherCache(Cache):
        length = 0

        def copy_from(self, single):
            raise NotImplementedError

    with pytest.raises(TypeError, match="OtherCache"):
        small(architecture)(some_ids(), cache=OtherCache())


@variants()
@torch.inference_mode()
def test_decoding_gives_the_logits_of_each_window(architecture, changes):
    """With whatever the architecture has: a cache, a backend, or neither."""
    model, ids = opinionated(small(architecture, **changes)), some_ids()
    steps = decode(model, ids[:, :1].numpy())
    logits = next(steps)
    for end in range(1, T):
        expected = model(ids[:, :end])[0][:, -1]  # (B, V)
        assert_same_logits(torch.from_numpy(logits), expected)
        logits = steps.send(ids[:, end].numpy())


@torch.inference_mode()
def test_a_decoding_backend_is_declared(architecture):
    model, able = small(architecture), capabilities(architecture)
    step = model.decoding_backend(model.new_cache(1)) if able.cache else None
    assert (step is not None) == able.decoding_backend


@having("every_position")
@torch.inference_mode()
def test_without_targets_only_the_last_position_is_returned(architecture):
    model, ids = small(architecture), some_ids()
    logits, _ = model(ids)
    assert logits.shape == (2, 1, V)
    torch.testing.assert_close(logits, model.logits(ids)[:, -1:])


@torch.inference_mode()
def test_a_fresh_model_knows_nothing(architecture):
    """The loss of a uniform guess is ln V; initial logits have a spread of some 0.02·√C, which adds half its square."""
    _, loss = small(architecture)(some_ids(rows=32), some_ids(rows=32).roll(-1, 1))
    assert loss.item() == pytest.approx(math.log(V), abs=0.1)


@having("every_position")
def test_targets_of_minus_one_do_not_count(architecture):
    model, ids = opinionated(small(architecture)), some_ids(rows=1)
    targets = ids.roll(-1, 1)
    masked = targets.clone()
    masked[:, 4:] = -1
    _, loss = model(ids, masked)
    _, loss_of_the_beginning = model(ids[:, :4], targets[:, :4])
    assert loss.item() == pytest.approx(loss_of_the_beginning.item(), rel=1e-5)


@pytest.mark.parametrize("architecture", [name for name in architectures.TRAINED if capabilities(name).every_position])
def test_targets_of_minus_one_have_no_gradient(architecture):
    model, ids = opinionated(small(architecture)), some_ids(rows=1)
    targets = ids.roll(-1, 1)
    masked = targets.clone()
    masked[:, 4:] = -1
    found = {}
    for name, loss in (("masked", model(ids, masked)[1]), ("shorter", model(ids[:, :4], targets[:, :4])[1])):
        found[name] = torch.autograd.grad(loss, list(model.parameters()), allow_unused=True, materialize_grads=True)
    torch.testing.assert_close(found["masked"], found["shorter"], rtol=1e-4, atol=1e-5)


@variants(of=architectures.TRAINED)
def test_gradients_reach_every_parameter(architecture, changes):
    model, ids = opinionated(small(architecture, **changes)).train(), some_ids()
    model(ids, ids.roll(-1, 1))[1].backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@variants()
def test_each_parameter_is_in_one_group_and_vectors_do_not_decay(architecture, changes):
    model = small(architecture, **changes)
    groups = model.parameter_groups()
    grouped = [id(parameter) for group in groups for parameter in group.parameters]
    assert sorted(grouped) == sorted(id(parameter) for parameter in model.parameters())
    for group in groups:
        for parameter in group.parameters:
            assert group.decay == (parameter.dim() >= 2)
            assert group.role == "vector" or parameter.dim() == 2


@variants()
def test_the_configuration_knows_the_number_of_parameters(architecture, changes):
    for more in ({}, {"n_layer": 1, "block_size": 40}):
        model = small(architecture, **changes, **more)
        assert model.config.n_parameters() == sum(p.numel() for p in model.parameters())


@having("every_position")
def test_the_configuration_knows_the_flops_of_a_training_step(architecture):
    """torch counts the matrix products of a forward pass; the backward pass has twice as many.

    torch counts only matrix products; other weights (short convolutions) are under 2 % here.
    """
    model, ids = small(architecture), some_ids(rows=1)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.logits(ids)
    assert model.config.flops_per_token() == pytest.approx(3 * counter.get_total_flops() / T, rel=0.02)


@variants(of=[name for name in ALL if capabilities(name).crop])
@torch.inference_mode()
def test_cropping_keeps_the_logits_of_windows_that_still_fit(architecture, changes):
    model, ids = opinionated(small(architecture, **changes)), some_ids(length=SHORTER)
    before = model(ids)[0]
    model.crop_block_size(SHORTER)
    assert model.config.block_size == SHORTER
    torch.testing.assert_close(model(ids)[0], before)
    with pytest.raises(ValueError, match="block_size"):
        model(some_ids(length=SHORTER + 1))
    if capabilities(architecture).cache:
        torch.testing.assert_close(model(ids, cache=model.new_cache(2))[0], before)


@pytest.mark.parametrize("architecture", [name for name in architectures.TRAINED if capabilities(name).crop])
def test_a_cropped_model_still_trains(architecture):
    model = small(architecture).train()
    model.crop_block_size(5)
    ids = some_ids(length=5)
    model(ids, ids.roll(-1, 1))[1].backward()
    assert all(parameter.requires_grad and parameter.grad is not None for parameter in model.parameters())


def test_cropping_to_a_longer_window_is_refused(architecture):
    with pytest.raises(SettingError, match=rf"block_size={T + 1}.*{T}"):
        small(architecture).crop_block_size(T + 1)


def test_an_architecture_that_cannot_be_cropped_says_so(architecture, monkeypatch):
    model = small(architecture)
    unable = replace(capabilities(architecture), crop=False)
    monkeypatch.setattr(component(ARCHITECTURE, architecture), "capabilities", unable)
    with pytest.raises(SettingError, match=rf"{architecture} cannot shorten its context; use block_size={T}"):
        model.crop_block_size(5)
    model.crop_block_size(T)


@having("label_smoothing")
def test_label_smoothing_is_torchs_and_in_training_only(architecture):
    model, ids = opinionated(small(architecture)), some_ids()
    plain = model(ids, ids)[1]
    model.label_smoothing = 0.1
    assert torch.equal(model(ids, ids)[1], plain)
    with torch.no_grad():
        uniform = -torch.log_softmax(logits_of_every_position(model, ids), -1).mean()
    torch.testing.assert_close(model.train()(ids, ids)[1], 0.9 * plain + 0.1 * uniform)


def logits_of_every_position(model, ids):
    """Return the logits (B, T, V), each from the window that ends there."""
    return torch.cat([model(ids[:, :end])[0] for end in range(1, ids.size(1) + 1)], 1)


WITH_DROPOUT = [name for name in names(ARCHITECTURE) if "dropout" in component_settings(ARCHITECTURE, name)]


@pytest.mark.parametrize("architecture", WITH_DROPOUT)
def test_dropout_acts_in_training_only(architecture):
    model, ids = opinionated(small(architecture, dropout=0.5)), some_ids()
    assert torch.equal(model(ids)[0], model(ids)[0])
    model.train()
    assert not torch.equal(model(ids)[0], model(ids)[0])


@having("counted")
@torch.inference_mode()
def test_parts_of_a_text_count_as_the_whole_and_a_stored_model_is_the_same(architecture):
    text, (whole, parts, stored) = some_ids(rows=1, length=3000)[0].numpy(), (small(architecture) for _ in range(3))
    whole.count(text, 0, 3000)
    ends = [0, 1, 3, 800, 801, 1500, 2999, 3000]
    for start, stop in pairwise(ends):
        parts.count(text, start, stop)
        if stop == 800:  # a checkpoint, which a resume reads
            restore_weights(stored, parts.state_dict(), "the checkpoint")
            parts, stored = stored, parts
    ids = some_ids()
    assert whole.n_parameters() == parts.n_parameters() > stored.n_parameters() > 0
    assert torch.equal(whole.logits(ids), parts.logits(ids))
    for name, tensor in whole.state_dict().items():
        assert torch.equal(tensor, parts.state_dict()[name])


@having("counted")
def test_a_counted_model_has_no_trainable_parameters(architecture):
    assert not [*small(architecture).parameters()]
    assert small(architecture).parameter_groups() == []


def test_an_unknown_architecture_is_refused_with_the_nearest_one():
    with pytest.raises(SettingError, match=r"gtp2.*Did you mean gpt2\?"):
        architectures.build(architecture="gtp2", vocab_size=V)
