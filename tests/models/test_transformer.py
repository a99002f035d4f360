"""The transformer against torch's own encoder layer with a causal mask."""

from functools import partial

import torch
from torch import nn

from nanogpt.config import resolve
from nanogpt.models.layers.transformer_block import AttentionHeads
from nanogpt.models.meta_device import on_meta_device
from tests.architectures import build


def test_the_shape_of_the_study_has_as_many_parameters_as_its_formula() -> None:
    """Two blocks of 12·C² + 13·C, 2·C, embeddings of 50,281 tokens and 10 positions, and a head with a bias."""
    config = resolve(preset="transformer-307m", flags={"vocab_size": 50_281}).config.model
    C, V = 2048, 50_281
    expected = 2 * (12 * C * C + 13 * C) + 2 * C + (V + 10) * C + (C + 1) * V
    assert expected == 306_742_377
    assert config.n_parameters() == expected
    with on_meta_device():
        assert config.build().n_parameters() == expected


@torch.no_grad()
def test_it_equals_torch_s_layers_with_the_same_weights() -> None:
    torch.manual_seed(1)
    C, T, V = 24, 10, 11
    model = build(architecture="transformer", n_head=3, n_embd=C, vocab_size=V).eval()
    for parameter in model.parameters():
        parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, 0.3)
    weights, ids = model.state_dict(), torch.randint(V, (2, T))
    names = {
        "self_attn.in_proj_": "attn.c_attn.",
        "self_attn.out_proj.": "attn.c_proj.",
        "linear1.": "mlp.c_fc.",
        "linear2.": "mlp.c_proj.",
        "norm1.": "ln_1.",
        "norm2.": "ln_2.",
    }
    x = weights["wte.weight"][ids] + weights["wpe.weight"]
    for layer in range(2):
        theirs = nn.TransformerEncoderLayer(C, 3, 4 * C, activation="relu", batch_first=True, norm_first=True).eval()
        theirs.load_state_dict(
            {a + kind: weights[f"h.{layer}.{b}{kind}"] for a, b in names.items() for kind in ("weight", "bias")}
        )
        x = theirs(x, src_mask=nn.Transformer.generate_square_subsequent_mask(T), is_causal=True)
    x = torch.layer_norm(x, (C,), weights["ln_f.weight"], weights["ln_f.bias"])
    expected = x @ weights["head.weight"].T + weights["head.bias"]
    torch.testing.assert_close(model.logits(ids), expected, rtol=1e-4, atol=1e-4)


def test_dropout_acts_on_attention_weights() -> None:
    """With the values of all positions equal, only dropped weights make the result differ from those values."""
    torch.manual_seed(1)
    model = build(architecture="transformer", n_embd=8, n_head=2, vocab_size=5, dropout=0.5).train()
    attn = model.get_submodule("h.0.attn")
    assert isinstance(attn, AttentionHeads)
    heads = partial(AttentionHeads.forward, attn)  # before the projection and its dropout
    x = torch.randn(1, 1, 8).expand(1, 10, 8)
    assert not torch.allclose(heads(x)[0, 0], heads(x)[0, 9])
    attn.eval()
    torch.testing.assert_close(heads(x)[0, 0], heads(x)[0, 9])
