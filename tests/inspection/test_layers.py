"""The layers of every architecture, and their figures, beside the same figures computed by hand."""

import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from nanogpt.inspection.layers import dead_share, moments, norm, parameter_layers, probe, relative_entropy
from nanogpt.interop.huggingface import from_huggingface
from nanogpt.models.attention_recorder import attention_weights, recorded_attention
from tests import architectures
from tests.lazy import transformers

SMALL: dict[str, Any] = {"vocab_size": 65, "block_size": 16, "n_layer": 2, "n_head": 4, "n_embd": 32}


def new_model(**settings: Any) -> Any:
    torch.manual_seed(1)
    return architectures.build(**SMALL | settings).eval()


def ids(rows=2, length=16, vocab_size=65):
    return torch.randint(vocab_size, (rows, length), generator=torch.Generator().manual_seed(2))


@pytest.mark.parametrize("architecture", architectures.TRAINED)
def test_each_matrix_is_in_one_layer_and_a_probe_changes_nothing(architecture):
    torch.manual_seed(1)
    model = architectures.build(architecture=architecture, **SMALL).train()
    next(model.children()).eval()
    modes = [module.training for module in model.modules()]
    layers = parameter_layers(model)
    matrices = [p for p in model.parameters() if p.dim() > 1]
    found = [p for those in layers.values() for p in those if p.dim() > 1]
    assert sorted(map(id, found)) == sorted(map(id, matrices))
    state = torch.get_rng_state()
    about = probe(model, ids(length=model.config.block_size))
    assert about.keys() == layers.keys()
    assert any(each.std is not None for each in about.values())
    assert [module.training for module in model.modules()] == modes
    assert torch.equal(torch.get_rng_state(), state)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in model.modules())


@torch.no_grad()
def test_activations_are_those_of_the_models_own_layers():
    model = new_model(activation="relu")
    for parameter in model.parameters():
        parameter.mul_(5) if parameter.dim() == 2 else None
    block, x = model.h[0], model.drop(model.embed(ids(), 0))
    x = x + block.attn(block.ln_1(x))
    hidden = F.relu(block.mlp.c_fc(block.ln_2(x)))  # (B, T, 4·C)
    output = block.mlp.c_proj(hidden)
    about = probe(model, ids())["h.0.mlp"]
    dead = (hidden.flatten(0, 1).std(0, correction=0) <= 0.01 * hidden.square().mean().sqrt()).float().mean()
    assert about.dead_units == pytest.approx(float(dead), rel=1e-5)
    assert about.mean == pytest.approx(float(output.mean()), rel=1e-5, abs=1e-7)
    assert about.std == pytest.approx(float(output.std(correction=0)), rel=1e-5)
    z = (output - output.mean()) / output.std(correction=0)
    assert about.kurtosis == pytest.approx(float((z**4).mean()), rel=1e-4)
    assert sum(about.histogram) == output.numel()
    middle = len(about.histogram) // 2
    assert sum(about.histogram[middle:]) == int((z >= 0).sum())


@torch.no_grad()
def test_attention_is_that_of_transformers_on_the_same_weights(tmp_path):
    torch.manual_seed(11)
    shape: dict[str, Any] = {"vocab_size": 65, "n_positions": 16, "n_layer": 2, "n_head": 4, "n_embd": 32}
    config = transformers.GPT2Config(**shape, initializer_range=0.12)
    config._attn_implementation = "eager"
    theirs = transformers.GPT2LMHeadModel(config).eval()
    theirs.save_pretrained(tmp_path / "hf")
    expected = theirs(ids(), output_attentions=True).attentions
    ours, found = from_huggingface(tmp_path / "hf"), list[Tensor]()
    with recorded_attention(found.append):
        ours(ids())
    assert len(found) == len(expected) == 2
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, rtol=0, atol=1e-5)
    entropy = torch.special.entr(expected[1]).sum(-1)[:, :, 1:] / torch.arange(2, 17).log()  # of uniform attention
    layer = probe(ours, ids())["h.1.attn"]
    assert layer.attention_entropy == pytest.approx(entropy.mean((0, 2)).tolist(), rel=1e-4)


@pytest.mark.parametrize("positions", ["learned", "rotary", "alibi"])
@torch.no_grad()
def test_recorded_attention_gives_the_output_of_the_heads(positions):
    model, values = new_model(positions=positions, local_window=5), list[Tensor]()
    found: list[Tensor] = []
    attention = model.h[1].attn
    hook = attention.c_attn.register_forward_hook(lambda _m, _i, output: values.append(output.split(32, dim=2)[2]))
    inner = attention.c_proj.register_forward_pre_hook(lambda _m, given: values.append(given[0]))
    with recorded_attention(found.append):
        model(ids())
    hook.remove()
    inner.remove()
    v, y = values
    heads = found[1] @ v.view(2, 16, 4, 8).transpose(1, 2)  # (B, nh, T, hs)
    torch.testing.assert_close(heads.transpose(1, 2).reshape(2, 16, 32), y, rtol=0, atol=1e-6)


def test_nothing_is_recorded_of_another_thread_or_later():
    found: list[Tensor] = []
    q = torch.randn(1, 1, 3, 4)
    with recorded_attention(found.append):
        pass
    new_model()(ids())
    assert found == []
    assert attention_weights(q, q).sum(-1) == pytest.approx(1.0)


def test_entropy_is_0_for_one_token_and_1_for_all_alike():
    even = torch.ones(4, 4).tril()
    even = even / even.sum(1, keepdim=True)
    assert relative_entropy(torch.stack([even, torch.eye(4)])[None]).tolist() == pytest.approx([1.0, 0.0], abs=1e-6)


def test_a_unit_that_does_not_vary_is_dead():
    x = torch.randn(100, 4, generator=torch.Generator().manual_seed(1))
    x[:, 1], x[:, 2] = 0.0, 0.9
    assert dead_share(x) == 0.5
    assert dead_share(torch.zeros(100, 4)) == 1.0


def test_no_unit_of_an_untied_head_that_read_a_single_token_is_called_dead():
    model = new_model(architecture="modern")
    about = probe(model, ids(rows=1))  # all that a large window leaves
    assert about["head"].dead_units is None
    assert about["h.0.mlp"].dead_units == 0.0
    assert probe(model, ids(rows=4))["head"].dead_units == 0.0


def test_moments_of_numbers_that_are_all_equal():
    assert moments(torch.full((5,), 2.0)) == (2.0, 0.0, None, ())
    assert moments(torch.tensor([math.inf, 1.0]))[2:] == (None, ())


def test_the_norm_of_several_tensors_is_that_of_all_their_numbers():
    assert norm([torch.tensor([3.0]), torch.tensor([[4.0], [12.0]])]) == pytest.approx(13.0)
    assert norm([]) == 0.0


def test_a_model_within_a_model_has_layers_of_its_own():
    layers = parameter_layers(new_model(architecture="ensemble"))
    assert {"members.0.wte", "members.1.wte", "members.1.head", "members.1.h.0.attn"} <= layers.keys()
