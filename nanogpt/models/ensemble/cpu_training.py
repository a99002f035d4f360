"""An ensemble's training backend for a CPU: the members compute side by side, each with its share of the threads.

Threads that share an operation wait for each other after it, and an ensemble has M times as many operations as a
member. Side by side a member waits only at the end of its forward and of its backward pass.

It computes the same as `model.py`, with other masks of dropout: those of a member come from a generator of its own,
seeded from torch's random state, so that they do not depend on which member is faster.
"""

import math
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import chain
from typing import TYPE_CHECKING, Any, TypeVar

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from nanogpt.models.base import Output, TrainingBackend, compute_loss
from nanogpt.models.layers.dropout import own_random_state

if TYPE_CHECKING:
    from nanogpt.models.ensemble.config import Config
    from nanogpt.models.ensemble.model import Model
    from nanogpt.models.modern.model import Model as Member

Result = TypeVar("Result")


class CpuTraining(TrainingBackend):
    """The loss of an ensemble, with torch's number of threads at each call.

    Their greatest common divisor with the number of members is the number of members that compute at the same time. The
    random numbers do not depend on it.
    """

    name = "ensemble.cpu_training"

    def __init__(self, model: "Model") -> None:
        self.model = model
        self.pool = ThreadPoolExecutor(1)
        self.workers = 1

    @staticmethod
    def applies(config: "Config") -> bool:
        """Return whether dropout is the only thing of the members that is random."""
        return not (config.ngram_dropout or config.token_replacement or config.stochastic_depth)

    def __call__(self, ids: Tensor, targets: Tensor) -> Output:
        model = self.model
        if not model.training:
            return model(ids, targets)
        members = model.synchronized_members()
        workers = math.gcd(len(members), torch.get_num_threads())
        if workers != self.workers:
            self.pool, self.workers = ThreadPoolExecutor(workers), workers
        parameters = [list(member.parameters()) for member in members]
        losses = _Losses.apply(self, members, ids, targets, parameters, *chain(*parameters))  # type: ignore[no-untyped-call]
        return None, losses.mean()

    def side_by_side(self, function: Callable[..., Result], *arguments: Iterable[Any]) -> list[Result]:
        """Return the results of `function` for the arguments of each member, in order."""
        if self.workers == 1:
            return list(map(function, *arguments))
        threads = torch.get_num_threads()
        share, begun = threads // self.workers, list[int]()

        def call(*of_member: Any) -> Result:
            if torch.get_num_threads() != share:  # of this thread, at its first call
                torch.set_num_threads(share)
                begun.append(share)
            return function(*of_member)

        try:
            return list(self.pool.map(call, *arguments))
        finally:
            if begun:  # threads that begin later take over the number that was set last
                torch.set_num_threads(threads)


class _Losses(torch.autograd.Function):
    """The losses (M,) of the members."""

    @staticmethod
    def forward(
        ctx: Any,
        backend: CpuTraining,
        members: "list[Member]",
        ids: Tensor,
        targets: Tensor,
        parameters: list[list[Tensor]],
        *_: Tensor,
    ) -> Tensor:
        dtype, is_on = torch.get_autocast_dtype("cpu"), torch.is_autocast_enabled("cpu")

        def loss(member: "Member", seed: int) -> Tensor:
            with torch.enable_grad(), torch.autocast("cpu", dtype, enabled=is_on), own_random_state(seed):
                return compute_loss(member, ids, targets)

        seeds = torch.randint(2**62, (len(members),)).tolist()
        ctx.backend, ctx.parameters = backend, parameters
        ctx.losses = backend.side_by_side(loss, members, seeds)
        return torch.stack([each.detach() for each in ctx.losses])

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradients: Tensor) -> tuple[Tensor | None, ...]:
        def of_member(loss: Tensor, parameters: list[Tensor], gradient: Tensor) -> tuple[Tensor, ...]:
            return torch.autograd.grad(loss, parameters, gradient)

        losses, ctx.losses = ctx.losses, None
        each = ctx.backend.side_by_side(of_member, losses, ctx.parameters, gradients)
        return None, None, None, None, None, *chain(*each)
