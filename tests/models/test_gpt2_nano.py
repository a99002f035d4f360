"""GPT-2 nano: its number of parameters, and its attention against heads that are written out one by one."""

import torch

from nanogpt.config import resolve
from nanogpt.models.meta_device import on_meta_device
from tests.architectures import build


def test_the_full_shape_has_44_million_parameters_with_9157_tokens() -> None:
    """12·(3·C² + 8·C² + 5·C + 4·C) for the blocks, 2·C for the last norm, V·C and V·C + V for embedding and head."""
    config = resolve(preset="gpt2-nano-44m", flags={"vocab_size": 9157}).config.model
    C, V = 512, 9157
    expected = 12 * (11 * C * C + 9 * C) + 2 * C + 2 * V * C + V
    assert expected == 44_045_253
    assert config.n_parameters() == expected
    with on_meta_device():
        assert config.build().n_parameters() == expected


@torch.no_grad()
def test_it_equals_heads_that_are_concatenated_into_the_residual_stream() -> None:
    torch.manual_seed(1)
    C, heads, T, V = 24, 3, 9, 11
    model = build(architecture="gpt2_nano", n_layer=2, n_head=heads, n_embd=C, block_size=T, vocab_size=V).eval()
    for parameter in model.parameters():
        parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, 0.3)
    weights, ids = model.state_dict(), torch.randint(V, (2, T))

    angles = torch.tensor([[p / 10000 ** (2 * (c // 2) / C) for c in range(C)] for p in range(T)])
    positions = torch.where(torch.arange(C) % 2 == 0, angles.sin(), angles.cos())  # Vaswani et al. 2017, section 3.5
    x = weights["wte.weight"][ids] * C**0.5 + positions
    for layer in range(2):
        own = {name.removeprefix(f"h.{layer}."): w for name, w in weights.items() if name.startswith(f"h.{layer}.")}
        normed = torch.layer_norm(x, (C,), own["ln_1.weight"], own["ln_1.bias"])
        results = []
        for head in range(heads):
            rows = slice(head * C // heads, (head + 1) * C // heads)
            q, k, v = (normed @ w[rows].T for w in own["attn.c_attn.weight"].chunk(3))
            scores = (q @ k.mT / (C // heads) ** 0.5).masked_fill(torch.ones(T, T).triu(1).bool(), -torch.inf)
            results.append(scores.softmax(-1) @ v)
        x = x + torch.cat(results, -1)
        normed = torch.layer_norm(x, (C,), own["ln_2.weight"], own["ln_2.bias"])
        hidden = torch.relu(normed @ own["mlp.c_fc.weight"].T + own["mlp.c_fc.bias"])
        x = x + hidden @ own["mlp.c_proj.weight"].T + own["mlp.c_proj.bias"]
    x = torch.layer_norm(x, (C,), weights["ln_f.weight"], weights["ln_f.bias"])
    expected = x @ weights["head.weight"].T + weights["head.bias"]
    torch.testing.assert_close(model.logits(ids), expected, rtol=1e-4, atol=1e-4)
