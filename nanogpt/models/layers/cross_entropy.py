"""The loss behind the last linear layer. On a CPU in pieces, and its gradients with it.

The logits of 16,384 tokens over the 50,257 of GPT-2 take 3.3 GB in 32 bits, and so does each thing that is made of
them. So some rows after the others are done, from logits to gradients. In the shapes: N tokens, n of them at a time,
C = n_embd, V = vocab_size.
"""

import math
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn import functional as F

from nanogpt.models.layers.dropout import cheap

IGNORED = -1  # the target whose loss does not count
ROWS = 1024  # multiplied at a time
NUMBERS = 1 << 22  # made of logits in 32 bits at a time, so that they stay in the CPU's cache
LEAST = 1e-30  # probabilities below it are near to what 32 bits cannot hold


def cross_entropy(x: Tensor, weight: Tensor, targets: Tensor, cap: float = 0.0) -> Tensor:
    """The mean in nats, over the targets (B, T) that are not -1, of -log softmax(x·weightᵀ), where x is (B, T, C) and
    weight (V, C). cap: what the size of logits is to stay below, by a tanh (see `capped`); 0: any size."""
    x, targets = x.flatten(0, 1), targets.flatten()
    if not cheap(x):
        return F.cross_entropy(capped(F.linear(x, weight).float(), cap), targets, ignore_index=IGNORED)
    if torch.is_autocast_enabled("cpu"):
        x, weight = (each.to(torch.get_autocast_dtype("cpu")) for each in (x, weight))
    return _CrossEntropy.apply(x, weight, targets, cap, torch.is_grad_enabled())  # type: ignore[no-any-return, no-untyped-call]


def capped(logits: Tensor, cap: float) -> Tensor:
    """cap · tanh(logits / cap): nearly the same while they are small, and never beyond ±cap; cap = 0: the same."""
    return cap * torch.tanh(logits / cap) if cap else logits


def in_pieces(
    x: Tensor, weight: Tensor, targets: Tensor, cap: float, keep: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(the loss of `cross_entropy` for x (N, C) and targets (N); its gradient of x (N, C); its gradient of weight
    (V, C)); no gradients where they are not to be kept.

    They are in the format of x and weight, but that of weight in 32 bits where it is added up of several pieces.
    """
    counted = targets != IGNORED
    count = int(counted.sum())
    scale = 1 / count if count else math.nan
    of_x, of_weight = torch.empty_like(x) if keep else None, None
    loss = x.new_zeros((), dtype=wider(x))
    for begin in range(0, len(x), ROWS):
        piece = slice(begin, begin + ROWS)
        logits = torch.mm(x[piece], weight.t())  # (n, V)
        loss += _to_gradients(logits, targets[piece], counted[piece], cap)
        if of_x is not None:
            torch.addmm(of_x[piece], logits, weight, beta=0, alpha=scale, out=of_x[piece])
            part = torch.addmm(weight.t(), x[piece].t(), logits, beta=0, alpha=scale)  # (C, V)
            of_weight = part if of_weight is None else of_weight.to(wider(x)).add_(part)
    return loss * scale, of_x, None if of_weight is None else of_weight.t()


def _to_gradients(logits: Tensor, targets: Tensor, counted: Tensor, cap: float) -> Tensor:
    """The sum of the losses of logits (n, V), which become its gradients of them."""
    at, counted = (targets * counted)[:, None], counted[:, None]  # (n, 1)
    everything, rows = bool(counted.all()), max(1, NUMBERS // logits.size(1))
    losses = []
    for begin in range(0, len(logits), rows):
        some, places = logits[begin : begin + rows], at[begin : begin + rows]
        z = capped(some.to(wider(some)), cap) if cap else some
        p = torch.softmax(z, -1, dtype=wider(some))
        of_targets = p.gather(1, places)
        log_p = of_targets.log()
        if not (of_targets > LEAST).all():
            log_p = torch.log_softmax(z, -1, dtype=p.dtype).gather(1, places)
        p.scatter_(1, places, of_targets - 1)
        if cap:
            p.addcmul_(p, z.div_(cap).square_(), value=-1)  # · (1 - tanh²)
        if not everything:
            log_p, p = log_p * counted[begin : begin + rows], p.mul_(counted[begin : begin + rows])
        losses.append(log_p.sum())
        some.copy_(p)
    return -torch.stack(losses).sum()


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, targets: Tensor, cap: float, keep: bool) -> Tensor:
        loss, of_x, of_weight = in_pieces(x, weight, targets, cap, keep)
        ctx.save_for_backward(of_x, of_weight)
        return loss

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, upstream: Tensor) -> tuple[Tensor | None, ...]:
        of_x, of_weight = ctx.saved_tensors
        if upstream != 1:
            of_x, of_weight = of_x * upstream, of_weight * upstream
        return of_x, of_weight, None, None, None


def wider(x: Tensor) -> torch.dtype:
    """32 bits, or more where x has more."""
    return torch.promote_types(x.dtype, torch.float32)
