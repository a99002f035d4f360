"""The head and the cross-entropy loss together, on a CPU in chunks of rows with their gradients.

The logits of 16,384 tokens over GPT-2's vocabulary of 50,257 take 3.3 GB in float32, and so does each intermediate
result. Therefore each chunk of rows goes from logits to gradients before the next one starts. In the shapes: N tokens,
n of them in a chunk, C = n_embd, V = vocab_size.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nanogpt.models.layers.dropout import is_eager_cpu

IGNORE_INDEX = -1  # targets of this value do not count
CHUNK_ROWS = 1024  # rows of a matrix product
CHUNK_LOGITS = 1 << 22  # logits in a softmax, so that they stay in the cache of the CPU
MIN_PROBABILITY = 1e-30  # below it, log(softmax) loses precision in float32


def cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, cap: float = 0.0, smoothing: float = 0.0) -> Tensor:
    """Return the mean of -log softmax(x·weightᵀ) in nats over the targets that are not -1 (scalar).

    x: (B, T, C); weight: (V, C); targets: (B, T). cap: the bound of the logits (see `softcap`), 0 for none. smoothing:
    the share of the target's probability that is spread over all V tokens (Szegedy et al. 2016), as in torch.
    """
    x, targets = x.flatten(0, 1), targets.flatten()
    if not is_eager_cpu(x):
        logits = softcap(F.linear(x, weight).float(), cap)
        return F.cross_entropy(logits, targets, ignore_index=IGNORE_INDEX, label_smoothing=smoothing)
    if torch.is_autocast_enabled("cpu"):
        x, weight = (each.to(torch.get_autocast_dtype("cpu")) for each in (x, weight))
    return _CrossEntropy.apply(  # type: ignore[no-any-return, no-untyped-call]
        x, weight, targets, cap, smoothing, torch.is_grad_enabled()
    )


def softcap(logits: Tensor, cap: float) -> Tensor:
    """Return cap · tanh(logits / cap), which stays within ±cap (Gemma 2, 2024); for cap = 0 the logits themselves."""
    return cap * torch.tanh(logits / cap) if cap else logits


def chunked_cross_entropy(
    x: Tensor,
    weight: Tensor,
    targets: Tensor,
    cap: float,
    smoothing: float,
    needs_grad: bool,
    is_frozen: bool = False,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """Return the loss of `cross_entropy` for x (N, C) and targets (N), and its gradients for x and weight (V, C).

    The gradients have the dtypes of x and weight, but several chunks are summed in float32. They are None unless
    `needs_grad`, that of a frozen weight always.
    """
    counted = targets != IGNORE_INDEX
    count = int(counted.sum())
    scale = 1 / count if count else math.nan
    grad_x, grad_weight = torch.empty_like(x) if needs_grad else None, None
    loss = x.new_zeros((), dtype=accumulation_dtype(x))
    for begin in range(0, len(x), CHUNK_ROWS):
        chunk = slice(begin, begin + CHUNK_ROWS)
        logits = torch.mm(x[chunk], weight.t())  # (n, V)
        loss += _to_gradients(logits, targets[chunk], counted[chunk], cap, smoothing)
        if grad_x is not None:
            torch.addmm(grad_x[chunk], logits, weight, beta=0, alpha=scale, out=grad_x[chunk])
        if needs_grad and not is_frozen:
            product = torch.addmm(weight.t(), x[chunk].t(), logits, beta=0, alpha=scale)  # (C, V)
            grad_weight = product if grad_weight is None else grad_weight.to(accumulation_dtype(x)).add_(product)
    return loss * scale, grad_x, None if grad_weight is None else grad_weight.t()


def _to_gradients(logits: Tensor, targets: Tensor, counted: Tensor, cap: float, smoothing: float) -> Tensor:
    """Return the sum of the losses of logits (n, V), and overwrite the logits with its gradients."""
    columns, counted = (targets * counted)[:, None], counted[:, None]  # (n, 1)
    all_count, rows = bool(counted.all()), max(1, CHUNK_LOGITS // logits.size(1))
    losses = []
    for begin in range(0, len(logits), rows):
        part, column = logits[begin : begin + rows], columns[begin : begin + rows]
        z = softcap(part.to(accumulation_dtype(part)), cap) if cap else part
        p = torch.softmax(z, -1, dtype=accumulation_dtype(part))
        target_p = p.gather(1, column)
        log_p = target_p.log()
        if not (target_p > MIN_PROBABILITY).all():
            log_p = torch.log_softmax(z, -1, dtype=p.dtype).gather(1, column)
        p.scatter_(1, column, target_p - (1 - smoothing))
        if smoothing:
            z = z.to(p.dtype)
            mean_log_p = z.mean(1, keepdim=True) - z.gather(1, column) + log_p  # over all tokens
            log_p = (1 - smoothing) * log_p + smoothing * mean_log_p
            p.sub_(smoothing / p.size(1))
        if cap:
            p.addcmul_(p, z.div_(cap).square_(), value=-1)  # · (1 - tanh²)
        if not all_count:
            log_p, p = log_p * counted[begin : begin + rows], p.mul_(counted[begin : begin + rows])
        losses.append(log_p.sum())
        part.copy_(p)
    return -torch.stack(losses).sum()


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, cap: float, smoothing: float, needs_grad: bool
    ) -> Tensor:
        is_frozen = not ctx.needs_input_grad[1]
        loss, grad_x, grad_weight = chunked_cross_entropy(x, weight, targets, cap, smoothing, needs_grad, is_frozen)
        ctx.save_for_backward(grad_x, grad_weight)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        grad_x, grad_weight = ctx.saved_tensors
        if upstream != 1:
            grad_x = grad_x * upstream
            grad_weight = None if grad_weight is None else grad_weight * upstream
        return grad_x, grad_weight, None, None, None, None


def accumulation_dtype(x: Tensor) -> torch.dtype:
    """Return float32, or float64 if x has it."""
    return torch.promote_types(x.dtype, torch.float32)
