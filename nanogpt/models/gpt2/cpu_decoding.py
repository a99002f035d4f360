"""GPT-2's decoding backend for a CPU: what `model.py` computes over a prompt or one more position, much faster.

One position of a single sample in numpy: a call of numpy's costs a fraction of one of torch's, which is most of the
time of a small model, and its product of a matrix and a vector reads memory up to twice as fast, which is most of the
time of a large one. All else is done in torch, without its modules, and of the last layer only what the logits and the
cache need. One sample is done in torch too where the caller has copies of the matrices in another format (`linear`):
then it gets alone the same text as among others. Otherwise weights and cache are the model's own memory, and `model.py`
can continue where this ends, and the other way round.

In the shapes: B samples, T positions, C = n_embd, nh = n_head, hs = C / nh, V = vocab_size, S = positions seen so far,
these included.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nanogpt.models.base import DecodeStep, Floats, Linear

if TYPE_CHECKING:
    from nanogpt.models.gpt2.model import Cache, Model

GELU = np.float32(math.sqrt(2 / math.pi))
CUBE = np.float32(0.044715)
HALF, ONE = np.float32(0.5), np.float32(1)
# Numbers in a layer's keys from which they come from memory: keys · query then reads them faster than query · keysᵀ.
FROM_MEMORY = 1_250_000


def decode_step(model: "Model", cache: "Cache", linear: Linear | None = None) -> DecodeStep:
    """Return a function from ids (B, T), T = 1 or the cache still empty, to the logits (B, V) of the next token, which
    advances the cache.

    model: in float32 on the CPU; its cache. Good for as long as both are.
    linear: makes of a weight (out, in), a bias and "none" or "gelu" what computes a layer of them over (…, in).
    """
    step = several(model, cache, linear or plain)
    if linear or cache.keys_values.size(2) > 1:
        return lambda ids: step(torch.from_numpy(ids)).numpy()
    single = one(model, cache)
    return lambda ids: single(int(ids[0, 0]))[None] if ids.shape[1] == 1 else step(torch.from_numpy(ids)).numpy()


def several(model: "Model", cache: "Cache", linear: Linear) -> Callable[[Tensor], Tensor]:
    C, nh = model.config.n_embd, model.config.n_head
    layers = [
        (past, block.ln_1, block.ln_2, *linears(block, linear))
        for block, past in zip(model.h, cache.keys_values, strict=True)
    ]
    head, last = linear(model.wte.weight, None, "none"), len(layers) - 1

    def norm(x: Tensor, layer: Any) -> Tensor:
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
            alone = q.size(2) == 1
            y = of_one_position(q, past, S) if alone else F.scaled_dot_product_attention(q, k, v, is_causal=True)
            x = x + attn_proj(y.transpose(1, 2).reshape(B, -1, C))  # of y (B, nh, T, hs)
            x = x + mlp_proj(c_fc(norm(x, ln_2)))
        cache.length = S
        return head(norm(x[:, 0], model.ln_f))  # (B, V)

    return step


def of_one_position(q: Tensor, past: Tensor, S: int) -> Tensor:
    """What queries of one position, (B, nh, 1, hs) as the result, get from the first S of the keys and values past (2,
    B, nh, block_size, hs)."""
    query = (q * q.size(3) ** -0.5).reshape(-1, 1, q.size(3))  # (B · nh, 1, hs)
    keys, values = past.flatten(1, 2)[:, :, :S]  # 2 × (B · nh, S, hs)
    if keys.numel() < FROM_MEMORY:
        scores = torch.bmm(query, keys.transpose(1, 2))  # (B · nh, 1, S)
    else:
        scores = torch.bmm(keys, query.transpose(1, 2)).transpose(1, 2)
    return torch.bmm(torch.softmax(scores, -1), values).view(q.shape)


def linears(block: Any, linear: Linear) -> Iterator[Callable[[Tensor], Tensor]]:
    """A block's linear layers, the third with the GELU behind it."""
    for module in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
        yield linear(module.weight, module.bias, "gelu" if module is block.mlp.c_fc else "none")


def plain(weight: Tensor, bias: Tensor | None, activation: str) -> Callable[[Tensor], Tensor]:
    if activation == "gelu":
        return lambda x: F.gelu(F.linear(x, weight, bias), approximate="tanh")
    return lambda x: F.linear(x, weight, bias)


def one(model: "Model", cache: "Cache") -> Callable[[int], Floats]:
    C, nh = model.config.n_embd, model.config.n_head
    wte, wpe = array(model.wte.weight), array(model.wpe.weight)  # (V, C), (block_size, C)
    layers = [
        (*past, vectors(block.ln_1), vectors(block.ln_2), *dots(block))
        for block, past in zip(model.h, array(cache.keys_values)[:, :, 0], strict=True)
    ]
    final, head, scale = vectors(model.ln_f), dot(model.wte.weight), np.float32((C // nh) ** -0.5)

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


def dots(block: Any) -> Iterator[Callable[[Floats], Floats]]:
    """A block's linear layers in numpy."""
    for module in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
        multiply = dot(module.weight)
        yield multiply if module.bias is None else partial(with_bias, multiply, array(module.bias))


def with_bias(multiply: Callable[[Floats], Floats], bias: Floats, x: Floats) -> Floats:
    return multiply(x) + bias


def dot(weight: Tensor) -> Callable[[Floats], Floats]:
    return array(weight).dot


def array(tensor: Tensor) -> Floats:
    """The same memory, seen by numpy."""
    return tensor.detach().numpy()


def vectors(norm: Any) -> tuple[Floats, Floats | None]:
    """A LayerNorm's weight and bias."""
    return array(norm.weight), None if norm.bias is None else array(norm.bias)


def norm(x: Floats, weight: Floats, bias: Floats | None) -> Floats:
    x = x - np.add.reduce(x) / x.size
    x *= 1 / math.sqrt(x.dot(x) / x.size + 1e-5)
    x *= weight
    if bias is not None:
        x += bias
    return x


def softmax(x: Floats) -> Floats:
    """Over the last of two dimensions, in place. `reduce` is `max` and `sum` without their detour through Python."""
    x -= np.maximum.reduce(x, 1, keepdims=True)
    np.exp(x, out=x)
    x /= np.add.reduce(x, 1, keepdims=True)
    return x


def gelu(x: Floats) -> Floats:
    """The tanh form: x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))."""
    inner = x * x
    inner *= CUBE * GELU
    inner += GELU
    inner *= x
    np.tanh(inner, out=inner)
    inner += ONE
    inner *= HALF
    inner *= x
    return inner
