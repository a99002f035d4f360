"""GPT-2's published sizes, counted on models without memory."""

import pytest
import torch

from nanogpt.config import resolve
from nanogpt.models.gpt2.model import Model
from tests.narrowing import expect


@pytest.mark.parametrize(
    ("preset", "vocab_size", "parameters"),
    [
        ("gpt2", 50257, 124_439_808),
        ("gpt2-medium", 50257, 354_823_168),
        ("gpt2-large", 50257, 774_030_080),
        ("gpt2-xl", 50257, 1_557_611_200),
        # vectors of 2·n_layer + 1 norms, 12·C² a layer, and the two embeddings
        ("macbook", 65, 4 * 12 * 128**2 + 9 * 128 + 65 * 128 + 64 * 128),
        ("baby", 65, 6 * 12 * 384**2 + 13 * 384 + 65 * 384 + 256 * 384),
    ],
)
def test_a_preset_has_as_many_parameters_as_published(preset, vocab_size, parameters):
    config = resolve(preset=preset, flags={"vocab_size": vocab_size}).config.model
    with torch.device("meta"):
        assert config.build().n_parameters() == parameters


def test_residual_projections_start_smaller_by_the_root_of_their_number():
    config = resolve(preset="macbook", flags={"vocab_size": 65}).config.model
    torch.manual_seed(0)
    weights = dict(config.build().named_parameters())
    for layer in range(4):
        assert weights[f"h.{layer}.mlp.c_fc.weight"].std().item() == pytest.approx(0.02, rel=0.05)
        for name in ("attn", "mlp"):
            assert weights[f"h.{layer}.{name}.c_proj.weight"].std().item() == pytest.approx(0.02 / 8**0.5, rel=0.05)


@torch.inference_mode()
def test_without_norms_hidden_states_keep_their_size():
    """A product with C×C weights from 1/√C keeps the size, and the projection is divided by √2; 0.02 makes it 0.036."""
    flags = {"vocab_size": 65, "n_layer": 1, "norm": "none", "residual": False, "feed_forward": False}
    torch.manual_seed(0)
    model = expect(Model, resolve(preset="macbook", flags=flags).config.model.build())
    ids = torch.arange(65)[:, None]  # (65, 1): the first position attends to itself alone
    ratio = model.hidden(ids).std() / model.embed(ids, 0).std()
    assert ratio.item() == pytest.approx(0.5**0.5, rel=0.1)
