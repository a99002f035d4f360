"""Causal attention, on a CPU as plain matrix products, which are faster there than torch's kernel.

There the queries of a long window are taken in blocks, each with the keys up to its last query: most of the later keys,
whose weights are zero, are not multiplied.

In the shapes: B batch, nh heads, T positions, hs the size of a head, H = B·nh.
"""

import math
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nanogpt.models import attention_recorder
from nanogpt.models.layers.costs import QUERY_BLOCK
from nanogpt.models.layers.dropout import dropout_scale, is_eager_cpu, keep_mask, random_bytes


class BlockWeights(NamedTuple):
    """The attention weights of a block of queries (H, queries, keys), before dropout.

    random: the bytes of their dropout mask, as many; None without dropout.
    """

    p: Tensor
    random: Tensor | None


def causal_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0, mask: Tensor | None = None) -> Tensor:
    """Return softmax(q·kᵀ / √hs + mask)·v (B, nh, T, hs), in which a position attends to itself and earlier ones.

    q: (B, nh, T, hs), k and v: (B, nh, S, hs), S > T if they include earlier positions; of any strides and one dtype.
    dropout: the probability of dropping an attention weight. mask: from `attention_mask`.
    """
    if mask is not None:
        mask = mask.to(q.dtype)
    # compiled code would depend on whether somebody looks, and be compiled again each time
    if not torch.compiler.is_compiling() and attention_recorder.current is not None:
        attention_recorder.record(q, k, mask)
    T = q.size(2)
    if is_eager_cpu(q) and 1 < T == k.size(2):
        return _Attention.apply(q, k, v, dropout, mask)  # type: ignore[no-any-return, no-untyped-call]
    is_causal = mask is None and bool(T > 1)  # torch.export has a symbol for T
    return F.scaled_dot_product_attention(q, k, v, mask, dropout, is_causal=is_causal)


def attention_mask(
    past: int,
    T: int,
    device: torch.device,
    window: int = 0,
    slopes: Sequence[float] = (),
    starts: Tensor | None = None,
) -> Tensor | None:
    """Return what is added to the scores of positions past … past + T - 1: (1 or nh, T, S), S = past + T.

    It is -inf for later positions and for those outside the last `window` ones (0: no limit). For the others it is 0,
    or minus the head's slope for each position of distance (`alibi_slopes`). None if `causal_attention` needs no mask.
    starts: from `document_starts`, without past; the result (B, 1 or nh, T, T) is -inf for other documents, too.
    """
    S = past + T
    is_local = 0 < window < S
    if not slopes and not is_local and starts is None and (T == 1 or not past):
        return None
    distance = torch.arange(past, S, device=device)[:, None] - torch.arange(S, device=device)  # (T, S)
    hidden = (distance < 0) | (distance >= window) if is_local else distance < 0
    bias = -torch.tensor(slopes or [0.0], device=device)[:, None, None] * distance  # (1 or nh, T, S)
    if starts is None:
        return bias.masked_fill(hidden, -math.inf)
    hidden = hidden | (torch.arange(T, device=device) < starts[:, :, None])  # (B, T, T)
    return bias.masked_fill(hidden[:, None], -math.inf)


def mask_of_heads(mask: Tensor, B: int, nh: int) -> Tensor:
    """Return a mask of `attention_mask` for `attention_forward`: (1 or H, T, T)."""
    if mask.dim() == 3 and mask.size(0) == 1:
        return mask
    return mask.expand(B, nh, *mask.shape[-2:]).reshape(B * nh, *mask.shape[-2:])


def attention_forward(qkv: Tensor, dropout: float, mask: Tensor | None = None) -> tuple[Tensor, list[BlockWeights]]:
    """Return the result (H, T, hs), and the attention weights of each block of queries, for `attention_backward`.

    qkv: (3, H, T, hs), contiguous. mask: (1 or H, T, T), added to the scores; None for the causal one. Either hides all
    later positions.
    """
    q, k, v = qkv.unbind(0)
    if mask is None:
        mask = _causal_mask(q.size(1), q.dtype)
    results, weights = [], []
    for begin, end in query_blocks(q.size(1)):
        queries, keys, values = rows(q, begin, end), rows(k, 0, end), rows(v, 0, end)
        hidden = mask if queries is q else mask[:, begin:end, :end]
        p = torch.baddbmm(hidden, queries, keys.transpose(1, 2), alpha=q.size(2) ** -0.5)
        torch.softmax(p, -1, out=p)  # (H, end - begin, end)
        random = random_bytes(p.numel()) if dropout else None
        kept = p if random is None else keep_mask(random, dropout, p).mul_(p)
        results.append(torch.bmm(kept, values))
        weights.append(BlockWeights(p, random))
    y = results[0] if len(results) == 1 else torch.cat(results, 1)
    return y.mul_(dropout_scale(dropout)) if dropout else y, weights


def attention_backward(dy: Tensor, qkv: Tensor, weights: Sequence[BlockWeights], dropout: float) -> Tensor:
    """Return the gradients of q, k, v (3, H, T, hs) for dy (H, T, hs), the gradient of the result.

    weights: those that `attention_forward` returned.
    """
    q, k, v = qkv.unbind(0)
    out = torch.empty_like(qkv)
    dq, dk, dv = out.unbind(0)
    scale = q.size(2) ** -0.5
    if dropout:
        dy = dy.mul(dropout_scale(dropout))
    blocks = zip(query_blocks(q.size(1)), weights, strict=True)
    for (begin, end), (p, random) in reversed(list(blocks)):
        beta = int(end < q.size(1))  # the last block has all keys: it writes dk and dv, the others add to them
        queries, keys, values, d = rows(q, begin, end), rows(k, 0, end), rows(v, 0, end), rows(dy, begin, end)
        dp, kept = torch.bmm(d, values.transpose(1, 2)), p  # (H, end - begin, end)
        if random is not None:
            kept = keep_mask(random, dropout, p)
            dp.mul_(kept)
            kept.mul_(p)
        if beta:
            dv[:, :end].baddbmm_(kept.transpose(1, 2), d)
        else:
            torch.bmm(kept.transpose(1, 2), d, out=dv)
        ds = torch.ops.aten._softmax_backward_data.out(dp, p, -1, p.dtype, grad_input=dp)
        rows(dq, begin, end).baddbmm_(ds, keys, beta=0, alpha=scale)
        rows(dk, 0, end).baddbmm_(ds.transpose(1, 2), queries, beta=beta, alpha=scale)  # beta=0 ignores what is there
    return out


def rows(x: Tensor, begin: int, end: int) -> Tensor:
    """Return x[:, begin:end]; x itself if that is all of it, as a view costs a short window some of its time."""
    return x if end - begin == x.size(1) else x[:, begin:end]


def query_blocks(T: int) -> list[tuple[int, int]]:
    """Return the first query of each block and the first one after it."""
    return [(begin, min(begin + QUERY_BLOCK, T)) for begin in range(0, T, QUERY_BLOCK)]


@lru_cache(maxsize=4)
def _causal_mask(T: int, dtype: torch.dtype) -> Tensor:
    """Return (1, T, T): -inf if the key comes after the query, else 0."""
    return torch.full((1, T, T), -math.inf).triu_(1).to(dtype)


class _Attention(torch.autograd.Function):
    """Keeps the attention weights for the backward pass: for long windows about half of H·T·T numbers."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, dropout: float, mask: Tensor | None) -> Tensor:
        B, nh, T, hs = q.shape
        qkv = q.new_empty(3, B, nh, T, hs)
        qkv[0], qkv[1], qkv[2] = q, k, v
        qkv = qkv.view(3, B * nh, T, hs)
        if mask is not None:
            mask = mask_of_heads(mask, B, nh)
        y, weights = attention_forward(qkv, dropout, mask)
        ctx.dropout = dropout
        ctx.save_for_backward(qkv, *chain.from_iterable(weights))
        return y.view(B, nh, T, hs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, ...]:
        B, nh, T, hs = dy.shape
        qkv, *saved = ctx.saved_tensors
        weights = [BlockWeights(p, random) for p, random in zip(saved[::2], saved[1::2], strict=True)]
        dy = dy.reshape(B * nh, T, hs)
        dq, dk, dv = attention_backward(dy, qkv, weights, ctx.dropout).view(3, B, nh, T, hs).unbind(0)
        return dq, dk, dv, None, None
