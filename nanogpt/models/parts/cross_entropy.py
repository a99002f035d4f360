"""The loss behind the last linear layer, and its gradients with it, in pieces: on a CPU, in 16 bits.

The logits of 16,384 tokens over the 50,257 of GPT-2 take 3.3 GB in 32 bits, and so does each thing that is made of
them. So some rows after the others are done, from logits to gradients. In the shapes: N tokens, n of them at a time,
C = n_embd, V = vocab_size.
"""

import math

import torch
from torch import Tensor

IGNORED = -1  # the target whose loss does not count
ROWS = 1024  # multiplied at a time
NUMBERS = 1 << 22  # made of logits in 32 bits at a time, so that they stay in the CPU's cache
LEAST = 1e-30  # probabilities below it are near to what 32 bits cannot hold


def cross_entropy(
    x: Tensor, weight: Tensor, targets: Tensor, keep: bool
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    """(the mean over targets (N), but those that are -1, of -log softmax(x·weightᵀ) in nats; its gradient of x (N, C);
    its gradient of weight (V, C)); no gradients where they are not to be kept.

    x and weight are in 16 bits; so are their gradients, but that of weight where it is added up of several pieces.
    """
    counted = targets != IGNORED
    count = int(counted.sum())
    scale = 1 / count if count else math.nan
    of_x, of_weight = torch.empty_like(x) if keep else None, None
    loss = x.new_zeros((), dtype=wider(x))
    for begin in range(0, len(x), ROWS):
        piece = slice(begin, begin + ROWS)
        logits = torch.mm(x[piece], weight.t())  # (n, V)
        loss += _to_gradients(logits, targets[piece], counted[piece])
        if of_x is not None:
            torch.addmm(of_x[piece], logits, weight, beta=0, alpha=scale, out=of_x[piece])
            part = torch.addmm(weight.t(), x[piece].t(), logits, beta=0, alpha=scale)  # (C, V)
            of_weight = part if of_weight is None else of_weight.to(wider(x)).add_(part)
    return loss * scale, of_x, None if of_weight is None else of_weight.t()


def _to_gradients(logits: Tensor, targets: Tensor, counted: Tensor) -> Tensor:
    """The sum of the losses of logits (n, V), which become its gradients of them."""
    at, counted = (targets * counted)[:, None], counted[:, None]  # (n, 1)
    everything, rows = bool(counted.all()), max(1, NUMBERS // logits.size(1))
    losses = []
    for begin in range(0, len(logits), rows):
        some, places = logits[begin : begin + rows], at[begin : begin + rows]
        p = torch.softmax(some, -1, dtype=wider(some))
        of_targets = p.gather(1, places)
        log_p = of_targets.log()
        if not (of_targets > LEAST).all():
            log_p = torch.log_softmax(some, -1, dtype=p.dtype).gather(1, places)
        p.scatter_(1, places, of_targets - 1)
        if not everything:
            log_p, p = log_p * counted[begin : begin + rows], p.mul_(counted[begin : begin + rows])
        losses.append(log_p.sum())
        some.copy_(p)
    return -torch.stack(losses).sum()


def wider(x: Tensor) -> torch.dtype:
    """32 bits, or more where x has more."""
    return torch.promote_types(x.dtype, torch.float32)
