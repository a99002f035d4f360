"""GPT-2's settings against the formulas of the papers, written out here in numpy for each position and head."""

import math
from itertools import product

import numpy as np
import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from nanogpt.errors import SettingError
from nanogpt.models.layers.positions import alibi_slopes, sinusoidal_positions
from nanogpt.models.meta_device import on_meta_device
from nanogpt.sampling.decoding import decode
from tests import architectures

V, T, C, HEADS, LAYERS = 23, 11, 24, 6, 2
EVERYTHING = {
    "positions": "rotary",
    "norm": "rms",
    "activation": "swiglu",
    "qk_norm": True,
    "tied_head": False,
    "n_kv_head": 2,
    "local_window": 3,
}


def small(**changes):
    torch.manual_seed(8)
    shape = {"n_layer": LAYERS, "n_head": HEADS, "n_embd": C, "block_size": T, "vocab_size": V}
    model = architectures.build(**shape | changes).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.normal_(1.0 if parameter.dim() == 1 else 0.0, 0.3)
    return model


def some_ids(length=T):
    return torch.randint(V, (length,), generator=torch.Generator().manual_seed(3))


# ---- the formulas


def normalised(x, weights, name, config):
    if config.norm == "none":
        return x
    centred = x - x.mean(-1, keepdims=True) if config.norm == "layer" else x
    x = centred / np.sqrt((centred**2).mean(-1, keepdims=True) + config.norm_eps)
    return x * weights[f"{name}.weight"] + weights.get(f"{name}.bias", 0)


def linear(x, weights, name):
    return x @ weights[f"{name}.weight"].T + weights.get(f"{name}.bias", 0)


def vaswani(T, C):
    """PE(pos, 2i) = sin(pos / 10000^(2i/C)), PE(pos, 2i + 1) = cos(pos / 10000^(2i/C)) (2017, section 3.5)."""
    table = np.zeros((T, C))
    for pos, channel in product(range(T), range(C)):
        angle = pos / 10000 ** (2 * (channel // 2) / C)
        table[pos, channel] = math.cos(angle) if channel % 2 else math.sin(angle)
    return table


def rotated(x, position, base):
    """Pair i, here numbers i and i + d/2, is a complex number, multiplied by e^(i · position · base^(-2i/d))."""
    half = len(x) // 2
    z = (x[:half] + 1j * x[half:]) * np.exp(1j * position * base ** (-2 * np.arange(half) / len(x)))
    return np.concatenate((z.real, z.imag))


def attention(x, weights, config, layer):
    """One query at a time, in one head at a time."""
    hs, shared = C // HEADS, HEADS // (config.n_kv_head or HEADS)
    qkv = linear(x, weights, "attn.c_attn")
    q, k, v = np.split(qkv, [C, C + C // shared], axis=1)
    y = np.zeros_like(x)
    for head, i in product(range(HEADS), range(len(x))):
        group = head // shared
        own, others = slice(head * hs, head * hs + hs), slice(group * hs, group * hs + hs)
        first = max(0, i - config.local_window + 1) if config.local_window and layer % 2 else 0
        scores = []
        for j in range(first, i + 1):
            query, key = q[i, own], k[j, others]
            if config.qk_norm:  # torch's eps: that of the number format
                query, key = (a / np.sqrt((a**2).mean() + np.finfo(np.float32).eps) for a in (query, key))
            if config.positions == "rotary":
                query, key = (rotated(a, at, config.rotary_base) for a, at in ((query, i), (key, j)))
            slope = 2 ** (-8 * (head + 1) / 4) if head < 4 else 2 ** (-8 * (2 * (head - 4) + 1) / 8)  # 6 heads: 4 + 2
            scores.append(query @ key / math.sqrt(hs) - (slope * (i - j) if config.positions == "alibi" else 0))
        p = np.exp(np.array(scores) - max(scores))
        y[i, own] = (p / p.sum()) @ v[first : i + 1, others]
    return linear(y, weights, "attn.c_proj")


def mlp(x, weights, config):
    h = linear(x, weights, "mlp.c_fc")
    if config.activation == "gelu":
        h = h / 2 * (1 + np.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * h**3)))
    elif config.activation == "swiglu":
        a, b = np.split(h, 2, axis=1)
        h = a / (1 + np.exp(-a)) * b
    else:
        h = np.maximum(h, 0) ** (2 if config.activation == "relu2" else 1)
    return linear(h, weights, "mlp.c_proj")


def reference_logits(model, ids):
    config, weights = model.config, {name: p.double().numpy() for name, p in model.state_dict().items()}
    x = weights["wte.weight"][ids]
    if config.positions == "learned":
        x = x + weights["wpe.weight"][: len(ids)]
    if config.positions == "sinusoidal":
        x = x * math.sqrt(C) + vaswani(len(ids), C)
    kept = float(config.residual)
    for layer in range(LAYERS):
        own = {name.removeprefix(f"h.{layer}."): p for name, p in weights.items() if name.startswith(f"h.{layer}.")}
        if config.norm_position == "before":
            x = kept * x + attention(normalised(x, own, "ln_1", config), own, config, layer)
            if config.feed_forward:
                x = kept * x + mlp(normalised(x, own, "ln_2", config), own, config)
        else:
            x = normalised(kept * x + attention(x, own, config, layer), own, "ln_1", config)
            if config.feed_forward:
                x = normalised(kept * x + mlp(x, own, config), own, "ln_2", config)
    if config.norm_position == "before":
        x = normalised(x, weights, "ln_f", config)
    return x @ weights["wte.weight" if config.tied_head else "head.weight"].T


CHOICES = [
    *({"positions": choice} for choice in ("learned", "sinusoidal", "rotary", "alibi", "none")),
    {"norm": "rms"},
    {"norm": "none"},
    {"feed_forward": False},
    {"residual": False},
    {"feed_forward": False, "norm_position": "after", "residual": False},
    {"norm_position": "after"},
    *({"activation": choice} for choice in ("relu", "relu2", "swiglu")),
    {"qk_norm": True},
    {"tied_head": False},
    {"n_kv_head": 2},
    {"local_window": 3},
    *({"mlp_width": 20, "activation": choice} for choice in ("gelu", "swiglu")),
    {"positions": "rotary", "rotary_base": 50.0},
    *({"norm": choice, "norm_eps": 0.1} for choice in ("layer", "rms")),
    EVERYTHING,
    {"positions": "alibi", "local_window": 4, "norm_position": "after"},
]


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("changes", CHOICES, ids=lambda changes: "-".join(map(str, changes.values())))
@torch.inference_mode()
def test_a_choice_is_the_formula_of_its_paper(changes, bias):
    model, ids = small(bias=bias, **changes), some_ids()
    expected = torch.from_numpy(reference_logits(model, ids)).float()
    torch.testing.assert_close(model.logits(ids[None])[0], expected, rtol=1e-4, atol=1e-4)
    assert expected.std() > 0.5, "so that an error anywhere would show"


# ---- the parts


@pytest.mark.parametrize("width", [8, 7])
def test_sinusoidal_positions_are_those_of_the_paper_from_any_position_on(width):
    like = torch.zeros(())
    expected = torch.from_numpy(vaswani(1024, width)).float()
    torch.testing.assert_close(sinusoidal_positions(0, 1024, width, like), expected, rtol=0, atol=1e-4)
    torch.testing.assert_close(sinusoidal_positions(900, 3, width, like), expected[900:903], rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    ("n_head", "exponents"),
    [
        (1, [8]),
        (8, [1, 2, 3, 4, 5, 6, 7, 8]),
        (6, [2, 4, 6, 8, 1, 3]),  # of four heads, then the first and third of eight
        (12, [1, 2, 3, 4, 5, 6, 7, 8, 0.5, 1.5, 2.5, 3.5]),  # of eight heads, then every second of sixteen
    ],
)
def test_alibi_slopes_of_any_number_of_heads(n_head, exponents):
    assert alibi_slopes(n_head) == pytest.approx([2**-exponent for exponent in exponents])


@torch.inference_mode()
def test_grouped_heads_are_plain_heads_with_repeated_weights():
    grouped, plain = small(n_kv_head=2, bias=True), small(bias=True)
    weights = grouped.state_dict()
    for name, weight in weights.items():
        if "c_attn" in name:
            q, k, v = weight.split([C, C // 3, C // 3])
            k, v = (each.unflatten(0, (2, C // HEADS)).repeat_interleave(3, 0).flatten(0, 1) for each in (k, v))
            weights[name] = torch.cat((q, k, v))
    plain.load_state_dict(weights)
    torch.testing.assert_close(grouped.logits(some_ids()[None]), plain.logits(some_ids()[None]), rtol=0, atol=1e-4)
    assert grouped.new_cache(1).keys_values.numel() * 3 == plain.new_cache(1).keys_values.numel()


@torch.inference_mode()
def test_all_of_them_together_decode_as_they_predict():
    model, ids = small(**EVERYTHING, bias=True), some_ids()
    whole, cache = model.logits(ids[None]), model.new_cache(1)
    for begin, end in ((0, 4), (4, 5), (5, 9), (9, T)):
        logits, _ = model(ids[None, begin:end], cache=cache)
        torch.testing.assert_close(logits[0, 0], whole[0, end - 1], rtol=1e-4, atol=1e-4)
    steps = decode(model, ids[None, :4].numpy())
    torch.testing.assert_close(torch.from_numpy(next(steps))[0], whole[0, 3], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(torch.from_numpy(steps.send(ids[4:5].numpy()))[0], whole[0, 4], rtol=1e-4, atol=1e-4)


# ---- figures

COMBINATIONS = [
    {"positions": p, "norm": n, "norm_position": at, "activation": a, "tied_head": tied, "n_kv_head": kv, "bias": bias}
    | ({"feed_forward": False} if kv == 3 else {})
    for p, n, at, a, (tied, kv, bias) in product(
        ("learned", "rotary"),
        ("layer", "rms", "none"),
        ("before", "after"),
        ("gelu", "swiglu"),
        ((True, 0, False), (False, 3, True), (False, 1, False), (True, 2, True)),
    )
]


def test_every_combination_has_the_parameters_that_its_configuration_says():
    with on_meta_device():
        for changes in COMBINATIONS:
            config = architectures.shape(n_layer=3, n_head=6, n_embd=36, block_size=10, vocab_size=V, **changes)
            assert config.n_parameters() == config.build().n_parameters(), changes


@pytest.mark.parametrize("changes", CHOICES, ids=lambda changes: "-".join(map(str, changes.values())))
@torch.inference_mode()
def test_a_choice_takes_the_operations_that_its_configuration_says(changes):
    """torch counts the matrix products of a forward pass, and the backward pass has twice as many.

    Its attention computes all scores; a local block needs those of its window only: 12·C·(T - window) fewer in 1 of 2.
    The vectors, which are in no product, are under 3 % here.
    """
    model, ids = small(**changes), some_ids()[None]
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH), FlopCounterMode(display=False) as counter:
        model.logits(ids)
    window = changes.get("local_window", T)
    counted = 3 * counter.get_total_flops() / T - 12 * C * (T - window)
    assert model.config.flops_per_token() == pytest.approx(counted, rel=0.03)


# ---- what does not fit


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"n_kv_head": 4}, r"n_kv_head=4 does not divide n_head=6.*possible: 1, 2, 3, 6"),
        ({"n_kv_head": 7}, r"n_kv_head=7 does not divide n_head=6"),
        ({"positions": "rotary", "n_embd": 18}, r"n_embd=18 and n_head=6 make heads of size 3.*even"),
        ({"positions": "rotery"}, r"positions=rotery.*Did you mean rotary\?"),
        ({"n_kv_head": -1}, r"n_kv_head=-1: has to be at least 0"),
    ],
)
def test_settings_that_do_not_fit_are_refused_in_one_line(changes, words):
    with pytest.raises(SettingError, match=words) as caught:
        small(**changes)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("changes", CHOICES[1:], ids=lambda changes: "-".join(map(str, changes.values())))
def test_the_training_backend_for_a_cpu_is_that_of_the_published_model(changes):
    assert small(**changes).training_backend("cpu", torch.bfloat16) is None


@pytest.mark.parametrize(
    "changes", [{}, {"bias": True}, {"n_kv_head": HEADS}, {"local_window": T}, {"mlp_width": 4 * C}]
)
@torch.inference_mode()
def test_settings_that_change_nothing_keep_the_training_backend(changes):
    model = small(**changes)
    assert model.training_backend("cpu", torch.bfloat16) is not None
    plain = small(bias=changes.get("bias", False))
    assert torch.equal(model.logits(some_ids()[None]), plain.logits(some_ids()[None]))
