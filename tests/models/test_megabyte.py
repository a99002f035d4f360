"""MEGABYTE against the equations of its paper, written out position by position in numpy."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch.utils.flop_counter import FlopCounterMode

from nanogpt.config import resolve
from nanogpt.errors import SettingError
from nanogpt.models import megabyte
from nanogpt.models.base import LanguageModel
from nanogpt.sampling.decoding import decode
from tests.architectures import build, shape
from tests.narrowing import expect

Array = NDArray[np.floating[Any]]
Weights = dict[str, Array]

V, T = 19, 22
SHAPE = {
    "architecture": "megabyte",
    "n_layer": 2,
    "n_head": 2,
    "n_embd": 24,
    "local_n_layer": 2,
    "local_n_head": 4,
    "local_n_embd": 16,
    "block_size": T,
    "vocab_size": V,
}


def megabyte_model(**changes: Any) -> LanguageModel:
    """Return a model whose weights are large enough that each of them shows in the logits."""
    torch.manual_seed(1)
    model = build(**SHAPE | changes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(6) if parameter.dim() == 2 else parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def some_ids(rows: int = 1, length: int = T) -> torch.Tensor:
    return torch.randint(V, (rows, length), generator=torch.Generator().manual_seed(3))


def normalized(x: Array, weight: Array) -> Array:
    y: Array = weight * (x - x.mean()) / np.sqrt(x.var() + 1e-5)
    return y


def gelu(x: Array) -> Array:
    y: Array = x / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))
    return y


def transformed(inputs: list[Array], w: Weights, name: str, n_layer: int, n_head: int) -> list[Array]:
    """A causal transformer over vectors (C), one position after the other."""
    xs = list(inputs)
    for layer in range(n_layer):
        at = f"{name}.h.{layer}."
        queries, keys, values = [], [], []
        for x in xs:
            q, k, v = np.split(w[at + "attn.c_attn.weight"] @ normalized(x, w[at + "ln_1.weight"]), 3)
            queries.append(np.split(q, n_head))
            keys.append(np.split(k, n_head))
            values.append(np.split(v, n_head))
        for i, x in enumerate(xs):
            heads = []
            for head in range(n_head):
                scores = [queries[i][head] @ keys[j][head] / np.sqrt(len(keys[j][head])) for j in range(i + 1)]
                weights = np.exp(np.array(scores) - max(scores))
                heads.append(sum(p * values[j][head] for j, p in enumerate(weights / weights.sum())))
            x = x + w[at + "attn.c_proj.weight"] @ np.concatenate(heads)
            hidden = gelu(w[at + "mlp.c_fc.weight"] @ normalized(x, w[at + "ln_2.weight"]))
            xs[i] = x + w[at + "mlp.c_proj.weight"] @ hidden
    return [normalized(x, w[f"{name}.ln_f.weight"]) for x in xs]


def paper_logits(model: LanguageModel, ids: list[int]) -> list[Array]:
    """The logits of x_0, x_1, … and of the token after the last one, by the equations of section 2.2."""
    config = expect(megabyte.Config, model.config)
    w = {name: value.double().numpy() for name, value in model.state_dict().items()}
    P, d = config.patch_size, config.n_embd // config.patch_size
    embedded = [w["patch_wte.weight"][x] + w["patch_wpe.weight"][t] for t, x in enumerate(ids)]
    patches = [np.concatenate(embedded[k * P : (k + 1) * P]) for k in range(len(ids) // P)]
    g = transformed([w["start_patch"], *patches], w, "patch_model", config.n_layer, config.n_head)
    logits = []
    for k, out in enumerate(g):
        inputs = []
        for p in range(min(P, len(ids) + 1 - k * P)):
            before = w["start_token"] if p == 0 else w["wte.weight"][ids[k * P + p - 1]]
            inputs.append(w["projection.weight"] @ out[p * d : (p + 1) * d] + before)
        h = transformed(inputs, w, "token_model", config.local_n_layer, config.local_n_head)
        logits += [w["wte.weight"] @ each for each in h]
    return logits


@pytest.mark.parametrize("patch_size", [1, 3, 4, 8, 24])
@pytest.mark.parametrize("length", [1, 12, T])
@torch.inference_mode()
def test_it_equals_the_equations_of_the_paper(patch_size: int, length: int) -> None:
    """With a last patch that is complete or not, and with patches that are longer than the text."""
    model, ids = megabyte_model(patch_size=patch_size), some_ids(length=length)
    expected = paper_logits(model, ids[0].tolist())[1:]  # x_0 is not predicted
    np.testing.assert_allclose(model.logits(ids)[0].numpy(), np.stack(expected), rtol=0, atol=1e-4)


@pytest.mark.parametrize(("patch_size", "half"), [(1, 1), (2, 1), (3, 2), (4, 2), (8, 4)])
@torch.inference_mode()
def test_strided_inference_takes_the_first_half_of_each_patch_from_one_of_two_passes(
    patch_size: int, half: int
) -> None:
    model, ids = megabyte_model(patch_size=patch_size), some_ids()
    first = paper_logits(model, ids[0].tolist())
    second = paper_logits(model, ids[0, half:].tolist())  # the text without its first half patch
    expected = []
    for position in range(1, T + 1):
        is_second = position >= patch_size and position % patch_size >= half
        expected.append(second[position - half] if is_second else first[position])
    model.config = replace(expect(megabyte.Config, model.config), strided_inference=True)
    np.testing.assert_allclose(model.logits(ids)[0].numpy(), np.stack(expected), rtol=0, atol=1e-4)
    targets = ids.roll(-1, 1)
    _, loss = model(ids, targets)
    log_p = torch.log_softmax(torch.from_numpy(np.stack(expected)), 1)
    assert expect(torch.Tensor, loss).item() == pytest.approx(-log_p[range(T), targets[0]].mean().item(), abs=1e-4)


@pytest.mark.parametrize("strided", [False, True])
@torch.inference_mode()
def test_samples_of_one_prompt_share_its_cache_and_then_go_their_own_ways(strided: bool) -> None:
    """From a prompt that ends within a patch, past the end of two patches."""
    model, ids = megabyte_model(strided_inference=strided), some_ids(rows=3)
    ids[:, :6] = ids[0, :6]
    steps = decode(model, ids[:, :6].numpy())
    logits = next(steps)
    for end in range(6, 15):
        np.testing.assert_allclose(logits, model.logits(ids[:, :end])[:, -1], rtol=0, atol=1e-4)
        logits = steps.send(ids[:, end].numpy())


@torch.inference_mode()
def test_strided_inference_is_not_used_in_training() -> None:
    plain, strided = megabyte_model().train(), megabyte_model(strided_inference=True).train()
    ids = some_ids(rows=3)
    assert torch.equal(plain.logits(ids), strided.logits(ids))
    assert not torch.equal(plain.eval().logits(ids), strided.eval().logits(ids))


@pytest.mark.parametrize("patch_size", [1, 3, 4, 24])
@torch.inference_mode()
def test_the_flops_are_those_that_torch_counts_in_a_full_window(patch_size: int) -> None:
    """A backward pass has twice the matrix products of a forward pass."""
    model = megabyte_model(patch_size=patch_size)
    math = torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH)
    with math, FlopCounterMode(display=False) as counter:
        model.logits(some_ids())
    assert model.config.flops_per_token() == 3 * counter.get_total_flops() // T


def test_the_preset_sees_each_text_as_bytes_and_has_the_parameters_of_its_formula() -> None:
    """Embeddings (256 + 128)·32, start 128, three blocks, norm 128; between 32·128; then within a patch 256·128, start
    128, one block, norm 128. A block of either transformer has 12·128² + 2·128."""
    config = resolve(preset="megabyte", flags={"vocab_size": 256}).config
    assert config.data.dataset == "shakespeare_byte"
    block = 12 * 128**2 + 2 * 128
    across, within = 384 * 32 + 128 + 3 * block + 128, 256 * 128 + 128 + block + 128
    assert config.model.n_parameters() == across + 32 * 128 + within


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"n_embd": 30}, r"n_embd=30 is not a multiple of n_head=2 and patch_size=4.*try n_embd=32"),
        ({"local_n_embd": 3}, r"local_n_embd=3 is not a multiple of local_n_head=4.*try local_n_embd=4"),
    ],
)
def test_widths_that_cannot_be_shared_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(SettingError, match=message):
        shape(**SHAPE | {"patch_size": 4} | changes)
