"""GPT-2's block in one piece for training on a CPU in 16 bits: what `nanogpt.models.gpt2.Block` says readably.

Forward and backward are written out, so that torch keeps no books of the two dozen operations between, and no number is
converted twice. In the shapes: N = B·T tokens, C = n_embd, nh heads of hs, H = B·nh.
"""

from typing import Any, cast

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nanogpt.models.parts.attention import attend, attend_back
from nanogpt.models.parts.dropout import cheap, draw, kept, scale_of
from nanogpt.models.parts.gelu import form_in

EPS = 1e-5  # of the norms


def fused_dtype(x: Tensor) -> torch.dtype | None:
    """The 16 bits to multiply in, where a block whose input is x does best in one piece; None where not."""
    if not cheap(x) or x.dtype != torch.float32 or x.size(1) == 1 or not torch.is_autocast_enabled("cpu"):
        return None
    return torch.get_autocast_dtype("cpu")


def fused_block(x: Tensor, weights: list[Tensor | None], n_head: int, dropout: float, dtype: torch.dtype) -> Tensor:
    """x (B, T, C) float32 → the same. Matrices are multiplied in `dtype`.

    weights: of ln_1, c_attn, attn.c_proj, ln_2, c_fc, mlp.c_proj, each followed by its bias, None where it has none.
    """
    return _Block.apply(x, n_head, dropout, dtype, *weights)  # type: ignore[no-any-return, no-untyped-call]


class _Block(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, n_head: int, dropout: float, dtype: torch.dtype, *weights: Tensor | None
    ) -> Tensor:
        B, T, C = x.shape
        ln_1, ln_1b, *_, ln_2, ln_2b = weights[:8]
        qkv_w, proj_w, fc_w, out_w = (cast(Tensor, weights[place]).to(dtype) for place in (2, 4, 8, 10))
        qkv_b, proj_b, fc_b, out_b = (b if b is None else b.to(dtype) for b in weights[3:6:2] + weights[9:12:2])
        x = x.view(B * T, C)
        normed, mean, spread = torch.native_layer_norm(x, (C,), ln_1, ln_1b, EPS)
        a = normed.to(dtype)  # (N, C)
        packed = a.new_empty(3, B, n_head, T, C // n_head)
        packed.copy_(_linear(a, qkv_w, qkv_b).view(B, T, 3, n_head, -1).permute(2, 0, 3, 1, 4))
        packed = packed.view(3, B * n_head, T, -1)
        packed[0].mul_((C // n_head) ** -0.5)
        y, p, drawn_p = attend(packed, dropout)  # (H, T, hs)
        y = y.view(B, n_head, T, -1).transpose(1, 2).reshape(B * T, C)
        between, drawn_a = _added(x, _linear(y, proj_w, proj_b), dropout)  # (N, C)
        normed, mean_2, spread_2 = torch.native_layer_norm(between, (C,), ln_2, ln_2b, EPS)
        m = normed.to(dtype)  # (N, C)
        f = _linear(m, fc_w, fc_b)  # (N, 4C)
        g = torch.ops.aten.gelu(f, approximate=form_in(dtype))
        result, drawn_m = _added(between, _linear(g, out_w, out_b), dropout)
        norms = (x, mean, spread, ln_1, ln_1b, between, mean_2, spread_2, ln_2, ln_2b)
        drawn = (drawn_p, drawn_a, drawn_m)
        ctx.save_for_backward(*norms, *drawn, a, packed, p, y, m, f, g, qkv_w, proj_w, fc_w, out_w)
        ctx.dropout, ctx.shape = dropout, (B, T, C, n_head)
        return result.view(B, T, C)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        norms, (drawn_p, drawn_a, drawn_m) = ctx.saved_tensors[:10], ctx.saved_tensors[10:13]
        a, packed, p, y, m, f, g, qkv_w, proj_w, fc_w, out_w = ctx.saved_tensors[13:]
        dropout, (B, T, C, n_head) = ctx.dropout, ctx.shape
        dtype, needs = a.dtype, ctx.needs_input_grad[4:]
        gradient = gradient.reshape(B * T, C)

        d = _taken(gradient, drawn_m, dropout, dtype)  # (N, C)
        of_out = _of_weights(d, g, needs[11])
        d = torch.ops.aten.gelu_backward(torch.mm(d, out_w), f, approximate=form_in(dtype))  # (N, 4C)
        of_fc = _of_weights(d, m, needs[9])
        d_between, *of_ln_2 = _norm_back(torch.mm(d, fc_w), *norms[5:])
        d_between.add_(gradient)

        d = _taken(d_between, drawn_a, dropout, dtype)  # (N, C)
        of_proj = _of_weights(d, y, needs[5])
        d = torch.mm(d, proj_w).view(B, T, n_head, -1).transpose(1, 2).reshape(B * n_head, T, -1)  # (H, T, hs)
        d = attend_back(d, packed, p, drawn_p, dropout)  # (3, H, T, hs)
        d = d.view(3, B, n_head, T, -1).permute(1, 3, 0, 2, 4).reshape(B * T, 3 * C)
        of_qkv = _of_weights(d, a, needs[3])
        dx, *of_ln_1 = _norm_back(torch.mm(d, qkv_w), *norms[:5])
        dx.add_(d_between)
        return dx.view(B, T, C), None, None, None, *of_ln_1, *of_qkv, *of_proj, *of_ln_2, *of_fc, *of_out


def _linear(x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
    return torch.mm(x, weight.t()) if bias is None else torch.addmm(bias, x, weight.t())


def _of_weights(d: Tensor, x: Tensor, biased: bool) -> tuple[Tensor, Tensor | None]:
    """Gradients of a linear layer's weight and bias, from those of its results d and from its inputs x."""
    wide = torch.promote_types(d.dtype, torch.float32)
    return torch.mm(d.t(), x).to(wide), d.sum(0, dtype=wide) if biased else None


def _added(x: Tensor, branch: Tensor, dropout: float) -> tuple[Tensor, Tensor | None]:
    """(x + the branch after dropout, what was drawn for it)."""
    if not dropout:
        return x + branch, None
    drawn = draw(branch.numel())
    return x.add(branch.mul_(kept(drawn, dropout, branch)), alpha=scale_of(dropout)), drawn


def _taken(gradient: Tensor, drawn: Tensor | None, dropout: float, dtype: torch.dtype) -> Tensor:
    """The gradient of `_added`'s branch, in `dtype`."""
    d = gradient.to(dtype)
    return d if drawn is None else kept(drawn, dropout, d).mul_(d).mul_(scale_of(dropout))


def _norm_back(
    d: Tensor, x: Tensor, mean: Tensor, spread: Tensor, weight: Tensor, bias: Tensor | None
) -> tuple[Tensor, Tensor, Tensor | None]:
    asked = [True, True, bias is not None]
    return torch.ops.aten.native_layer_norm_backward(  # type: ignore[no-any-return]
        d.to(x.dtype), x, (x.size(1),), mean, spread, weight, bias, asked
    )
