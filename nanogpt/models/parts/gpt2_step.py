"""GPT-2 over one position more, on a CPU: what `gpt2.py` computes, several times as fast.

For a single sample in numpy: a call of numpy's costs a fraction of one of torch's, which is most of the time of a small
model, and its product of a matrix and a vector reads memory up to twice as fast, which is most of the time of a large
one. For several in torch, without its modules; so too for one where who calls has copies of the matrices, in another
format, to multiply with: then it writes alone what it writes among others. Weights and cache are else the model's own
memory, and `gpt2.py` can go on where this ends, or the other way round.

In the shapes: B samples, C = n_embd, nh = n_head, hs = C / nh, V = vocab_size, S = positions seen so far, this one
included.
"""

import math
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Product = Callable[[Tensor], Callable[[Tensor], Tensor]]

GELU = np.float32(math.sqrt(2 / math.pi))
CUBE = np.float32(0.044715)
HALF, ONE = np.float32(0.5), np.float32(1)


def stepper(model: Any, cache: Any, product: Product | None = None) -> Callable[[Ids], Floats]:
    """Returns a function from the next token's ids (B) to the logits (B, V) of the one after it, which advances the
    cache.

    model: a `gpt2.Model` in float32 on the CPU; its cache. Good for as long as both are.
    product: makes of a weight (out, in) the function that multiplies it with vectors (…, in).
    """
    if product or cache.keys_values.size(2) > 1:
        step = several(model, cache, product or plain)
        return lambda ids: step(torch.from_numpy(ids)).numpy()
    single = one(model, cache)
    return lambda ids: single(int(ids[0]))[None]


def several(model: Any, cache: Any, product: Product) -> Callable[[Tensor], Tensor]:
    B, C, nh = cache.keys_values.size(2), model.config.n_embd, model.config.n_head
    layers = [
        (*past, block.ln_1, block.ln_2, *linears(block, product, Tensor.detach))
        for block, past in zip(model.h, cache.keys_values, strict=True)
    ]
    head, scale = product(model.wte.weight), (C // nh) ** -0.5

    def norm(x: Tensor, layer: Any) -> Tensor:
        return F.layer_norm(x, (C,), layer.weight, layer.bias, layer.eps)

    def step(ids: Tensor) -> Tensor:
        S = cache.length + 1
        x = model.wte.weight[ids] + model.wpe.weight[S - 1]  # (B, C)
        for keys, values, ln_1, ln_2, c_attn, attn_proj, c_fc, mlp_proj in layers:
            q, k, v = c_attn(norm(x, ln_1)).view(B, 3, nh, -1).unbind(1)  # 3 × (B, nh, hs)
            keys[:, :, S - 1], values[:, :, S - 1] = k, v  # (B, nh, block_size, hs)
            scores = torch.matmul((q * scale)[:, :, None], keys[:, :, :S].transpose(2, 3))  # (B, nh, 1, S)
            y = torch.matmul(torch.softmax(scores, -1), values[:, :, :S])  # (B, nh, 1, hs)
            x += attn_proj(y.view(B, C))
            x += mlp_proj(F.gelu(c_fc(norm(x, ln_2)), approximate="tanh"))
        cache.length = S
        return head(norm(x, model.ln_f))  # (B, V)

    return step


def one(model: Any, cache: Any) -> Callable[[int], Floats]:
    C, nh = model.config.n_embd, model.config.n_head
    wte, wpe = array(model.wte.weight), array(model.wpe.weight)  # (V, C), (block_size, C)
    layers = [
        (*past, vectors(block.ln_1), vectors(block.ln_2), *linears(block, dot, array))
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


def linears(block: Any, product: Any, seen: Callable[[Tensor], Any]) -> Iterator[Callable[[Any], Any]]:
    """What a block's linear layers compute, in torch or in numpy: `product` is of it, and biases are `seen` in it."""
    for module in (block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj):
        multiply = product(module.weight)
        yield multiply if module.bias is None else partial(with_bias, multiply, seen(module.bias))


def with_bias(multiply: Callable[[Any], Any], bias: Any, x: Any) -> Any:
    return multiply(x) + bias


def plain(weight: Tensor) -> Callable[[Tensor], Tensor]:
    return lambda x: F.linear(x, weight)


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
