"""GPT-2's decoding backend for a CPU: the same as `model.py` for a prompt or one more position, but much faster.

One position of one sample runs in numpy. A call to numpy costs a fraction of a call to torch, which dominates in a
small model, and its matrix-vector product reads memory up to twice as fast, which dominates in a large one. Everything
else runs in torch without modules, and in the last layer only what the logits and the cache need. With `make_linear`
(copies of the matrices in another format) one sample runs in torch too, so that its text does not depend on the number
of samples. Otherwise weights and cache are the model's own, and `model.py` can continue after this step and vice versa.

In the shapes: B samples, T positions, C = n_embd, nh = n_head, hs = C / nh, V = vocab_size, S = positions including
those in the cache.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanogpt.models.base import DecodeStep, Floats, MakeLinear
from nanogpt.models.layers.key_value_cache import KeyValueCache

if TYPE_CHECKING:
    from nanogpt.models.gpt2.model import Gpt2Block, Model

GELU = np.float32(math.sqrt(2 / math.pi))
CUBE = np.float32(0.044715)
HALF, ONE = np.float32(0.5), np.float32(1)
# From this size on, the keys of a layer exceed the CPU's cache: keys · query then reads them faster than query · keysᵀ.
KEYS_FROM_MEMORY = 1_250_000


def decode_step(model: "Model", cache: KeyValueCache, make_linear: MakeLinear | None = None) -> DecodeStep:
    """Return the function from ids (B, T) to the logits (B, V) of the next token, which advances the cache.

    T is 1 unless the cache is empty. model: in float32 on the CPU, whose weights do not move while the function is in
    use. make_linear: builds the linear layers; None for plain ones.
    """
    step = batched_step(model, cache, make_linear or torch_linear)
    if make_linear or cache.keys_values.size(2) > 1:
        return lambda ids: step(torch.from_numpy(ids)).numpy()
    single = single_step(model, cache)
    return lambda ids: single(int(ids[0, 0]))[None] if ids.shape[1] == 1 else step(torch.from_numpy(ids)).numpy()


def batched_step(model: "Model", cache: KeyValueCache, make_linear: MakeLinear) -> Callable[[Tensor], Tensor]:
    """Return the step from ids (B, T) to logits (B, V) in torch."""
    C, nh = model.config.n_embd, model.config.n_head
    layers = [
        (past, block.ln_1, block.ln_2, *linear_layers(block, make_linear))
        for block, past in zip(cast("Iterable[Gpt2Block]", model.h), cache.keys_values, strict=True)
    ]
    head, last = make_linear(model.wte.weight, None, "none"), len(layers) - 1

    def norm(x: Tensor, layer: nn.LayerNorm) -> Tensor:
        return F.layer_norm(x, (C,), layer.weight, layer.bias, layer.eps)

    def step(ids: Tensor) -> Tensor:
        B, T = ids.shape
        S = cache.length + T
        x = F.embedding(ids, model.wte.weight) + model.wpe.weight[cache.length : S]  # (B, T, C)
        for layer, (past, ln_1, ln_2, c_attn, attn_proj, c_fc, mlp_proj) in enumerate(layers):
            qkv = c_attn(norm(x, ln_1)).view(B, T, 3, nh, -1).permute(2, 0, 3, 1, 4)  # (3, B, nh, T, hs)
            past[:, :, :, S - T : S] = qkv[1:]  # (2, B, nh, block_size, hs)
            q, k, v = qkv
            if layer == last:
                x, q = x[:, -1:], q[:, :, -1:]
            if q.size(2) == 1:
                y = one_query_attention(q, past, S)  # (B, nh, 1, hs)
            else:
                y = F.scaled_dot_product_attention(q, k, v, is_causal=True)  # (B, nh, T, hs)
            x = x + attn_proj(y.transpose(1, 2).reshape(B, -1, C))
            x = x + mlp_proj(c_fc(norm(x, ln_2)))
        cache.length = S
        return head(norm(x[:, 0], model.ln_f))  # (B, V)

    return step


def one_query_attention(q: Tensor, past: Tensor, S: int) -> Tensor:
    """Return the attention (B, nh, 1, hs) of a query (B, nh, 1, hs) over the first S positions of the cache.

    past: keys and values (2, B, nh, block_size, hs).
    """
    query = (q * q.size(3) ** -0.5).reshape(-1, 1, q.size(3))  # (B · nh, 1, hs)
    keys, values = past.flatten(1, 2)[:, :, :S]  # 2 × (B · nh, S, hs)
    if keys.numel() < KEYS_FROM_MEMORY:
        scores = torch.bmm(query, keys.transpose(1, 2))  # (B · nh, 1, S)
    else:
        scores = torch.bmm(keys, query.transpose(1, 2)).transpose(1, 2)
    return torch.bmm(torch.softmax(scores, -1), values).view(q.shape)


def linear_layers(block: "Gpt2Block", make_linear: MakeLinear) -> Iterator[Callable[[Tensor], Tensor]]:
    """Yield the four linear layers of a block; the third includes the GELU."""
    for module in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
        yield make_linear(module.weight, module.bias, "gelu" if module is block.mlp.c_fc else "none")


def torch_linear(weight: Tensor, bias: Tensor | None, activation: str) -> Callable[[Tensor], Tensor]:
    """Return a linear layer on the model's weights; see `MakeLinear`."""
    if activation == "gelu":
        return lambda x: F.gelu(F.linear(x, weight, bias), approximate="tanh")
    return lambda x: F.linear(x, weight, bias)


def single_step(model: "Model", cache: KeyValueCache) -> Callable[[int], Floats]:
    """Return the step from one token to logits (V) in numpy."""
    C, nh = model.config.n_embd, model.config.n_head
    wte, wpe = as_numpy(model.wte.weight), as_numpy(model.wpe.weight)  # (V, C), (block_size, C)
    layers = [
        (*past, norm_weights(block.ln_1), norm_weights(block.ln_2), *numpy_layers(block))
        for block, past in zip(cast("Iterable[Gpt2Block]", model.h), as_numpy(cache.keys_values)[:, :, 0], strict=True)
    ]
    final, head, scale = norm_weights(model.ln_f), numpy_matvec(model.wte.weight), np.float32((C // nh) ** -0.5)

    def step(token: int) -> Floats:
        S = cache.length + 1
        x = wte[token] + wpe[S - 1]  # (C)
        for keys, values, ln_1, ln_2, c_attn, attn_proj, c_fc, mlp_proj in layers:
            q, k, v = c_attn(norm(x, *ln_1)).reshape(3, nh, -1)  # 3 × (nh, hs)
            keys[:, S - 1], values[:, S - 1] = k, v  # (nh, block_size, hs)
            weights = softmax(np.matmul(keys[:, :S], (q * scale)[:, :, None])[:, :, 0])  # (nh, S)
            y = np.matmul(weights[:, None], values[:, :S]).reshape(C)
            x += attn_proj(y)
            x += mlp_proj(gelu(c_fc(norm(x, *ln_2))))
        cache.length = S
        return head(norm(x, *final))  # (V)

    return step


def numpy_layers(block: "Gpt2Block") -> Iterator[Callable[[Floats], Floats]]:
    """Yield the four linear layers of a block in numpy, without the GELU."""
    for module in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
        multiply = numpy_matvec(module.weight)
        yield multiply if module.bias is None else partial(with_bias, multiply, as_numpy(module.bias))


def with_bias(multiply: Callable[[Floats], Floats], bias: Floats, x: Floats) -> Floats:
    """Return the product of x with a matrix, plus the bias."""
    return multiply(x) + bias


def numpy_matvec(weight: Tensor) -> Callable[[Floats], Floats]:
    """Return the function from x (in) to weight · x (out)."""
    return as_numpy(weight).dot


def as_numpy(tensor: Tensor) -> Floats:
    """Return the memory of the tensor as an array."""
    return tensor.detach().numpy()


def norm_weights(norm: nn.LayerNorm) -> tuple[Floats, Floats | None]:
    """Return weight and bias of a LayerNorm."""
    return as_numpy(norm.weight), None if norm.bias is None else as_numpy(norm.bias)


def norm(x: Floats, weight: Floats, bias: Floats | None) -> Floats:
    """Return LayerNorm of x (C)."""
    x = x - np.add.reduce(x) / x.size
    x *= 1 / math.sqrt(x.dot(x) / x.size + 1e-5)
    x *= weight
    if bias is not None:
        x += bias
    return x


def softmax(x: Floats) -> Floats:
    """Replace x (n, m) by its softmax over the last dimension, and return it."""
    # `ufunc.reduce` avoids the Python layer of `max` and `sum`
    x -= np.maximum.reduce(x, 1, keepdims=True)
    np.exp(x, out=x)
    x /= np.add.reduce(x, 1, keepdims=True)
    return x


def gelu(x: Floats) -> Floats:
    """Return x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))."""
    inner = x * x
    inner *= CUBE * GELU
    inner += GELU
    inner *= x
    np.tanh(inner, out=inner)
    inner += ONE
    inner *= HALF
    inner *= x
    return inner
