"""Products with weights in oneDNN's own layout are those of the plain ones, in every architecture."""

from contextlib import nullcontext

import pytest
import torch
from torch.nn import functional as F

from nanogpt import models
from nanogpt.config import ModelConfig
from nanogpt.sampling import decoding
from nanogpt.sampling.decoding import decode
from nanogpt.sampling.packing import Packed, packs


@pytest.fixture
def packed(model):
    return Packed(rows=3) if packs(model) else nullcontext()  # a torch without oneDNN stays with its own


@torch.inference_mode()
def test_a_linear_layer_gives_the_same(packed):
    for bias in (None, torch.randn(70)):
        weight = torch.randn(70, 48)
        for rows in (3, 50):
            x = torch.randn(rows, 1, 48)
            with packed:
                y = F.linear(x, weight, bias)
            torch.testing.assert_close(y, F.linear(x, weight, bias), rtol=1e-4, atol=1e-4)


@torch.inference_mode()
def test_weights_that_are_gone_are_not_taken_for_new_ones(packed):
    x = torch.randn(3, 48)
    with packed:
        for _ in range(20):
            weight = torch.randn(70, 48)
            torch.testing.assert_close(F.linear(x, weight), x @ weight.T, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("architecture", models.names())
@torch.inference_mode()
def test_several_samples_of_a_large_model_have_the_logits_of_the_plain_one(architecture, monkeypatch, packed):
    torch.manual_seed(0)
    shape = {"n_layer": 2, "n_head": 2, "n_embd": 32, "block_size": 16, "vocab_size": 28, "bias": True}
    model = models.create(ModelConfig(architecture=architecture, **shape)).eval()
    for parameter in model.parameters():
        if not parameter.any():
            parameter.normal_(std=0.2)
    prompt = torch.randint(28, (3, 5)).numpy()
    plain, steps = [], decode(model, prompt, use_cache=False)
    logits = next(steps)
    for _ in range(30):
        plain.append((logits, logits.argmax(1)))
        logits = steps.send(logits.argmax(1))
    monkeypatch.setattr(decoding, "WORTH_PACKING", 0)
    steps = decode(model, prompt)
    logits = next(steps)
    for expected, tokens in plain:
        torch.testing.assert_close(torch.from_numpy(logits), torch.from_numpy(expected), rtol=1e-4, atol=1e-3)
        logits = steps.send(tokens)
