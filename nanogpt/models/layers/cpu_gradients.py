"""Elementwise parts of a model with gradients written by hand, for training on a CPU.

There autograd takes many passes over memory for them, and makes a whole array of zeros for each slice. Elsewhere
their callers use torch's operations.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nanogpt.models.layers.dropout import is_eager_cpu


def applies(x: Tensor) -> bool:
    """Return whether the functions of this module are to be used for x: on a CPU, where gradients are computed."""
    return torch.is_grad_enabled() and x.requires_grad and is_eager_cpu(x)


class ReluSquared(torch.autograd.Function):
    """max(x, 0)²."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        positive = x.relu()
        ctx.save_for_backward(positive)
        return positive * positive

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> Tensor:
        positive: Tensor = ctx.saved_tensors[0]
        return dy.mul(positive).mul_(2)


class Rotary(torch.autograd.Function):
    """See `apply_rotary`; the gradient is rotated back.

    Cosines and sines are first written out for all heads, so that each product is one long loop.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
        shape = x.shape[-cos.dim() :]
        cos = torch.cat((cos, cos), -1).expand(shape).contiguous()
        sin = torch.cat((-sin, sin), -1).expand(shape).contiguous()
        ctx.save_for_backward(cos, sin)
        ctx.dtype = x.dtype
        x = x.to(torch.promote_types(x.dtype, cos.dtype))
        return (x * cos).addcmul_(exchange_halves(x), sin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, None, None]:
        cos, sin = ctx.saved_tensors
        return (dy * cos).addcmul_(exchange_halves(dy), sin, value=-1).to(ctx.dtype), None, None


def exchange_halves(x: Tensor) -> Tensor:
    """Return x (…, n) with the two halves of its last dimension exchanged."""
    a, b = x.chunk(2, -1)
    return torch.cat((b, a), -1)


class CausalConvolution(torch.autograd.Function):
    """x (B, T, C) + Σ weight (n, 1, C)[i]·(x, i + 1 positions earlier)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor) -> Tensor:
        ctx.save_for_backward(x, weight)
        y = x.clone()
        for back, w in enumerate(weight, 1):
            y[:, back:].addcmul_(x[:, :-back], w)
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor, Tensor | None]:
        x, weight = ctx.saved_tensors
        dx, dw = dy.clone(), torch.empty_like(weight) if ctx.needs_input_grad[1] else None
        for back, w in enumerate(weight, 1):
            dx[:, :-back].addcmul_(dy[:, back:], w)
            if dw is not None:
                dw[back - 1] = (dy[:, back:] * x[:, :-back]).sum((0, 1))
        return dx, dw
