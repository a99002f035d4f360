"""Gradients averaged over the processes of a training, each of which holds the whole model.

PyTorch's `DistributedDataParallel` (DDP, Li et al. 2020) averages them in buckets, while the backward pass still
computes the others. A training backend that computes all gradients at once, in one block of memory, leaves nothing to
overlap: its block is averaged as it is, with one all-reduce and without DDP's copies. `benchmarks/distributed.py`
compares them.
"""

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from functools import partial
from typing import cast

import torch
from torch import Tensor, distributed, nn
from torch.nn.parallel import DistributedDataParallel

from nanogpt.models.base import Forward, LanguageModel, Output
from nanogpt.models.flat_parameters import FlatParameters
from nanogpt.training.distributed import World, readable_errors


class GradientAverage:
    """Averages the gradients of one process: it has nothing to do.

    forward: computes the loss of a micro-batch, as the model's `forward`.
    """

    def __init__(self, forward: Forward) -> None:
        self.forward = forward

    @contextmanager
    def micro_batch(self, *, is_last: bool) -> Iterator[None]:
        """Do the forward and the backward pass of a micro-batch in this context. is_last: of the step."""
        yield

    def complete(self, parameters: list[nn.Parameter]) -> None:
        """Make the gradients of the `parameters` their means over the processes, after the last micro-batch."""

    def close(self) -> None:
        """Release what belongs to the process group, before the process leaves it."""


class FlatAverage(GradientAverage):
    """Averages gradients after the backward pass, in one all-reduce; without a copy if they share their memory."""

    def __init__(self, forward: Forward, world: World, flat: FlatParameters | None = None) -> None:
        super().__init__(forward)
        self.world, self.flat = world, flat

    def complete(self, parameters: list[nn.Parameter]) -> None:
        shared = self.flat.gradients_of(self.flat.parameters) if self.flat is not None else None
        gradients = [p.grad for p in parameters if p.grad is not None]
        flat = torch.cat([gradient.flatten() for gradient in gradients]) if shared is None else shared
        with readable_errors():
            distributed.all_reduce(flat)
        flat /= self.world.size
        if shared is None:
            for gradient, mean in zip(gradients, torch.split(flat, [each.numel() for each in gradients]), strict=True):
                gradient.copy_(mean.view_as(gradient))


class BucketAverage(FlatAverage):
    """Averages gradients during the backward pass of the last micro-batch, with DDP; if none was the last, after it."""

    def __init__(self, model: LanguageModel, forward: Forward, world: World) -> None:
        with readable_errors():
            self.module = DistributedDataParallel(_Loss(model, forward), gradient_as_bucket_view=True)
        super().__init__(cast("Forward", self.module), world)
        self.is_averaged = False

    @contextmanager
    def micro_batch(self, *, is_last: bool) -> Iterator[None]:
        self.is_averaged = is_last
        with readable_errors(), nullcontext() if is_last else self.module.no_sync():
            yield

    def complete(self, parameters: list[nn.Parameter]) -> None:
        if not self.is_averaged:
            super().complete(parameters)

    def close(self) -> None:
        # As the last owners of the group they would destroy it without releasing Python's lock, while a thread of the
        # group may wait for that lock, and they for the thread.
        del self.module.logger, self.module.reducer


def gradient_average(
    model: LanguageModel, forward: Forward, world: World, flat: FlatParameters | None
) -> GradientAverage:
    """Return what averages the gradients of `forward`.

    flat: the memory in which a backward pass of `forward` returns all gradients at once, if it does.
    """
    if world.size == 1:
        return GradientAverage(forward)
    return BucketAverage(model, forward, world) if flat is None else FlatAverage(forward, world, flat)


class _Loss(nn.Module):
    """A module for DDP: it has the model's parameters and calls `forward`, which may be compiled."""

    def __init__(self, model: LanguageModel, forward: Forward) -> None:
        super().__init__()
        self.model = model
        self.loss = partial(forward)  # as an attribute, a module would be registered a second time

    def forward(self, ids: Tensor, targets: Tensor) -> Output:
        """See `LanguageModel.forward`."""
        return self.loss(ids, targets)
