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


@dataclass(frozen=True, slots=True)
class World:
    rank: int = 0
    size: int = 1
    local_rank: int = 0

    @property
    def is_main(self) -> bool:
        """Whether this process reports, saves and reads the mailbox."""
        return self.rank == 0


def rank() -> int:
    """This process's number among those that torchrun started; 0 where it did not."""
    return int(os.environ.get("RANK", "0"))


def join(backend: str, device: str) -> World:
    """Joins the group that torchrun's environment describes; a world of one where there is none."""
    if "RANK" not in os.environ:
        return World()
    world = World(rank(), int(os.environ["WORLD_SIZE"]), int(os.environ["LOCAL_RANK"]))
    chosen = backend if backend != "auto" else ("nccl" if device.startswith("cuda") else "gloo")
    distributed.init_process_group(backend=chosen)
    return world


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
    distributed.all_reduce(flat)
    flat /= world.size
    for gradient, mean in zip(gradients, torch.split(flat, [gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def total(values: torch.Tensor, world: World) -> torch.Tensor:
    """The sum over the processes."""
    if world.size > 1:
        distributed.all_reduce(values)
    return values


def agree(value: Any, world: World) -> Any:
    """The main process's value, everywhere."""
    if world.size == 1:
        return value
    box = [value]
    distributed.broadcast_object_list(box, src=0)
    return box[0]
