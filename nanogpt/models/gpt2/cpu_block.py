"""GPT-2's block for training on a CPU in 16 bits: what `Block` in `model.py` computes, forward and backward.

Written out, so that torch keeps no books of the two dozen operations between, and no number is converted twice. In the
shapes: N = B·T tokens, C = n_embd, nh heads of hs, H = B·nh.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from nanogpt.models.layers.attention import attend, attend_back
from nanogpt.models.layers.dropout import draw, dropped, kept, scale_of
from nanogpt.models.layers.gelu import form_in

EPS = 1e-5  # of the norms


class Weights(NamedTuple):
    """Of a block, or their gradients: matrices in the 16 bits to multiply in, biases None where there are none."""

    ln_1: Tensor
    ln_1_bias: Tensor | None
    qkv: Tensor
    qkv_bias: Tensor | None
    proj: Tensor
    proj_bias: Tensor | None
    ln_2: Tensor
    ln_2_bias: Tensor | None
    fc: Tensor
    fc_bias: Tensor | None
    out: Tensor
    out_bias: Tensor | None


class SavedActivations(NamedTuple):
    """What the way back needs; `drawn`: what dropout drew, None where nothing is dropped."""

    x: Tensor  # (N, C), as `between`
    mean: Tensor
    spread: Tensor
    a: Tensor  # (N, C) in 16 bits, as `y` and `m`
    packed: Tensor  # (3, H, T, hs)
    p: Tensor  # (H, T, T)
    p_drawn: Tensor | None
    y: Tensor
    y_drawn: Tensor | None
    between: Tensor
    mean_2: Tensor
    spread_2: Tensor
    m: Tensor
    f: Tensor  # (N, 4C) in 16 bits, as `g`
    g: Tensor
    g_drawn: Tensor | None


def forward(x: Tensor, w: Weights, B: int, n_head: int, dropout: float) -> tuple[Tensor, SavedActivations]:
    """x (N, C) → the same, and what `backward` needs."""
    N, C = x.shape
    dtype = w.qkv.dtype
    a, mean, spread = norm(x, w.ln_1, w.ln_1_bias, dtype)  # (N, C)
    packed = a.new_empty(3, B, n_head, N // B, C // n_head)
    packed.copy_(_linear(a, w.qkv, w.qkv_bias).view(B, -1, 3, n_head, C // n_head).permute(2, 0, 3, 1, 4))
    packed = packed.view(3, B * n_head, N // B, -1)
    y, p, p_drawn = attend(packed, dropout)  # (H, T, hs)
    y = y.view(B, n_head, N // B, -1).transpose(1, 2).reshape(N, C)
    between, y_drawn = _added(x, _linear(y, w.proj, w.proj_bias), dropout)  # (N, C)
    m, mean_2, spread_2 = norm(between, w.ln_2, w.ln_2_bias, dtype)  # (N, C)
    f = _linear(m, w.fc, w.fc_bias)  # (N, 4C)
    g = torch.ops.aten.gelu(f, approximate=form_in(dtype))
    result, g_drawn = _added(between, _linear(g, w.out, w.out_bias), dropout)
    return result, SavedActivations(
        x, mean, spread, a, packed, p, p_drawn, y, y_drawn, between, mean_2, spread_2, m, f, g, g_drawn
    )


def backward(
    gradient: Tensor, k: SavedActivations, w: Weights, into: Weights, B: int, n_head: int, dropout: float
) -> Tensor:
    """The gradient of x (N, C) from that of the result, which is used up; those of the weights go into `into`."""
    N, C = gradient.shape
    dtype = k.a.dtype

    d = _taken(gradient, k.g_drawn, dropout, dtype)  # (N, C)
    _of_weights(d, k.g, into.out, into.out_bias)
    d = torch.mm(d, w.out)
    torch.ops.aten.gelu_backward.grad_input(d, k.f, approximate=form_in(dtype), grad_input=d)  # (N, 4C)
    _of_weights(d, k.m, into.fc, into.fc_bias)
    d = torch.mm(d, w.fc)
    gradient += norm_back(d, k.between, k.mean_2, k.spread_2, w.ln_2, w.ln_2_bias, into.ln_2, into.ln_2_bias)

    d = _taken(gradient, k.y_drawn, dropout, dtype)  # (N, C)
    _of_weights(d, k.y, into.proj, into.proj_bias)
    d = torch.mm(d, w.proj).view(B, N // B, n_head, -1).transpose(1, 2).reshape(B * n_head, N // B, -1)  # (H, T, hs)
    d = attend_back(d, k.packed, k.p, k.p_drawn, dropout)  # (3, H, T, hs)
    d = d.view(3, B, n_head, N // B, -1).permute(1, 3, 0, 2, 4).reshape(N, 3 * C)
    _of_weights(d, k.a, into.qkv, into.qkv_bias)
    d = torch.mm(d, w.qkv)
    gradient += norm_back(d, k.x, k.mean, k.spread, w.ln_1, w.ln_1_bias, into.ln_1, into.ln_1_bias)
    return gradient


def norm(x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """(x normalised, in `dtype`; mean; 1 / standard deviation)."""
    y, mean, spread = torch.native_layer_norm(x, (x.size(1),), weight, bias, EPS)
    return y.to(dtype), mean, spread


def norm_back(
    d: Tensor,
    x: Tensor,
    mean: Tensor,
    spread: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    into: Tensor,
    into_bias: Tensor | None,
) -> Tensor:
    """The gradient of x from that of the result, d; those of weight and bias go into `into` and `into_bias`."""
    asked = [True, True, bias is not None]
    dx, of_weight, of_bias = torch.ops.aten.native_layer_norm_backward(
        d.to(x.dtype), x, (x.size(1),), mean, spread, weight, bias, asked
    )
    into.copy_(of_weight)
    if into_bias is not None:
        into_bias.copy_(of_bias)
    return dx  # type: ignore[no-any-return]


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.mm(x, weight.t()) if bias is None else torch.addmm(bias.to(x.dtype), x, weight.t())


def _of_weights(d: Tensor, x: Tensor, into: Tensor, into_bias: Tensor | None) -> None:
    """Gradients of a linear layer's weight and bias, from those of its results d and from its inputs x."""
    torch.mm(d.t(), x, out=into)
    if into_bias is not None:
        torch.sum(d, 0, dtype=into_bias.dtype, out=into_bias)


def _added(x: Tensor, branch: Tensor, dropout: float) -> tuple[Tensor, Tensor | None]:
    """(x + the branch after dropout, what was drawn for it)."""
    if not dropout:
        return x + branch, None
    drawn = draw(branch.numel())
    return x.add(branch.mul_(kept(drawn, dropout, branch)), alpha=scale_of(dropout)), drawn


def _taken(gradient: Tensor, drawn: Tensor | None, dropout: float, dtype: torch.dtype) -> Tensor:
    """The gradient of `_added`'s branch, in `dtype`."""
    d = gradient.to(dtype)
    return d if drawn is None else dropped(d, drawn, dropout)
