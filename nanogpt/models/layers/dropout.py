"""Dropout with fast random numbers on a CPU.

There torch draws each bit of a mask separately, which takes longer than the matrix products. Here one random byte
decides for one number, and eight bytes are drawn at a time. Each draw is seeded from torch's random state: restoring
that state restores the masks. p is rounded to a multiple of 1/256 (0.2 becomes 51/256), and the scale follows from the
rounded p.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional as F


class Dropout(nn.Module):
    """Like `torch.nn.Dropout`, but faster on a CPU, where it draws other masks."""

    def __init__(self, p: float) -> None:
        super().__init__()
        self.p = p

    def forward(self, x: Tensor) -> Tensor:
        """Return x, with dropout in training mode."""
        return dropout(x, self.p) if self.training and self.p else x


class RowDropout(nn.Module):
    """Sets whole rows to zero, each with probability p, in training mode.

    A row is all that follows the first `dims` dimensions. With `dims=1` on the branch of a block this is stochastic
    depth (Huang et al. 2016). scaled: the other rows are scaled up, so that the mean stays.
    """

    def __init__(self, p: float, dims: int, *, scaled: bool) -> None:
        super().__init__()
        self.p, self.dims, self.scale = p, dims, 1 / (1 - p) if scaled else 1.0

    def forward(self, x: Tensor) -> Tensor:
        """Return x (B, T, C), with some rows set to zero in training mode."""
        if not (self.training and self.p):
            return x
        rows = x.shape[: self.dims] + (1,) * (x.dim() - self.dims)
        factors = (torch.rand(rows, device=x.device) >= self.p) * self.scale
        return x * factors.to(x.dtype)


def dropout(x: Tensor, p: float) -> Tensor:
    """Return x with each number zeroed with probability p and the others scaled, so that the mean stays."""
    if not is_eager_cpu(x):
        return F.dropout(x, p)
    return _Dropout.apply(x, p)  # type: ignore[no-any-return, no-untyped-call]


def is_eager_cpu(x: Tensor) -> bool:
    """Return whether the implementations for a CPU apply to x: not within a graph that torch compiles."""
    return x.device.type == "cpu" and not torch.compiler.is_compiling()


def dropout_scale(p: float) -> float:
    """Return the factor 1 / (1 - p) for the numbers that are not dropped, with p rounded."""
    return 256 / (256 - _threshold(p))


class _RandomState(threading.local):
    generator: torch.Generator | None = None  # None: torch's own


_random_state = _RandomState()


@contextmanager
def own_random_state(seed: int) -> Iterator[None]:
    """Draw masks in this thread from a generator with this seed inside this context, not from torch's random state."""
    _random_state.generator = torch.Generator().manual_seed(seed)
    try:
        yield
    finally:
        _random_state.generator = None


def random_bytes(count: int) -> Tensor:
    """Return random bytes (count) for `keep_mask`: to keep them takes a quarter of the memory of a float32 mask."""
    seed = int(torch.randint(2**62, (), generator=_random_state.generator).item())
    words = np.random.SFC64(seed).random_raw(-(-count // 8))  # uint64
    return torch.from_numpy(words).view(torch.uint8)[:count]


def keep_mask(random: Tensor, p: float, like: Tensor) -> Tensor:
    """Return 0 for the numbers of `like` that are dropped and 1 for the others, in its shape and dtype."""
    mask = torch.empty(like.shape, dtype=like.dtype)
    return torch.ge(random.view(like.shape), _threshold(p), out=mask)


def apply_dropout(x: Tensor, random: Tensor, p: float) -> Tensor:
    """Return x, or its gradient, after dropout with the mask of these random bytes."""
    return keep_mask(random, p, x).mul_(x).mul_(dropout_scale(p))


def _threshold(p: float) -> int:
    return min(255, max(1, round(256 * p)))


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, p: float) -> Tensor:
        random = random_bytes(x.numel())
        ctx.p = p
        ctx.save_for_backward(random)
        return apply_dropout(x, random, p)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        (random,) = ctx.saved_tensors
        return apply_dropout(gradient, random, ctx.p), None
