"""Several processes that train one model, one a device, started by torchrun. Knows nothing of the loop that uses it.

Every process holds the whole model and sees other rows of each batch; gradients are averaged before each step. One
process alone is a world of one, for which all of this does nothing.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import distributed

from nanogpt.errors import SettingError, UserError


@dataclass(frozen=True, slots=True)
class World:
    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process reports, saves and takes commands."""
        return self.rank == 0


def rank() -> int:
    """This process's number among those that torchrun started; 0 where it did not. Raises `UserError`."""
    return _number("RANK") if "RANK" in os.environ else 0


def join(backend: str, device: str) -> World:
    """Joins the group that torchrun's environment describes; a world of one where there is none. Raises `UserError`."""
    if "RANK" not in os.environ:
        return World()
    world = World(rank(), _number("WORLD_SIZE"), _number("LOCAL_RANK"))
    on_gpu = device.startswith("cuda")
    chosen = backend if backend != "auto" else ("nccl" if on_gpu else "gloo")
    if chosen == "nccl" and not on_gpu:
        raise SettingError("backend", f"backend=nccl is for NVIDIA GPUs, and the device is {device}; use backend=auto")
    with _in_words():
        distributed.init_process_group(backend=chosen)
    return world


def _number(name: str) -> int:
    value = os.environ.get(name, "")
    if not value.isdecimal():
        raise UserError(f"the environment has {name}={value!r}: start several processes with torchrun, or unset RANK")
    return int(value)


@contextmanager
def _in_words() -> Iterator[None]:
    """Turns what the backend raises, which names addresses and lines of its source, into what a person can do."""
    try:
        yield
    except (RuntimeError, ValueError, OSError) as error:
        raise UserError(
            "the processes of this training cannot reach one another, or one of them has ended: see what the others "
            "said; start all of them with torchrun, and resume with init_from=resume"
        ) from error


@contextmanager
def left_after(world: World) -> Iterator[None]:
    """Ends the group after what is done inside, so that the next training in this process can join a new one."""
    try:
        yield
    finally:
        if world.size > 1:
            distributed.destroy_process_group()


def average_gradients(parameters: list[torch.nn.Parameter], world: World) -> None:
    """Replaces every gradient by its mean over the processes, in one message."""
    if world.size == 1:
        return
    gradients = [p.grad for p in parameters if p.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    with _in_words():
        distributed.all_reduce(flat)
    flat /= world.size
    for gradient, mean in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def total(values: torch.Tensor, world: World) -> torch.Tensor:
    """The sum over the processes."""
    if world.size > 1:
        with _in_words():
            distributed.all_reduce(values)
    return values


def agree(value: Any, world: World) -> Any:
    """The main process's value, everywhere."""
    if world.size == 1:
        return value
    box = [value]
    with _in_words():
        distributed.broadcast_object_list(box, src=0)
    return box[0]
