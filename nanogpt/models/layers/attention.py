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

from nanogpt.models.layers.dropout import cheap, draw, kept, scale_of


def causal_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """softmax(q·kᵀ / √hs)·v, each position seeing itself and those before; weights dropped with the probability
    `dropout`. All (B, nh, T, hs), of any strides and of one dtype."""
    if cheap(q) and q.size(2) > 1:
        return _Attention.apply(q, k, v, dropout)  # type: ignore[no-any-return, no-untyped-call]
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=q.size(2) > 1)


def attend(packed: Tensor, dropout: float) -> tuple[Tensor, Tensor, Tensor | None]:
    """(result, weights before dropout, what was drawn for it): (H, T, hs), (H, T, T), (H·T·T).

    packed (3, H, T, hs): q, k, and v, contiguous.
    """
    q, k, v = packed.unbind(0)
    future = _future(q.size(1), q.dtype)
    p = torch.baddbmm(future, q, k.transpose(1, 2), alpha=q.size(2) ** -0.5)  # (H, T, T)
    torch.softmax(p, -1, out=p)
    if not dropout:
        return torch.bmm(p, v), p, None
    drawn = draw(p.numel())
    return torch.bmm(kept(drawn, dropout, p).mul_(p), v).mul_(scale_of(dropout)), p, drawn


def attend_back(dy: Tensor, packed: Tensor, p: Tensor, drawn: Tensor | None, dropout: float) -> Tensor:
    """The gradients of q, k, v (3, H, T, hs), from that of the result, dy (H, T, hs)."""
    q, k, v = packed.unbind(0)
    out = torch.empty_like(packed)
    dq, dk, dv = out.unbind(0)
    used, scale = p, q.size(2) ** -0.5
    if drawn is not None:
        dy = dy.mul(scale_of(dropout))
    dp = torch.bmm(dy, v.transpose(1, 2))  # (H, T, T)
    if drawn is not None:
        mask = kept(drawn, dropout, p)
        dp.mul_(mask)
        used = mask.mul_(p)
    torch.bmm(used.transpose(1, 2), dy, out=dv)
    ds = torch.ops.aten._softmax_backward_data.out(dp, p, -1, p.dtype, grad_input=dp)  # (H, T, T)
    torch.baddbmm(dq, ds, k, beta=0, alpha=scale, out=dq)  # of what is there nothing is kept
    torch.baddbmm(dk, ds.transpose(1, 2), q, beta=0, alpha=scale, out=dk)
    return out


@lru_cache(maxsize=4)
def _future(T: int, dtype: torch.dtype) -> Tensor:
    """(1, T, T): -inf where a key comes after the query, else 0."""
    return torch.full((1, T, T), -math.inf).triu_(1).to(dtype)


class _Attention(torch.autograd.Function):
    """The weights are remembered for the way back: H·T·T numbers, as much as T/hs tensors of q's size."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        B, nh, T, hs = q.shape
        packed = q.new_empty(3, B, nh, T, hs)
        packed[0], packed[1], packed[2] = q, k, v
        packed = packed.view(3, B * nh, T, hs)
        y, p, drawn = attend(packed, dropout)
        ctx.dropout = dropout
        ctx.save_for_backward(packed, p, drawn)
        return y.view(B, nh, T, hs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        B, nh, T, hs = dy.shape
        packed, p, drawn = ctx.saved_tensors
        dy = dy.reshape(B * nh, T, hs)
        dq, dk, dv = attend_back(dy, packed, p, drawn, ctx.dropout).view(3, B, nh, T, hs).unbind(0)
        return dq, dk, dv, None
