"""SGD and Lion against their formulas, through the settings that build them."""

import pytest
import torch

from nanogpt.config import resolve
from nanogpt.errors import SettingError
from tests.architectures import build


def stepped(name: str, **settings: object) -> tuple[torch.Tensor, list[torch.Tensor], torch.Tensor]:
    """Return a matrix before, the gradients of three steps, and the matrix after."""
    torch.manual_seed(1)
    model = build(architecture="gpt2", n_layer=1, n_head=1, n_embd=8, block_size=4, vocab_size=5)
    config = resolve(flags={"optimizer": name} | settings).config.optimizer
    optimizer = config.build(model, torch.float32)
    weight = model.get_parameter("wte.weight")
    before, gradients = weight.detach().clone(), []
    for _ in range(3):
        ids = torch.randint(5, (2, 4))
        optimizer.zero_grad()
        loss = model(ids, ids.roll(1, 1))[1]
        assert loss is not None
        loss.backward()
        assert weight.grad is not None
        gradients.append(weight.grad.clone())
        optimizer.step()
    return before, gradients, weight.detach()


@pytest.mark.parametrize("nesterov", ["true", "false"])
def test_sgd_with_momentum_and_nesterov(nesterov: str) -> None:
    w, gradients, after = stepped("sgd", learning_rate=0.1, momentum=0.8, nesterov=nesterov, weight_decay=0.01)
    velocity = torch.zeros_like(w)
    for g in gradients:
        g = g + 0.01 * w
        velocity = 0.8 * velocity + g
        w = w - 0.1 * (g + 0.8 * velocity if nesterov == "true" else velocity)
    torch.testing.assert_close(after, w)


def test_nesterov_needs_a_momentum() -> None:
    with pytest.raises(SettingError, match="needs a momentum"):
        resolve(flags={"optimizer": "sgd", "momentum": 0, "nesterov": "true"})


def test_lion() -> None:
    w, gradients, after = stepped("lion", learning_rate=0.01, beta1=0.9, beta2=0.99, weight_decay=0.1)
    m = torch.zeros_like(w)
    for g in gradients:
        w = w - 0.01 * (torch.sign(0.9 * m + 0.1 * g) + 0.1 * w)
        m = 0.99 * m + 0.01 * g
    torch.testing.assert_close(after, w)
