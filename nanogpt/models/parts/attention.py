"""Causal attention on a CPU: plain matrix products, which reach the peak where torch's own kernel does not.

Knows nothing of architectures. In the shapes: B batch, nh heads, T positions, hs the size of a head, H = B·nh.
"""

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nanogpt.models.parts.dropout import cheap, draw, kept, scale_of


def causal_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """softmax(q·kᵀ / √hs)·v, each position seeing itself and those before; weights dropped with the probability
    `dropout`. All (B, nh, T, hs), of any strides and of one dtype."""
    if cheap(q) and q.size(2) > 1:
        return _Attention.apply(q, k, v, dropout)  # type: ignore[no-any-return, no-untyped-call]
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=q.size(2) > 1)


@lru_cache(maxsize=4)
def _future(T: int, dtype: torch.dtype) -> Tensor:
    """(T, T): -inf where a key comes after the query, else 0."""
    return torch.full((T, T), -math.inf).triu_(1).to(dtype)


class _Attention(torch.autograd.Function):
    """The softmax is remembered for the way back: H·T·T numbers, as much as T/hs tensors of q's size."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        B, nh, T, hs = q.shape
        q, k, v = (_packed(each, factor) for each, factor in ((q, hs**-0.5), (k, 1.0), (v, _scale(dropout))))
        p = torch.bmm(q, k.transpose(1, 2)).add_(_future(T, q.dtype))  # (H, T, T)
        p = torch.softmax(p, -1)
        ctx.dropout, ctx.drawn = dropout, draw(p.numel()) if dropout else None
        ctx.save_for_backward(q, k, v, p)
        used = kept(ctx.drawn, dropout, p).mul_(p) if dropout else p
        return torch.bmm(used, v).view(B, nh, T, hs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        shape = dy.shape
        q, k, v, p = ctx.saved_tensors
        dy = _packed(dy, 1.0)  # (H, T, hs)
        dp = torch.bmm(dy, v.transpose(1, 2))  # (H, T, T)
        used = p
        if ctx.dropout:
            mask = kept(ctx.drawn, ctx.dropout, p)
            dp.mul_(mask)
            used = mask.mul_(p)
        dv = torch.bmm(used.transpose(1, 2), dy)  # (H, T, hs)
        if ctx.dropout:
            dv.mul_(_scale(ctx.dropout))
        ds = torch.ops.aten._softmax_backward_data(dp, p, -1, p.dtype)  # (H, T, T)
        dq = torch.bmm(ds, k).mul_(q.size(2) ** -0.5)
        dk = torch.bmm(ds.transpose(1, 2), q)
        return dq.view(shape), dk.view(shape), dv.view(shape), None


def _scale(dropout: float) -> float:
    return scale_of(dropout) if dropout else 1.0


def _packed(x: Tensor, factor: float) -> Tensor:
    """x · factor as a contiguous (H, T, hs)."""
    B, nh, T, hs = x.shape
    out = x.new_empty(x.shape)
    if factor == 1.0:
        out.copy_(x)
    else:
        torch.mul(x, factor, out=out)
    return out.view(B * nh, T, hs)
