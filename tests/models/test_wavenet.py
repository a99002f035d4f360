"""WaveNet against the formulas of its paper, written out in numpy."""

from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from nanogpt.models import wavenet
from nanogpt.models.wavenet.model import Cache
from tests.architectures import build, shape
from tests.narrowing import expect

Array = NDArray[np.floating[Any]]


def test_the_study_configuration_has_234_135_354_parameters() -> None:
    """And not 292,855,610, as with the dilation given for the kernel size."""
    config = shape(architecture="wavenet", n_layer=4, kernel_size=2, n_embd=2048, block_size=16, vocab_size=30_522)
    assert config.n_parameters() == 234_135_354
    assert expect(wavenet.Config, config).receptive_field == 17


@torch.inference_mode()
def test_a_prediction_depends_on_the_receptive_field_and_on_nothing_before_it() -> None:
    torch.manual_seed(1)
    model = build(architecture="wavenet", n_layer=2, kernel_size=3, n_embd=16, block_size=32, vocab_size=11)
    assert expect(wavenet.Config, model.config).receptive_field == 9  # 1 + 2·(1 + 1 + 2)
    ids = torch.randint(11, (1, 20))
    before = expect(torch.Tensor, model(ids)[0])
    for back in range(20):
        changed = ids.clone()
        changed[0, -1 - back] = (changed[0, -1 - back] + 1) % 11
        assert torch.equal(expect(torch.Tensor, model(changed)[0]), before) == (back >= 9)


def convolved(x: Array, weight: Array, bias: Array, dilation: int, k: int) -> Array:
    """A causal convolution of x (T, C) by its definition: y[t] = Σ_j W_j·x[t - (k - 1 - j)·dilation] + b."""
    T, C = x.shape
    y = np.tile(bias, (T, 1))
    for t in range(T):
        for j in range(k):
            s = t - (k - 1 - j) * dilation
            if s >= 0:
                y[t] += weight[:, j * C : (j + 1) * C] @ x[s]
    return y


@pytest.mark.parametrize(("n_layer", "k", "T"), [(3, 2, 16), (6, 3, 4), (2, 2, 1)])
@torch.inference_mode()
def test_it_equals_the_formula_of_the_paper(n_layer: int, k: int, T: int) -> None:
    """z = tanh(W_f * x) ⊙ σ(W_g * x), equation 2, with dilations 1, 2, 4, …, also such as no window is as long as."""
    torch.manual_seed(1)
    C = 12
    model = build(architecture="wavenet", n_layer=n_layer, kernel_size=k, n_embd=C, block_size=T, vocab_size=11)
    w = {name: value.double().numpy() for name, value in model.state_dict().items()}
    ids = torch.randint(11, (1, T))
    x = convolved(w["wte.weight"][ids[0].numpy()], w["first.linear.weight"], w["first.linear.bias"], 1, k)
    skips = np.zeros_like(x)
    for layer in range(n_layer):
        at = f"layers.{layer}."
        both, bias = w[at + "filter_gate.linear.weight"], w[at + "filter_gate.linear.bias"]
        filtered = convolved(x, both[:C], bias[:C], 2**layer, k)
        gate = convolved(x, both[C:], bias[C:], 2**layer, k)
        z = np.tanh(filtered) / (1 + np.exp(-gate))
        skips += z @ w[at + "skip.weight"].T + w[at + "skip.bias"]
        x = x + z @ w[at + "residual.weight"].T + w[at + "residual.bias"]
    expected = np.maximum(skips + x, 0) @ w["head.weight"].T + w["head.bias"]
    np.testing.assert_allclose(model.logits(ids)[0].numpy(), expected, rtol=0, atol=1e-4)
    cache = model.eval().new_cache(1)
    steps = [expect(torch.Tensor, model(ids[:, [position]], cache=cache)[0])[0, 0] for position in range(T)]
    np.testing.assert_allclose(torch.stack(steps).numpy(), expected, rtol=0, atol=1e-4)


def test_a_cache_has_no_more_positions_than_a_window() -> None:
    """The dilation of the last of 20 layers is half a million."""
    model = build(architecture="wavenet", n_layer=20, n_embd=4, block_size=4, vocab_size=11)
    cache = expect(Cache, model.new_cache(1))
    assert max(recent.size(1) for recent in cache.recent) <= 4
