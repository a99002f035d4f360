"""GPT-2's loss in one piece for training on a CPU in 16 bits: what `nanogpt.models.gpt2.Model` says readably.

Matrices are converted to 16 bits, and their gradients back, all at once, and all gradients lie one behind another in
memory for whoever uses them next (see `packed.py`). In the shapes: N = B·T tokens, C = n_embd, V = vocab_size.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nanogpt.models.parts import block
from nanogpt.models.parts.cross_entropy import in_pieces
from nanogpt.models.parts.dropout import cheap, draw, dropped
from nanogpt.models.parts.packed import joined, parts


def fused_dtype(weight: Tensor) -> torch.dtype | None:
    """The 16 bits to multiply in, where a model of such weights does best in one piece; None where not."""
    if not cheap(weight) or weight.dtype != torch.float32 or not torch.is_autocast_enabled("cpu"):
        return None
    return torch.get_autocast_dtype("cpu")


def fused_loss(model: Any, ids: Tensor, targets: Tensor, dtype: torch.dtype) -> Tensor:
    """The loss of a `gpt2.Model` for ids and targets (B, T). Matrices are multiplied in `dtype`."""
    layers: list[Any] = []
    for b in model.h:
        layers += (b.ln_1, b.attn.c_attn, b.attn.c_proj, b.ln_2, b.mlp.c_fc, b.mlp.c_proj)
    weights = [weight for layer in (*layers, model.ln_f) for weight in (layer.weight, layer.bias)]
    dropout, keep = model.config.dropout if model.training else 0.0, torch.is_grad_enabled()
    return _Loss.apply(  # type: ignore[no-any-return, no-untyped-call]
        ids, targets, model.config.n_head, dropout, dtype, keep, model.wte.weight, model.wpe.weight, *weights
    )


class _Loss(torch.autograd.Function):
    """`weights`: of each layer, and its bias, None where it has none. `keep`: what the way back needs."""

    @staticmethod
    def forward(
        ctx: Any,
        ids: Tensor,
        targets: Tensor,
        n_head: int,
        dropout: float,
        dtype: torch.dtype,
        keep: bool,
        wte: Tensor,
        wpe: Tensor,
        *weights: Tensor | None,
    ) -> Tensor:
        (B, T), ids, targets = ids.shape, ids.flatten(), targets.flatten()
        low = _converted([wte, wpe, *weights], dtype)
        x = torch.embedding(wte, ids)  # (N, C)
        x.view(B, T, -1).add_(wpe[:T])
        drawn = draw(x.numel()) if dropout else None
        if drawn is not None:
            x = dropped(x, drawn, dropout)
        of_blocks = []
        for w in _blocks(low):
            x, of_block = block.forward(x, w, B, n_head, dropout)
            if keep:
                of_blocks.append(of_block)
        normed, mean, spread = block.norm(x, low[-2], low[-1], dtype)  # (N, C)
        loss, of_normed, of_head = in_pieces(normed, low[0], targets, 0.0, keep)
        if keep:
            ctx.save_for_backward(ids, drawn, x, mean, spread, of_normed, of_head)
            ctx.of_blocks, ctx.low, ctx.shape, ctx.n_head, ctx.dropout = of_blocks, low, (B, T), n_head, dropout
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        ids, drawn, x, mean, spread, of_normed, of_head = ctx.saved_tensors
        low, (B, T) = ctx.low, ctx.shape
        gradients, into, of_matrices, of_matrices_low = _room(low)

        if upstream != 1:
            of_normed, of_head = of_normed * upstream, of_head * upstream
        gradient = block.norm_back(of_normed, x, mean, spread, *low[-2:], *into[-2:])  # (N, C)
        for w, of_w in zip(reversed(_blocks(low)), reversed(_blocks(into)), strict=True):
            gradient = block.backward(gradient, ctx.of_blocks.pop(), w, of_w, B, ctx.n_head, ctx.dropout)
        of_matrices.copy_(of_matrices_low)
        if drawn is not None:
            gradient = dropped(gradient, drawn, ctx.dropout)
        of_wte, of_wpe = gradients[:2]
        of_wte.copy_(of_head).index_add_(0, ids, gradient)
        torch.sum(gradient.view(B, T, -1), 0, out=of_wpe[:T])
        of_wpe[T:] = 0
        return None, None, None, None, None, None, *gradients


def _blocks(weights: list[Any]) -> list[block.Weights]:
    n = len(block.Weights._fields)
    return [block.Weights(*weights[place : place + n]) for place in range(2, len(weights) - 2, n)]


def _converted(weights: list[Tensor | None], dtype: torch.dtype) -> list[Any]:
    """The weights, matrices in `dtype`."""
    matrices = [weight for weight in weights if weight is not None and weight.dim() == 2]
    flat = joined(matrices)
    low = [matrix.to(dtype) for matrix in matrices] if flat is None else parts(flat.to(dtype), matrices)
    by_id = dict(zip(map(id, matrices), low, strict=True))
    return [by_id.get(id(weight), weight) for weight in weights]


def _room(low: list[Any]) -> tuple[list[Any], list[Any], Tensor, Tensor]:
    """Where gradients go, of two embeddings and the weights of layers, whose matrices are in 16 bits: (for each; the
    same, with 16 bits for the layers' matrices; all of these in the first; all in the second). Matrices come first."""
    embeddings = low[:2]
    matrices = [weight for weight in low[2:] if weight is not None and weight.dim() == 2]
    vectors = [weight for weight in low if weight is not None and weight.dim() < 2]
    begin = sum(matrix.numel() for matrix in embeddings)
    end = begin + sum(matrix.numel() for matrix in matrices)
    flat = vectors[0].new_empty(end + sum(vector.numel() for vector in vectors))
    flat_low = matrices[0].new_empty(end - begin)
    there = [*embeddings, *matrices, *vectors]
    wide = dict(zip(map(id, there), parts(flat, there), strict=True))
    narrow = wide | dict(zip(map(id, matrices), parts(flat_low, matrices), strict=True))
    return [wide.get(id(w)) for w in low], [narrow.get(id(w)) for w in low], flat[begin:end], flat_low
