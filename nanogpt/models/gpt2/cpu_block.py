"""GPT-2's block for training on a CPU in 16 bits, forward and backward.

It computes the same as `Block` in `layers/transformer_block.py`. The backward pass is written by hand: autograd has no
overhead for two dozen operations, and no number is converted twice. In the shapes: N = B·T tokens, C = n_embd, nh heads
of size hs, H = B·nh.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from nanogpt.models.layers.attention import BlockWeights, attention_backward, attention_forward
from nanogpt.models.layers.dropout import apply_dropout, dropout_scale, keep_mask, random_bytes
from nanogpt.models.layers.gelu import gelu_form

EPS = 1e-5  # of the norms


class Weights(NamedTuple):
    """The weights of a block, or their gradients: matrices in 16 bits, gradients also in float32; None: no bias."""

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
    """What the backward pass needs. The `_random` fields are the bytes of dropout masks, None without dropout."""

    x: Tensor  # (N, C), as `between`
    mean: Tensor
    rstd: Tensor
    a: Tensor  # (N, C) in 16 bits, as `y` and `m`
    qkv: Tensor  # (3, H, T, hs)
    weights: list[BlockWeights]  # of attention
    y: Tensor
    y_random: Tensor | None
    between: Tensor
    mean_2: Tensor
    rstd_2: Tensor
    m: Tensor
    f: Tensor  # (N, 4C) in 16 bits, as `g`
    g: Tensor
    g_random: Tensor | None


def forward(
    x: Tensor, w: Weights, B: int, n_head: int, dropout: float, mask: Tensor | None = None
) -> tuple[Tensor, SavedActivations]:
    """Return the block's result (N, C) for x (N, C), and what `backward` needs.

    B: batch size. dropout: probability, 0 in evaluation. mask: see `attention_forward`.
    """
    N, C = x.shape
    dtype = w.qkv.dtype
    a, mean, rstd = norm(x, w.ln_1, w.ln_1_bias, dtype)  # (N, C)
    qkv = a.new_empty(3, B, n_head, N // B, C // n_head)
    qkv.copy_(_linear(a, w.qkv, w.qkv_bias).view(B, -1, 3, n_head, C // n_head).permute(2, 0, 3, 1, 4))
    qkv = qkv.view(3, B * n_head, N // B, -1)
    y, weights = attention_forward(qkv, dropout, mask)  # (H, T, hs)
    y = y.view(B, n_head, N // B, -1).transpose(1, 2).reshape(N, C)
    between, y_random = _residual_add(x, _linear(y, w.proj, w.proj_bias), dropout)  # (N, C)
    m, mean_2, rstd_2 = norm(between, w.ln_2, w.ln_2_bias, dtype)  # (N, C)
    f = _linear(m, w.fc, w.fc_bias)  # (N, 4C)
    g = torch.ops.aten.gelu(f, approximate=gelu_form(dtype))
    result, g_random = _residual_add(between, _linear(g, w.out, w.out_bias), dropout)
    return result, SavedActivations(
        x, mean, rstd, a, qkv, weights, y, y_random, between, mean_2, rstd_2, m, f, g, g_random
    )


def backward(
    gradient: Tensor, saved: SavedActivations, w: Weights, grads: Weights, B: int, n_head: int, dropout: float
) -> Tensor:
    """Return the gradient of x (N, C), and write those of the weights to `grads`.

    gradient: of the block's result (N, C); overwritten. saved: from `forward`.
    """
    N, C = gradient.shape
    dtype = saved.a.dtype

    d = _residual_backward(gradient, saved.g_random, dropout, dtype)  # (N, C)
    _linear_backward(d, saved.g, grads.out, grads.out_bias)
    d = torch.mm(d, w.out)
    torch.ops.aten.gelu_backward.grad_input(d, saved.f, approximate=gelu_form(dtype), grad_input=d)  # (N, 4C)
    _linear_backward(d, saved.m, grads.fc, grads.fc_bias)
    d = torch.mm(d, w.fc)
    gradient += norm_backward(
        d, saved.between, saved.mean_2, saved.rstd_2, w.ln_2, w.ln_2_bias, grads.ln_2, grads.ln_2_bias
    )

    d = _residual_backward(gradient, saved.y_random, dropout, dtype)  # (N, C)
    _linear_backward(d, saved.y, grads.proj, grads.proj_bias)
    d = torch.mm(d, w.proj).view(B, N // B, n_head, -1).transpose(1, 2).reshape(B * n_head, N // B, -1)  # (H, T, hs)
    d = attention_backward(d, saved.qkv, saved.weights, dropout)  # (3, H, T, hs)
    d = d.view(3, B, n_head, N // B, -1).permute(1, 3, 0, 2, 4).reshape(N, 3 * C)
    _linear_backward(d, saved.a, grads.qkv, grads.qkv_bias)
    d = torch.mm(d, w.qkv)
    gradient += norm_backward(d, saved.x, saved.mean, saved.rstd, w.ln_1, w.ln_1_bias, grads.ln_1, grads.ln_1_bias)
    return gradient


def norm(x: Tensor, weight: Tensor, bias: Tensor | None, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor]:
    """Return LayerNorm of x (N, C) in `dtype`, and its mean and 1 / standard deviation (N, 1)."""
    y, mean, rstd = torch.native_layer_norm(x, (x.size(1),), weight, bias, EPS)
    return y.to(dtype), mean, rstd


def norm_backward(
    d: Tensor,
    x: Tensor,
    mean: Tensor,
    rstd: Tensor,
    weight: Tensor,
    bias: Tensor | None,
    grad_w: Tensor,
    grad_b: Tensor | None,
) -> Tensor:
    """Return the gradient of x (N, C) for d, the result's; write those of weight and bias to `grad_w` and `grad_b`."""
    mask = [True, True, bias is not None]
    dx, grad_weight, grad_bias = torch.ops.aten.native_layer_norm_backward(
        d.to(x.dtype), x, (x.size(1),), mean, rstd, weight, bias, mask
    )
    grad_w.copy_(grad_weight)
    if grad_b is not None:
        grad_b.copy_(grad_bias)
    return dx  # type: ignore[no-any-return]


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.mm(x, weight.t()) if bias is None else torch.addmm(bias.to(x.dtype), x, weight.t())


def _linear_backward(d: Tensor, x: Tensor, grad_w: Tensor, grad_b: Tensor | None) -> None:
    """Write the gradients of a linear layer's weight and bias, for d of its results and x of its inputs."""
    if grad_w.dtype == d.dtype:
        torch.mm(d.t(), x, out=grad_w)
    else:
        grad_w.copy_(torch.mm(d.t(), x))
    if grad_b is not None:
        torch.sum(d, 0, dtype=grad_b.dtype, out=grad_b)


def _residual_add(x: Tensor, branch: Tensor, dropout: float) -> tuple[Tensor, Tensor | None]:
    """Return x + dropout(branch), and the random bytes of the mask."""
    if not dropout:
        return x + branch, None
    random = random_bytes(branch.numel())
    return x.add(branch.mul_(keep_mask(random, dropout, branch)), alpha=dropout_scale(dropout)), random


def _residual_backward(gradient: Tensor, random: Tensor | None, dropout: float, dtype: torch.dtype) -> Tensor:
    """Return the gradient of the branch of `_residual_add`, in `dtype`."""
    d = gradient.to(dtype)
    return d if random is None else apply_dropout(d, random, dropout)
