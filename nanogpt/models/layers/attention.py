"""Causal attention, on a CPU as plain matrix products, which are faster there than torch's kernel.

In the shapes: B batch, nh heads, T positions, hs the size of a head, H = B·nh.
"""

import math
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nanogpt.models.layers.dropout import dropout_scale, is_eager_cpu, keep_mask, random_bytes


def causal_attention(q: Tensor, k: Tensor, v: Tensor, dropout: float = 0.0) -> Tensor:
    """Return softmax(q·kᵀ / √hs)·v, in which a position attends to itself and earlier ones.

    All are (B, nh, T, hs), of any strides and one dtype. dropout: the probability of dropping an attention weight.
    """
    if is_eager_cpu(q) and q.size(2) > 1:
        return _Attention.apply(q, k, v, dropout)  # type: ignore[no-any-return, no-untyped-call]
    return F.scaled_dot_product_attention(q, k, v, dropout_p=dropout, is_causal=q.size(2) > 1)


def attention_forward(qkv: Tensor, dropout: float) -> tuple[Tensor, Tensor, Tensor | None]:
    """Return the result (H, T, hs), the attention weights before dropout (H, T, T), and the random bytes (H·T·T).

    qkv: (3, H, T, hs), contiguous. The bytes are None without dropout.
    """
    q, k, v = qkv.unbind(0)
    future = _causal_mask(q.size(1), q.dtype)
    p = torch.baddbmm(future, q, k.transpose(1, 2), alpha=q.size(2) ** -0.5)  # (H, T, T)
    torch.softmax(p, -1, out=p)
    if not dropout:
        return torch.bmm(p, v), p, None
    random = random_bytes(p.numel())
    return torch.bmm(keep_mask(random, dropout, p).mul_(p), v).mul_(dropout_scale(dropout)), p, random


def attention_backward(dy: Tensor, qkv: Tensor, p: Tensor, random: Tensor | None, dropout: float) -> Tensor:
    """Return the gradients of q, k, v (3, H, T, hs) for dy (H, T, hs), the gradient of the result.

    p, random: the attention weights and random bytes that `attention_forward` returned.
    """
    q, k, v = qkv.unbind(0)
    out = torch.empty_like(qkv)
    dq, dk, dv = out.unbind(0)
    weights, scale = p, q.size(2) ** -0.5
    if random is not None:
        dy = dy.mul(dropout_scale(dropout))
    dp = torch.bmm(dy, v.transpose(1, 2))  # (H, T, T)
    if random is not None:
        mask = keep_mask(random, dropout, p)
        dp.mul_(mask)
        weights = mask.mul_(p)
    torch.bmm(weights.transpose(1, 2), dy, out=dv)
    ds = torch.ops.aten._softmax_backward_data.out(dp, p, -1, p.dtype, grad_input=dp)  # (H, T, T)
    torch.baddbmm(dq, ds, k, beta=0, alpha=scale, out=dq)  # beta=0 ignores the first argument
    torch.baddbmm(dk, ds.transpose(1, 2), q, beta=0, alpha=scale, out=dk)
    return out


@lru_cache(maxsize=4)
def _causal_mask(T: int, dtype: torch.dtype) -> Tensor:
    """Return (1, T, T): -inf if the key comes after the query, else 0."""
    return torch.full((1, T, T), -math.inf).triu_(1).to(dtype)


class _Attention(torch.autograd.Function):
    """Keeps the attention weights for the backward pass: H·T·T numbers, T / hs times the size of q."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, dropout: float) -> Tensor:
        B, nh, T, hs = q.shape
        qkv = q.new_empty(3, B, nh, T, hs)
        qkv[0], qkv[1], qkv[2] = q, k, v
        qkv = qkv.view(3, B * nh, T, hs)
        y, p, random = attention_forward(qkv, dropout)
        ctx.dropout = dropout
        ctx.save_for_backward(qkv, p, random)
        return y.view(B, nh, T, hs)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        B, nh, T, hs = dy.shape
        qkv, p, random = ctx.saved_tensors
        dy = dy.reshape(B * nh, T, hs)
        dq, dk, dv = attention_backward(dy, qkv, p, random, ctx.dropout).view(3, B, nh, T, hs).unbind(0)
        return dq, dk, dv, None
