"""GPT-2's training backend for a CPU in 16 bits: the loss and its gradients as one autograd function.

It computes the same as `model.py`. All matrices are converted to 16 bits in one operation, those of the gradients of a
small model back in another, and all gradients are in one block of memory. In the shapes: N = B·T tokens, C = n_embd,
V = vocab_size.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, cast

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from nanogpt.heap import outside_heap
from nanogpt.models.base import Output, TrainingBackend
from nanogpt.models.flat_parameters import FlatParameters, split_like
from nanogpt.models.gpt2 import cpu_block
from nanogpt.models.layers.attention import attention_mask, mask_of_heads
from nanogpt.models.layers.cross_entropy import chunked_cross_entropy
from nanogpt.models.layers.dropout import apply_dropout, random_bytes

if TYPE_CHECKING:
    from nanogpt.models.gpt2.model import Gpt2Block, Model

CONVERTED_AT_ONCE = 1 << 24  # numbers of the blocks' matrices; of more each gradient is converted on its own


class CpuTraining(TrainingBackend):
    """The loss of a GPT-2 with matrix products in `dtype`.

    flat: the memory that the parameters share. If None, they share new memory from the first backward pass on.
    """

    name = "gpt2.cpu_training"
    fills_flat = True

    def __init__(self, model: "Model", dtype: torch.dtype, flat: FlatParameters | None = None) -> None:
        layers: list[nn.Linear | nn.LayerNorm] = []
        for b in cast("Iterable[Gpt2Block]", model.h):
            layers += (b.ln_1, b.attn.c_attn, b.attn.c_proj, b.ln_2, b.mlp.c_fc, b.mlp.c_proj)
        self.model, self.dtype = model, dtype
        layer_weights = [weight for layer in (*layers, model.ln_f) for weight in (layer.weight, layer.bias)]
        weights = [model.wte.weight, model.wpe.weight, *layer_weights]
        self.weights = cast("list[nn.Parameter | None]", weights)  # None for the bias of a layer without one
        self.present = [weight for weight in self.weights if weight is not None]
        self.matrices = [weight for weight in self.present if weight.dim() == 2]
        self.vectors = [weight for weight in self.present if weight.dim() == 1]
        self.flat = flat
        self.low: Tensor | None = None  # memory for the matrices in `dtype`

    def __call__(self, ids: Tensor, targets: Tensor) -> Output:
        return None, _Loss.apply(self, ids, targets, torch.is_grad_enabled(), *self.weights)  # type: ignore[no-untyped-call]

    def low_precision_weights(self) -> list[Any]:
        """Return the weights in order, with the matrices in `dtype`, None for a missing bias."""
        flat = self.flat.weights_of(self.matrices) if self.flat else None
        if flat is None:
            low = [matrix.detach().to(self.dtype) for matrix in self.matrices]
        else:
            if self.low is None:
                with outside_heap(), torch.inference_mode(False):
                    self.low = torch.empty_like(flat, dtype=self.dtype)
            low = split_like(self.low.copy_(flat), self.matrices)
        by_parameter = dict(zip(self.matrices, low, strict=True))
        return [weight if weight is None else by_parameter.get(weight, weight) for weight in self.weights]

    def new_gradients(self) -> tuple[list[Any], list[Any], list[Tensor], list[Tensor]]:
        """Return memory for gradients, with any content.

        That is: the gradients of the weights in order; the same, but those of the blocks' matrices in `dtype`; the
        gradients of the blocks' matrices as tensors of the first and of the second kind, to be copied from the second.
        If the blocks' matrices have more than `CONVERTED_AT_ONCE` numbers, all gradients are of the first kind.
        """
        if self.flat is None:
            self.flat = FlatParameters([*self.matrices, *self.vectors])
        memory, matrices = self.flat.new_gradients(), self.matrices[2:]  # without the embeddings
        wide = dict(zip(self.present, self.flat.views_of(memory, self.present), strict=True))
        gradients = [None if weight is None else wide[weight] for weight in self.weights]
        if (numbers := sum(matrix.numel() for matrix in matrices)) > CONVERTED_AT_ONCE:
            return gradients, gradients, [], []
        low = torch.empty(numbers, dtype=self.dtype)
        narrow = wide | dict(zip(matrices, split_like(low, matrices), strict=True))
        gradients_low = [None if weight is None else narrow[weight] for weight in self.weights]
        adjacent = self.flat.view(memory, matrices)
        if adjacent is not None:
            return gradients, gradients_low, [adjacent], [low]
        return gradients, gradients_low, [wide[matrix] for matrix in matrices], [narrow[matrix] for matrix in matrices]


class _Loss(torch.autograd.Function):
    """weights: `CpuTraining.weights`. needs_grad: whether a backward pass follows."""

    @staticmethod
    def forward(
        ctx: Any, backend: CpuTraining, ids: Tensor, targets: Tensor, needs_grad: bool, *weights: Tensor | None
    ) -> Tensor:
        config, low = backend.model.config, backend.low_precision_weights()
        mask = attention_mask(0, ids.size(1), ids.device, starts=backend.model.document_starts(ids))
        if mask is not None:
            mask = mask_of_heads(mask.to(backend.dtype), ids.size(0), config.n_head)
        (B, T), ids, targets = ids.shape, ids.flatten(), targets.flatten()
        n_head, dropout, dtype = config.n_head, config.dropout if backend.model.training else 0.0, backend.dtype
        wte, wpe = backend.model.wte.weight, backend.model.wpe.weight
        x = torch.embedding(wte, ids)  # (N, C)
        x.view(B, T, -1).add_(wpe[:T])
        random = random_bytes(x.numel()) if dropout else None
        if random is not None:
            x = apply_dropout(x, random, dropout)
        saved_blocks = []
        for w in _blocks(low):
            x, saved = cpu_block.forward(x, w, B, n_head, dropout, mask)
            if needs_grad:
                saved_blocks.append(saved)
        normed, mean, rstd = cpu_block.norm(x, low[-2], low[-1], dtype)  # (N, C)
        smoothing = backend.model.active_label_smoothing
        loss, grad_normed, grad_head = chunked_cross_entropy(normed, low[0], targets, 0.0, smoothing, needs_grad)
        if needs_grad:
            ctx.save_for_backward(ids, random, x, mean, rstd, grad_normed, grad_head)
            ctx.backend, ctx.saved_blocks, ctx.low, ctx.shape, ctx.dropout = backend, saved_blocks, low, (B, T), dropout
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        ids, random, x, mean, rstd, grad_normed, grad_head = ctx.saved_tensors
        low, (B, T) = ctx.low, ctx.shape
        gradients, grads, matrix_grads, matrix_grads_low = ctx.backend.new_gradients()

        if upstream != 1:
            grad_normed, grad_head = grad_normed * upstream, grad_head * upstream
        gradient = cpu_block.norm_backward(grad_normed, x, mean, rstd, *low[-2:], *grads[-2:])  # (N, C)
        for w, block_grads in zip(reversed(_blocks(low)), reversed(_blocks(grads)), strict=True):
            gradient = cpu_block.backward(
                gradient, ctx.saved_blocks.pop(), w, block_grads, B, ctx.backend.model.config.n_head, ctx.dropout
            )
        if matrix_grads:
            torch._foreach_copy_(matrix_grads, matrix_grads_low)
        if random is not None:
            gradient = apply_dropout(gradient, random, ctx.dropout)
        grad_wte, grad_wpe = gradients[:2]
        grad_wte.copy_(grad_head).index_add_(0, ids, gradient)
        torch.sum(gradient.view(B, T, -1), 0, out=grad_wpe[:T])
        grad_wpe[T:] = 0
        return None, None, None, None, *gradients


def _blocks(weights: list[Any]) -> list[cpu_block.Weights]:
    n = len(cpu_block.Weights._fields)
    return [cpu_block.Weights(*weights[place : place + n]) for place in range(2, len(weights) - 2, n)]
