"""The multilayer perceptron against its formula."""

import pytest
import torch

from tests.architectures import build, shape
from tests.narrowing import expect


def test_the_study_configuration_has_the_parameters_of_its_formula() -> None:
    """Window 10, embedding and hidden layer 200, 50,281 tokens (p50k_base): V·200 + 10·200·200 + 200 + 200·V + V."""
    config = shape(architecture="mlp", block_size=10, n_embd=200, n_hidden=200, vocab_size=50_281)
    assert config.n_parameters() == 50_281 * 200 + 400_000 + 200 + 200 * 50_281 + 50_281 == 20_562_881


@torch.inference_mode()
def test_a_position_is_predicted_from_its_window_side_by_side() -> None:
    torch.manual_seed(1)
    model = build(architecture="mlp", block_size=3, n_embd=4, n_hidden=5, vocab_size=7)
    weights = model.state_dict()
    a, b, c = weights["wte.weight"][[6, 2, 4]]
    for ids, window in (([[6]], [a * 0, a * 0, a]), ([[6, 2]], [a * 0, a, b]), ([[6, 2, 4]], [a, b, c])):
        hidden = torch.tanh(weights["fc.weight"] @ torch.cat(window) + weights["fc.bias"])
        expected = weights["head.weight"] @ hidden + weights["head.bias"]
        logits = expect(torch.Tensor, model(torch.tensor(ids))[0])
        torch.testing.assert_close(logits[0, -1], expected)


@pytest.mark.parametrize("norm", ["batch", "layer"])
def test_a_norm_makes_the_hidden_layer_one_of_mean_0_and_variance_1(norm: str) -> None:
    torch.manual_seed(1)
    model = build(architecture="mlp", block_size=4, n_embd=8, n_hidden=64, vocab_size=7, norm=norm)
    seen: list[torch.Tensor] = []
    model.get_submodule("norm").register_forward_hook(lambda _module, _inputs, output: seen.append(output))
    ids = torch.randint(7, (32, 4))
    model(ids, ids)
    over = 0 if norm == "batch" else 1
    torch.testing.assert_close(seen[0].mean(over), torch.zeros(seen[0].size(1 - over)), atol=1e-5, rtol=0)
    torch.testing.assert_close(seen[0].var(over, correction=0), torch.ones(seen[0].size(1 - over)), atol=0.05, rtol=0)
    assert model.n_parameters() == model.config.n_parameters()


def test_a_frozen_norm_keeps_its_running_mean_and_variance() -> None:
    """As beside adapters, which alone a checkpoint then has."""
    model = build(architecture="mlp", block_size=1, n_embd=8, n_hidden=64, vocab_size=7, norm="batch")
    ids = torch.arange(7)[:, None]
    model(ids, ids)
    model.requires_grad_(False)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    frozen = expect(torch.Tensor, model(ids)[0])
    torch.testing.assert_close(dict(model.state_dict()), before, rtol=0, atol=0)
    torch.testing.assert_close(frozen, expect(torch.Tensor, model.eval()(ids)[0]))


def test_a_single_row_in_training_is_normalised_by_the_running_mean_and_variance() -> None:
    model = build(architecture="mlp", block_size=1, n_embd=8, n_hidden=64, vocab_size=7, norm="batch")
    ids = torch.arange(7)[:, None]
    model(ids, ids)  # moves the running mean and variance
    alone = expect(torch.Tensor, model(ids[:1])[0])
    torch.testing.assert_close(alone, expect(torch.Tensor, model.eval()(ids[:1])[0]))
