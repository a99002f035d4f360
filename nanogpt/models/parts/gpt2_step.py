"""GPT-2 over one position more, in numpy: what `gpt2.py` computes, for a single sample on a CPU, several times as fast.

A call of numpy's costs a fraction of one of torch's, which is most of the time of a small model, and its product of a
matrix and a vector reads memory up to twice as fast, which is most of the time of a large one. Weights and cache are
the model's own memory: nothing is copied, and `gpt2.py` can go on where this ends, or the other way round.

In the shapes: C = n_embd, nh = n_head, hs = C / nh, V = vocab_size, S = positions seen so far, this one included.
"""

import math
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

Floats = NDArray[np.float32]

GELU = np.float32(math.sqrt(2 / math.pi))
CUBE = np.float32(0.044715)
HALF, ONE = np.float32(0.5), np.float32(1)


def stepper(model: Any, cache: Any) -> Callable[[int], Floats]:
    """Returns a function from the next token's id to the logits (V) of the one after it, which advances the cache.

    model: a `gpt2.Model` in float32 on the CPU; its cache, for one sample. Good for as long as both are.
    """
    C, nh = model.config.n_embd, model.config.n_head
    wte, wpe = array(model.wte.weight), array(model.wpe.weight)  # (V, C), (block_size, C)
    layers = [
        (*past, affine(b.ln_1), affine(b.attn.c_attn), affine(b.attn.c_proj), affine(b.ln_2), *map(affine, fc(b.mlp)))
        for b, past in zip(model.h, array(cache.keys_values)[:, :, 0], strict=True)
    ]
    final, scale = affine(model.ln_f), np.float32((C // nh) ** -0.5)

    def step(token: int) -> Floats:
        S = cache.length + 1
        x = wte[token] + wpe[S - 1]  # (C)
        for keys, values, ln_1, c_attn, attn_proj, ln_2, c_fc, mlp_proj in layers:
            q, k, v = linear(norm(x, *ln_1), *c_attn).reshape(3, nh, -1)  # 3 × (nh, hs)
            keys[:, S - 1], values[:, S - 1] = k, v  # (nh, block_size, hs)
            weights = softmax(np.matmul(keys[:, :S], (q * scale)[:, :, None])[:, :, 0])  # (nh, S)
            y = np.matmul(weights[:, None], values[:, :S]).reshape(C)
            x += linear(y, *attn_proj)
            x += linear(gelu(linear(norm(x, *ln_2), *c_fc)), *mlp_proj)
        cache.length = S
        return linear(norm(x, *final), wte, None)  # (V)

    return step


def fc(mlp: Any) -> tuple[Any, Any]:
    return mlp.c_fc, mlp.c_proj


def array(tensor: Tensor) -> Floats:
    """The same memory, seen by numpy."""
    return tensor.detach().numpy()


def affine(module: Any) -> tuple[Floats, Floats | None]:
    """A module's weight and bias."""
    return array(module.weight), None if module.bias is None else array(module.bias)


def linear(x: Floats, weight: Floats, bias: Floats | None) -> Floats:
    y: Floats = np.dot(weight, x)
    if bias is not None:
        y += bias
    return y


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
