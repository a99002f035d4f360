"""GPT-2's training backend for a CPU in 16 bits: the loss and its gradients in one piece.

It computes what `model.py` computes. Matrices are converted to 16 bits, and their gradients back, all at once, and all
gradients lie in one piece of memory for whoever uses them next. In the shapes: N = B·T tokens, C = n_embd,
V = vocab_size.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nanogpt.models.base import Output, TrainingBackend
from nanogpt.models.flat_parameters import FlatParameters, cut
from nanogpt.models.gpt2 import cpu_block
from nanogpt.models.layers.cross_entropy import in_pieces
from nanogpt.models.layers.dropout import draw, dropped

if TYPE_CHECKING:
    from nanogpt.models.gpt2.model import Block, Model


class CpuTraining(TrainingBackend):
    """The loss of a GPT-2 whose matrices are multiplied in `dtype`.

    flat: the memory that the model's parameters share; where they share none, they do from the first backward pass on.
    """

    name = "gpt2.cpu_training"

    def __init__(self, model: "Model", dtype: torch.dtype, flat: FlatParameters | None = None) -> None:
        layers: list[nn.Linear | nn.LayerNorm] = []
        for b in cast("Iterable[Block]", model.h):
            layers += (b.ln_1, b.attn.c_attn, b.attn.c_proj, b.ln_2, b.mlp.c_fc, b.mlp.c_proj)
        self.model, self.dtype = model, dtype
        of_layers = [weight for layer in (*layers, model.ln_f) for weight in (layer.weight, layer.bias)]
        weights = [model.wte.weight, model.wpe.weight, *of_layers]
        self.weights = cast("list[nn.Parameter | None]", weights)  # a layer has no bias, or one
        self.present = [weight for weight in self.weights if weight is not None]
        self.matrices = [weight for weight in self.present if weight.dim() == 2]
        self.vectors = [weight for weight in self.present if weight.dim() == 1]
        self.flat = flat

    def __call__(self, ids: Tensor, targets: Tensor) -> Output:
        return None, _Loss.apply(self, ids, targets, torch.is_grad_enabled(), *self.weights)  # type: ignore[no-untyped-call]

    def converted(self) -> list[Any]:
        """Return the weights in order, matrices in `dtype`, None where a layer has no bias."""
        flat = self.flat.weights_of(self.matrices) if self.flat else None
        if flat is None:
            low = [matrix.detach().to(self.dtype) for matrix in self.matrices]
        else:
            low = cut(flat.to(self.dtype), self.matrices)
        by_parameter = dict(zip(self.matrices, low, strict=True))
        return [weight if weight is None else by_parameter.get(weight, weight) for weight in self.weights]

    def room(self) -> tuple[list[Any], list[Any], list[Tensor], list[Tensor]]:
        """Return new memory for the gradients: (for each weight in order; the same, with `dtype` for the matrices of
        layers; these of the first; these of the second)."""
        if self.flat is None:
            self.flat = FlatParameters([*self.matrices, *self.vectors])
        memory, layers = self.flat.new_gradients(), self.matrices[2:]  # without the embeddings
        low = torch.empty(sum(matrix.numel() for matrix in layers), dtype=self.dtype)
        wide = dict(zip(self.present, self.flat.pieces(memory, self.present), strict=True))
        narrow = wide | dict(zip(layers, cut(low, layers), strict=True))
        each, each_low = ([None if w is None else room[w] for w in self.weights] for room in (wide, narrow))
        together = self.flat.view(memory, layers)
        if together is not None:
            return each, each_low, [together], [low]
        return each, each_low, [wide[matrix] for matrix in layers], [narrow[matrix] for matrix in layers]


class _Loss(torch.autograd.Function):
    """`weights`: those of `CpuTraining`, in its order. `keep`: whether the backward pass will be wanted."""

    @staticmethod
    def forward(ctx: Any, of: CpuTraining, ids: Tensor, targets: Tensor, keep: bool, *weights: Tensor | None) -> Tensor:
        (B, T), ids, targets = ids.shape, ids.flatten(), targets.flatten()
        config, low = of.model.config, of.converted()
        n_head, dropout, dtype = config.n_head, config.dropout if of.model.training else 0.0, of.dtype
        wte, wpe = of.model.wte.weight, of.model.wpe.weight
        x = torch.embedding(wte, ids)  # (N, C)
        x.view(B, T, -1).add_(wpe[:T])
        drawn = draw(x.numel()) if dropout else None
        if drawn is not None:
            x = dropped(x, drawn, dropout)
        of_blocks = []
        for w in _blocks(low):
            x, of_block = cpu_block.forward(x, w, B, n_head, dropout)
            if keep:
                of_blocks.append(of_block)
        normed, mean, spread = cpu_block.norm(x, low[-2], low[-1], dtype)  # (N, C)
        loss, of_normed, of_head = in_pieces(normed, low[0], targets, 0.0, keep)
        if keep:
            ctx.save_for_backward(ids, drawn, x, mean, spread, of_normed, of_head)
            ctx.of, ctx.of_blocks, ctx.low, ctx.shape, ctx.dropout = of, of_blocks, low, (B, T), dropout
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        ids, drawn, x, mean, spread, of_normed, of_head = ctx.saved_tensors
        low, (B, T) = ctx.low, ctx.shape
        gradients, into, of_matrices, of_matrices_low = ctx.of.room()

        if upstream != 1:
            of_normed, of_head = of_normed * upstream, of_head * upstream
        gradient = cpu_block.norm_back(of_normed, x, mean, spread, *low[-2:], *into[-2:])  # (N, C)
        for w, of_w in zip(reversed(_blocks(low)), reversed(_blocks(into)), strict=True):
            gradient = cpu_block.backward(
                gradient, ctx.of_blocks.pop(), w, of_w, B, ctx.of.model.config.n_head, ctx.dropout
            )
        torch._foreach_copy_(of_matrices, of_matrices_low)
        if drawn is not None:
            gradient = dropped(gradient, drawn, ctx.dropout)
        of_wte, of_wpe = gradients[:2]
        of_wte.copy_(of_head).index_add_(0, ids, gradient)
        torch.sum(gradient.view(B, T, -1), 0, out=of_wpe[:T])
        of_wpe[T:] = 0
        return None, None, None, None, *gradients


def _blocks(weights: list[Any]) -> list[cpu_block.Weights]:
    n = len(cpu_block.Weights._fields)
    return [cpu_block.Weights(*weights[place : place + n]) for place in range(2, len(weights) - 2, n)]
