"""Products with copies of the weights, in oneDNN's layout or in bfloat16, are near the plain ones, in every model."""

import dataclasses
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from nanogpt.config import ARCHITECTURE, SamplingConfig, architecture_from, names
from nanogpt.errors import UserError
from nanogpt.events import Token
from nanogpt.hardware import cpu_has_bfloat16
from nanogpt.sampling import decoding, generate, packed_linear
from nanogpt.sampling.decoding import decode
from nanogpt.sampling.packed_linear import PackedLinears, can_pack, can_quantize, resolve_sampling_dtype
from tests import architectures

# Each factor and the product are rounded to 8 bits: half a unit in the last place of each.
BFLOAT16: dict[str, Any] = {"rtol": 3 * 2.0**-9, "atol": 0.1}


@pytest.fixture
def layout(model):
    return can_pack(model, "float32")  # a torch without oneDNN stays with its own


@pytest.fixture
def new_large(tokenizer):
    """Makes a small model that adds something everywhere, also where a fresh one has zeros."""

    def make(architecture, **changes):
        torch.manual_seed(0)
        shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 16, "vocab_size": tokenizer.vocab_size}
        model = architectures.build(architecture=architecture, bias=True, **shape | changes).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if not parameter.any():
                    parameter.normal_(std=0.2)
        return model

    return make


@torch.inference_mode()
def test_a_linear_layer_gives_the_same(layout):
    packed = PackedLinears(3, torch.float32, layout)
    for bias in (None, torch.randn(70)):
        weight = torch.randn(70, 48)
        for rows in (3, 50):
            x = torch.randn(rows, 1, 48)
            with packed:
                y = F.linear(x, weight, bias)
            torch.testing.assert_close(y, F.linear(x, weight, bias), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("laid_out", [False, True])
@torch.inference_mode()
def test_a_linear_layer_gives_nearly_the_same_in_bfloat16(model, laid_out):
    layout = laid_out and can_pack(model, "bfloat16")
    packed, weight, bias = PackedLinears(1, torch.bfloat16, layout), torch.randn(70, 48), torch.randn(70)
    for shape in ((48,), (1, 1, 48), (3, 5, 48)):
        x = torch.randn(shape)
        with packed:
            y = F.linear(x, weight, bias)
        assert y.dtype == torch.float32
        torch.testing.assert_close(y, F.linear(x, weight, bias), **BFLOAT16)
        assert not torch.equal(y, F.linear(x, weight, bias))


@pytest.mark.parametrize("width", [384, 1536])
@torch.inference_mode()
def test_in_bfloat16_a_vector_has_the_same_product_alone_and_among_others(model, width):
    """To the bit where the CPU has the format; elsewhere up to rounding."""
    exact = cpu_has_bfloat16() and can_pack(model, "bfloat16")
    product = PackedLinears(1, torch.bfloat16, can_pack(model, "bfloat16")).linear(torch.randn(300, width))
    x = torch.randn(40, width)
    together = product(x)
    alone = torch.stack([product(row) for row in x])
    torch.testing.assert_close(alone, together, **{"rtol": 0, "atol": 0} if exact else BFLOAT16)


@torch.inference_mode()
def test_weights_that_are_gone_are_not_taken_for_new_ones(layout):
    packed, x = PackedLinears(3, torch.float32, layout), torch.randn(3, 48)
    with packed:
        for _ in range(20):
            weight = torch.randn(70, 48)
            torch.testing.assert_close(F.linear(x, weight), x @ weight.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", names(ARCHITECTURE))
@pytest.mark.parametrize("alike", [False, True])
@torch.inference_mode()
def test_several_samples_of_a_large_model_have_the_logits_of_the_plain_one(new_large, architecture, alike, monkeypatch):
    model, prompt = new_large(architecture), np.random.default_rng(0).integers(28, size=(1 if alike else 3, 5))
    prompt = prompt.repeat(3 // len(prompt), 0)
    plain, steps = [], decode(model, prompt, use_cache=False)
    logits = next(steps)
    for _ in range(30):
        tokens = (logits.argmax(1) + np.arange(3)) % 28  # another for each
        plain.append((logits, tokens))
        logits = steps.send(tokens)
    monkeypatch.setattr(decoding, "MIN_WEIGHTS_FOR_PACKING", 0)
    steps = decode(model, prompt)
    logits = next(steps)
    for expected, tokens in plain:
        torch.testing.assert_close(torch.from_numpy(logits), torch.from_numpy(expected), rtol=1e-4, atol=1e-3)
        logits = steps.send(tokens)


def test_automatic_is_bfloat16_for_a_large_model_on_a_cpu_that_has_it(new_large, layout, monkeypatch):
    model = new_large("gpt2")
    monkeypatch.setattr(packed_linear, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr(packed_linear, "can_pack", lambda *_: True)
    dtype, why = resolve_sampling_dtype("auto", model)
    assert dtype == "float32"
    assert "20 million" in why
    monkeypatch.setattr(packed_linear, "MIN_WEIGHTS_FOR_BFLOAT16", model.config.flops_per_token() // 6)
    assert resolve_sampling_dtype("auto", model)[0] == "bfloat16"
    monkeypatch.setattr(packed_linear, "cpu_has_bfloat16", lambda: False)
    assert resolve_sampling_dtype("auto", model)[0] == "float32"
    assert resolve_sampling_dtype("bfloat16", model) == ("bfloat16", "as asked")


def written(model, tokenizer, dtype, use_cache=True, num_samples=1, **knobs):
    config = SamplingConfig(max_new_tokens=40, **{"temperature": 1.0} | knobs)
    events = generate(model, tokenizer, "ab", config, dtype=dtype, use_cache=use_cache, num_samples=num_samples)
    return [event for event in events if isinstance(event, Token)]


@pytest.mark.parametrize("architecture", architectures.TRAINED)
@pytest.mark.parametrize(("num_samples", "use_cache"), [(1, True), (3, False)])
def test_bfloat16_has_nearly_the_probabilities_of_float32(new_large, tokenizer, architecture, num_samples, use_cache):
    """Over the same tokens, which both choose as long as they agree; past the window of 16 too."""
    model = new_large(architecture)
    exact, rounded = (
        written(model, tokenizer, dtype, use_cache, num_samples, top_k=1) for dtype in ("float32", "bfloat16")
    )
    assert [token.id for token in exact] == [token.id for token in rounded]
    assert [token.probability for token in rounded] == pytest.approx([token.probability for token in exact], abs=0.02)
    assert [token.probability for token in rounded] != [token.probability for token in exact]


@pytest.mark.parametrize("architecture", names(ARCHITECTURE))
def test_in_bfloat16_the_same_seed_writes_the_same_text(new_large, tokenizer, architecture):
    model = new_large(architecture)
    first, again = (written(model, tokenizer, "bfloat16", num_samples=2) for _ in range(2))
    assert [dataclasses.replace(token, time=0) for token in first] == [
        dataclasses.replace(token, time=0) for token in again
    ]


def test_weights_that_have_changed_since_the_text_before_count(new_large, tokenizer):
    """As between two samples of one training; its weights stay in float32 and are only read."""
    model = new_large("gpt2").train()
    before = written(model, tokenizer, "bfloat16")
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    with torch.no_grad():
        model.h[1].mlp.c_fc.weight.mul_(-1)
    after = written(model, tokenizer, "bfloat16")
    assert [token.probability for token in after] != [token.probability for token in before]
    assert after[0].probability == pytest.approx(written(model, tokenizer, "float32")[0].probability, abs=0.02)


@torch.inference_mode()
def test_counts_have_no_int8_whatever_the_machine_can_do():
    config = architecture_from({"architecture": "ngram", "block_size": 8, "vocab_size": 4})
    with pytest.raises(UserError, match="ngram has no weights to round; use float32"):
        resolve_sampling_dtype("int8", config.build())


def test_a_linear_layer_in_int8_is_off_by_no_more_than_its_rounding(model):
    if not can_quantize(model):
        pytest.skip("this torch has no int8")
    torch.manual_seed(0)
    weight, bias, x = torch.randn(70, 48), torch.randn(70), 3 * torch.randn(5, 1, 48) + 1
    weight[3] *= 1000
    weight[4] = 0
    y = PackedLinears(5, torch.int8, False).linear(weight, bias, "gelu")
    plain = PackedLinears(5, torch.int8, False).linear(weight, bias)
    # half a unit of each weight, of 127 to its row's largest; a unit of x, of 127 between its least and greatest
    of_weight = weight.abs().amax(1, keepdim=True) / 254
    of_x = (x.max().clamp(min=0) - x.min().clamp(max=0)) / 127
    bound = F.linear(x.abs() + of_x, of_weight.expand(70, 48)) + of_x * weight.abs().sum(1)
    error = (plain(x) - F.linear(x, weight, bias)).abs()
    assert (error <= bound + 1e-5).all()
    assert error.max() > 0
    assert (plain(x)[..., 4] == bias[4]).all()
    torch.testing.assert_close(y(x), F.gelu(plain(x), approximate="tanh"))
    broken = weight.clone()
    broken[0, 0] = torch.nan
    assert PackedLinears(5, torch.int8, False).linear(broken)(x).isnan().any()  # it is not hidden


def test_int8_is_taken_only_when_it_is_asked_for_and_refused_elsewhere(model, monkeypatch):
    assert resolve_sampling_dtype("auto", model)[0] != "int8"
    if can_quantize(model):
        assert resolve_sampling_dtype("int8", model) == ("int8", "as asked")
    monkeypatch.setattr(packed_linear, "can_quantize", lambda model: False)
    with pytest.raises(UserError, match="dtype=int8: not with this build of torch"):
        resolve_sampling_dtype("int8", model)


@pytest.mark.parametrize("architecture", ["gpt2", "modern", "lstm"])
def test_a_model_in_int8_gives_nearly_the_same_logits(new_large, architecture):
    model = new_large(architecture)
    if not can_quantize(model):
        pytest.skip("this torch has no int8")
    prompt = np.array([[1, 2, 3, 4], [4, 3, 2, 1]])
    exact, rounded = (next(decode(model, prompt, dtype=dtype)) for dtype in ("float32", "int8"))
    assert 0 < np.linalg.norm(rounded - exact) < 0.2 * np.linalg.norm(exact)
