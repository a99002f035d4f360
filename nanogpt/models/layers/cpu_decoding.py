"""The decoding backend for a CPU of a transformer made of `Block`s: a prompt or one more position, but much faster.

One position of one sample runs in numpy (see `numpy_layers.py`). Everything else runs in torch without modules, and in
the last block only what the logits and the cache need. With `make_linear` (copies of the matrices in another format)
one sample runs in torch too, so that its text does not depend on the number of samples. Otherwise weights and cache are
the model's own, and its `forward` can continue after this step and vice versa.

In the shapes: B samples, T positions, C = n_embd, nh = n_head, nkv = n_kv_head, g = nh / nkv, hs = C / nh,
V = vocab_size, S = positions including those in the cache.
"""

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanogpt.models.base import DecodeStep, Floats, Ids, MakeLinear
from nanogpt.models.layers.activations import ACTIVATIONS
from nanogpt.models.layers.attention import attention_mask
from nanogpt.models.layers.cross_entropy import softcap
from nanogpt.models.layers.key_value_cache import KeyValueCache
from nanogpt.models.layers.numpy_layers import (
    NUMPY_ACTIVATIONS,
    as_numpy,
    numpy_linear,
    numpy_norm,
    rotary_tables,
    rotate,
    softmax,
)
from nanogpt.models.layers.positions import apply_rotary
from nanogpt.models.layers.transformer_block import MLP, AttentionHeads, Block, CausalSelfAttention

# From this size on, the keys of a layer exceed the CPU's cache: keys · query then reads them faster than query · keysᵀ.
KEYS_FROM_MEMORY = 1_250_000
QK_NORM_EPS = torch.finfo(torch.float32).eps  # what `F.rms_norm` adds by default


class Addable(Protocol):
    """A tensor or an array."""

    def __add__(self, other: Any, /) -> Any: ...


X = TypeVar("X", bound=Addable)


@dataclass(frozen=True)
class Transformer:
    """The parts of a transformer, as the backend needs them.

    positions: (block_size, C), added to the embeddings, which are first multiplied by `embedding_scale`; None for no
    such positions. blocks: with the number of positions that each one attends to. head: (V, C). rotary: cosine and sine
    (block_size, hs / 2) from `rotary_angles`. slopes: of the heads, from `alibi_slopes`. logit_cap: see `softcap`.
    """

    wte: Tensor
    positions: Tensor | None
    blocks: Sequence[tuple[Block[Any], int]]
    last_norm: nn.LayerNorm | None
    head: Tensor
    head_bias: Tensor | None = None
    embedding_scale: float = 1.0
    rotary: tuple[Tensor, Tensor] | None = None
    slopes: Sequence[float] = ()
    logit_cap: float = 0.0


def decode_step(model: Transformer, cache: KeyValueCache, make_linear: MakeLinear | None = None) -> DecodeStep:
    """Return the function from ids (B, T) to the logits (B, V) of the next token, which advances the cache.

    T is 1 unless the cache is empty. model: in float32 on the CPU, whose weights do not move while the function is in
    use. make_linear: builds the linear layers; None for plain ones.
    """
    return numpy_for_one_position(
        cache.keys_values.size(2) == 1 and make_linear is None,
        lambda: batched_step(model, cache, make_linear or torch_linear),
        lambda: single_step(model, cache),
    )


def numpy_for_one_position(
    use_numpy: bool,
    make_batched: Callable[[], Callable[[Tensor], Tensor]],
    make_single: Callable[[], Callable[[int], Floats]],
) -> DecodeStep:
    """Return the step of `make_batched`, from ids (B, T) to logits (B, V), except for one position with `use_numpy`.

    make_single: makes the step from one token to logits (V). Each of the two is made when it is first needed.
    """
    batched, single = functools.cache(make_batched), functools.cache(make_single)

    def step(ids: Ids) -> Floats:
        if use_numpy and ids.shape[1] == 1:
            return single()(int(ids[0, 0]))[None]
        return batched()(torch.from_numpy(ids)).numpy()

    return step


def torch_linear(weight: Tensor, bias: Tensor | None, activation: str) -> Callable[[Tensor], Tensor]:
    """Return a linear layer on the model's weights; see `MakeLinear`."""
    if activation == "gelu":
        return lambda x: F.gelu(F.linear(x, weight, bias), approximate="tanh")
    return lambda x: F.linear(x, weight, bias)


def block_step(
    block: Block[Any],
    attention: Callable[[X, int], X],
    mlp: Callable[[X], X],
    norms: Sequence[Callable[[X], X]],
    select: Callable[[X], X] = lambda x: x,
) -> Callable[[X, int], X]:
    """Return a block as a function of x and S, in torch or numpy. norms: before or after attention and MLP.

    select: takes from x the positions that `attention` returns.
    """
    ln_1, *ln_2 = norms
    second = ln_2[0] if ln_2 else ln_1

    def norm_before(x: X, S: int) -> X:
        update = attention(ln_1(x), S)
        x = select(x) + update if block.residual else update
        if not block.has_mlp:
            return x
        return x + mlp(second(x)) if block.residual else mlp(second(x))

    def norm_after(x: X, S: int) -> X:
        update = attention(x, S)
        x = ln_1(select(x) + update if block.residual else update)
        if not block.has_mlp:
            return x
        return second(x + mlp(x) if block.residual else mlp(x))

    return norm_after if block.norm_after else norm_before


def batched_step(model: Transformer, cache: KeyValueCache, make_linear: MakeLinear) -> Callable[[Tensor], Tensor]:
    """Return the step from ids (B, T) to logits (B, V) in torch."""
    scale = model.embedding_scale
    blocks: list[Callable[[Tensor, int], Tensor]] = []
    for (block, window), past in zip(model.blocks, cache.keys_values, strict=True):
        is_last = len(blocks) == len(model.blocks) - 1
        attention = torch_attention(model, block.attn, window, past, make_linear, is_last)
        mlp = torch_mlp(block.mlp, make_linear) if block.has_mlp else nn.Identity()
        norms = [norm.forward for norm in (block.ln_1, *([block.ln_2] if block.has_mlp else []))]
        blocks.append(block_step(block, attention, mlp, norms, (lambda x: x[:, -1:]) if is_last else (lambda x: x)))
    head = make_linear(model.head, model.head_bias, "none")

    def step(ids: Tensor) -> Tensor:
        S = cache.length + ids.size(1)
        x = F.embedding(ids, model.wte)  # (B, T, C)
        if scale != 1:
            x = x * scale
        if model.positions is not None:
            x = x + model.positions[cache.length : S]
        for block in blocks:
            x = block(x, S)
        cache.length = S
        x = x[:, -1]  # (B, C)
        return softcap(head(x if model.last_norm is None else model.last_norm.forward(x)), model.logit_cap)  # (B, V)

    return step


def torch_mlp(mlp: MLP, make_linear: MakeLinear) -> Callable[[Tensor], Tensor]:
    """Return an MLP as a function of x (B, T, C)."""
    is_gelu, activate = mlp.activation is ACTIVATIONS["gelu"], mlp.activation
    c_fc = make_linear(mlp.c_fc.weight, mlp.c_fc.bias, "gelu" if is_gelu else "none")
    c_proj = make_linear(mlp.c_proj.weight, mlp.c_proj.bias, "none")
    return (lambda x: c_proj(c_fc(x))) if is_gelu else (lambda x: c_proj(activate(c_fc(x))))


def torch_attention(
    model: Transformer, heads: AttentionHeads, window: int, past: Tensor, make_linear: MakeLinear, is_last: bool
) -> Callable[[Tensor, int], Tensor]:
    """Return attention as a function of x (B, T, C) and S; of the last position alone with `is_last`.

    past: keys and values of the layer in the cache, (2, B, nkv, block_size, hs).
    """
    nh, nkv = heads.n_head, heads.n_kv_head
    rotary, slopes = model.rotary, model.slopes
    c_attn = make_linear(heads.c_attn.weight, heads.c_attn.bias, "none")
    c_proj = projection(heads, make_linear)

    def attention(x: Tensor, S: int) -> Tensor:
        B, T, C = x.shape
        q, k, v = (
            c_attn(x).view(B, T, nh + 2 * nkv, -1).transpose(1, 2).split_with_sizes([nh, nkv, nkv], 1)
        )  # (B, n, T, hs)
        if heads.qk_norm:
            q, k = F.rms_norm(q, q.shape[-1:]), F.rms_norm(k, k.shape[-1:])
        if rotary is not None:
            cos, sin = rotary[0][S - T : S], rotary[1][S - T : S]
            q, k = apply_rotary(q, cos, sin), apply_rotary(k, cos, sin)
        past[0, :, :, S - T : S] = k
        past[1, :, :, S - T : S] = v
        if is_last:
            q = q[:, :, -1:]
        if q.size(2) == 1:
            y = one_query_attention(q, past[:, :, :, max(0, S - window) : S], slopes)  # (B, nh, 1, hs)
        else:
            mask = attention_mask(0, T, x.device, window, slopes)
            y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=mask is None, enable_gqa=nkv < nh)
        return c_proj(y.transpose(1, 2).reshape(B, -1, C))

    return attention


def projection(heads: AttentionHeads, make_linear: MakeLinear) -> Callable[[Tensor], Tensor]:
    """Return the projection of the heads into the residual stream, which is the identity if they have none."""
    if isinstance(heads, CausalSelfAttention):
        return make_linear(heads.c_proj.weight, heads.c_proj.bias, "none")
    return lambda x: x


def one_query_attention(q: Tensor, past: Tensor, slopes: Sequence[float] = ()) -> Tensor:
    """Return the attention (B, nh, 1, hs) of a query (B, nh, 1, hs) over the positions of `past`, the last its own.

    past: keys and values (2, B, nkv, S, hs). slopes: see `attention_mask`.
    """
    B, nh, _, hs = q.shape
    nkv, S = past.size(2), past.size(3)
    query = (q * hs**-0.5).reshape(B * nkv, -1, hs)  # (B · nkv, g, hs)
    keys, values = past.flatten(1, 2)  # 2 × (B · nkv, S, hs)
    if keys.numel() < KEYS_FROM_MEMORY:
        scores = torch.bmm(query, keys.transpose(1, 2))  # (B · nkv, g, S)
    else:
        scores = torch.bmm(keys, query.transpose(1, 2)).transpose(1, 2)
    if slopes:
        distance = torch.arange(1 - S, 1)  # (S), from the query to each key
        scores = (scores.reshape(B, nh, S) + torch.tensor(slopes)[:, None] * distance).view(B * nkv, -1, S)
    return torch.bmm(torch.softmax(scores, -1), values).view(q.shape)


def single_step(model: Transformer, cache: KeyValueCache) -> Callable[[int], Floats]:
    """Return the step from one token to logits (V) in numpy."""
    wte = as_numpy(model.wte)  # (V, C)
    positions = None if model.positions is None else as_numpy(model.positions)  # (block_size, C)
    rotary, blocks = None if model.rotary is None else rotary_tables(*model.rotary), []
    for (block, window), past in zip(model.blocks, as_numpy(cache.keys_values)[:, :, 0], strict=True):
        attention = numpy_attention(block.attn, window, past, rotary, model.slopes)
        norms = [numpy_norm(norm) for norm in (block.ln_1, *([block.ln_2] if block.has_mlp else []))]
        mlp = numpy_mlp(block.mlp) if block.has_mlp else (lambda x: x)
        blocks.append(block_step(block, attention, mlp, norms))
    last_norm = None if model.last_norm is None else numpy_norm(model.last_norm)
    head, scale = numpy_linear(model.head, model.head_bias), np.float32(model.embedding_scale)
    cap = np.float32(model.logit_cap)

    def step(token: int) -> Floats:
        S = cache.length + 1
        x = wte[token]  # (C)
        if scale != 1:
            x = x * scale
        if positions is not None:
            x = x + positions[S - 1]
        for block in blocks:
            x = block(x, S)
        cache.length = S
        logits = head(x if last_norm is None else last_norm(x))  # (V)
        return cap * np.tanh(logits / cap) if cap else logits

    return step


def numpy_mlp(mlp: MLP) -> Callable[[Floats], Floats]:
    """Return an MLP as a function of x (C)."""
    c_fc, c_proj = numpy_linear(mlp.c_fc.weight, mlp.c_fc.bias), numpy_linear(mlp.c_proj.weight, mlp.c_proj.bias)
    activate = NUMPY_ACTIVATIONS[mlp.activation]
    return lambda x: c_proj(activate(c_fc(x)))


def numpy_attention(
    heads: AttentionHeads,
    window: int,
    past: Floats,
    rotary: tuple[Floats, Floats] | None = None,
    slopes: Sequence[float] = (),
) -> Callable[[Floats, int], Floats]:
    """Return attention as a function of x (C) and S.

    past: keys and values of the layer in the cache, (2, nkv, block_size, hs). rotary: from `rotary_tables`.
    """
    keys, values = past
    nh, nkv, (_, block_size, hs) = heads.n_head, heads.n_kv_head, keys.shape
    scale = np.float32(hs**-0.5)
    c_attn = numpy_linear(heads.c_attn.weight, heads.c_attn.bias)
    c_proj = None
    if isinstance(heads, CausalSelfAttention):
        c_proj = numpy_linear(heads.c_proj.weight, heads.c_proj.bias)
    bias = None
    if slopes:  # (nkv, g, block_size), of the last key for the last number
        distance = np.arange(1 - block_size, 1, dtype=np.float32)
        bias = (np.array(slopes, np.float32)[:, None] * distance).reshape(nkv, -1, block_size)

    def attention(x: Floats, S: int) -> Floats:
        rows = c_attn(x).reshape(-1, hs)  # (nh + 2·nkv, hs)
        if heads.qk_norm:
            qk = rows[: nh + nkv]
            qk /= np.sqrt(np.add.reduce(qk * qk, 1, keepdims=True) / hs + QK_NORM_EPS)
        if rotary is not None:
            rotate(rows[: nh + nkv], rotary[0][S - 1], rotary[1][S - 1])
        keys[:, S - 1], values[:, S - 1] = rows[nh : nh + nkv], rows[nh + nkv :]
        first = S - window if window < S else 0
        query = (rows[:nh] * scale).reshape(nkv, -1, hs).transpose(0, 2, 1)  # (nkv, hs, g)
        scores = np.matmul(keys[:, first:S], query).transpose(0, 2, 1)  # (nkv, g, S)
        if bias is not None:
            scores += bias[..., first - S :]
        y = np.matmul(softmax(scores), values[:, first:S]).reshape(-1)  # (C)
        return y if c_proj is None else c_proj(y)

    return attention
