"""Data-parallel training by several processes, one for each device, started by torchrun.

Every process holds the whole model and gets other rows of each batch; gradients are averaged before each step. A single
process is a world of size 1, in which these functions do nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import distributed

from nanogpt.errors import SettingError, UserError

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class World:
    """The position of this process among the processes of a training."""

    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process reports, saves and takes commands."""
        return self.rank == 0


def rank() -> int:
    """Return the rank of this process, 0 without torchrun. Raise `UserError` for a bad RANK."""
    return _number("RANK") if "RANK" in os.environ else 0


def join_process_group(backend: str, device: str) -> World:
    """Join the process group that torchrun's environment describes. Without torchrun, return a world of size 1.

    backend: "auto", "nccl" or "gloo". Raise `UserError` if the environment or the backend does not fit, or if the
    processes cannot reach each other.
    """
    if "RANK" not in os.environ:
        return World()
    world = World(rank(), _number("WORLD_SIZE"), _number("LOCAL_RANK"))
    on_gpu = device.startswith("cuda")
    chosen = backend if backend != "auto" else ("nccl" if on_gpu else "gloo")
    if chosen == "nccl" and not on_gpu:
        raise SettingError("backend", f"backend=nccl is for NVIDIA GPUs, and the device is {device}; use backend=auto")
    with _readable_errors():
        distributed.init_process_group(backend=chosen)
    return world


def _number(name: str) -> int:
    value = os.environ.get(name, "")
    if not value.isdecimal():
        raise UserError(f"the environment has {name}={value!r}: start several processes with torchrun, or unset RANK")
    return int(value)


@contextmanager
def _readable_errors() -> Iterator[None]:
    """Replace errors of the backend, which name addresses and source lines, by a `UserError` that says what to do."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(
            "the processes of this training cannot reach each other, or one of them has ended: read the output of the "
            "others; start all of them with torchrun, and resume with init_from=resume"
        ) from error


@contextmanager
def leaving_process_group(world: World) -> Iterator[None]:
    """Destroy the process group at the end, so that the next training in this process can join a new one."""
    try:
        yield
    finally:
        if world.size > 1:
            distributed.destroy_process_group()


def average_gradients(parameters: list[torch.nn.Parameter], world: World) -> None:
    """Replace every gradient by its mean over the processes, with one all-reduce."""
    if world.size == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    with _readable_errors():
        distributed.all_reduce(flat)
    flat /= world.size
    for gradient, mean in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def all_reduce_sum(values: torch.Tensor, world: World) -> torch.Tensor:
    """Return the sum of `values` over the processes, of the same shape; `values` is overwritten."""
    if world.size > 1:
        with _readable_errors():
            distributed.all_reduce(values)
    return values


def broadcast_from_main(value: T, world: World) -> T:
    """Return the value of the main process in every process. All of them wait here for each other."""
    if world.size == 1:
        return value
    box = [value]
    with _readable_errors():
        distributed.broadcast_object_list(box, src=0)
    return box[0]
