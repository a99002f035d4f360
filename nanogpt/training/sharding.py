"""Parameters, gradients and optimizer state divided among the processes: PyTorch's `fully_shard` (FSDP2).

Each process keeps a part of the rows of every parameter. The parameters of a block are collected when it computes and
dropped after it; its gradients are summed into their parts as soon as they are complete, in every micro-batch, because
collecting them would take the memory that is saved (Rajbhandari et al. 2020, "ZeRO", stage 3; Zhao et al. 2023).

Checkpoints have the one format that every run has: the main process collects the tensors, one after another. PyTorch's
own distributed checkpoints describe their tensors in a pickle, which is not loaded here, and could be read only by it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from nanogpt.models.base import LanguageModel
from nanogpt.training.data_parallel import GradientAverage
from nanogpt.training.distributed import World, readable_errors


def shard(model: LanguageModel, world: World, device: str, *, compiled: bool) -> None:
    """Divide the parameters of a model on the CPU among the processes, in place, and move its part to `device`.

    compiled: compile each block.
    """
    from torch.distributed.device_mesh import init_device_mesh
    from torch.distributed.fsdp import fully_shard

    with readable_errors():
        mesh = init_device_mesh(device.partition(":")[0], (world.size,))
        for modules in [module for module in model.modules() if isinstance(module, nn.ModuleList)]:
            for block in modules:
                if any(isinstance(module, nn.ModuleList) for module in block.modules()):
                    continue  # its own blocks are divided
                if compiled:
                    block.compile()
                fully_shard(block, mesh=mesh)
        fully_shard(model, mesh=mesh)


def drop_collected(model: LanguageModel) -> None:
    """Drop the parameters outside the blocks that a forward pass has collected: a backward pass would do it."""
    from torch.distributed.fsdp import FSDPModule

    if isinstance(model, FSDPModule):
        model.reshard()


class ShardedGradients(GradientAverage):
    """The model itself averages the gradients of each micro-batch, so all processes need equally many."""

    @contextmanager
    def micro_batch(self, *, is_last: bool) -> Iterator[None]:
        with readable_errors():
            yield


def gathered(tensor: Tensor) -> Tensor:
    """Return the whole of a tensor that is divided among the processes, all of which have to call this; else itself."""
    if not is_sharded(tensor):
        return tensor
    with readable_errors():
        whole: Tensor = tensor.full_tensor()  # type: ignore[attr-defined]
    return whole


def placed_like(tensor: Tensor, parameter: Tensor) -> Tensor:
    """Return this process's part of a whole `tensor`, if `parameter` of the same shape is divided; else itself."""
    if not is_sharded(parameter) or tensor.shape != parameter.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = parameter.device_mesh, parameter.placements  # type: ignore[attr-defined]
    return distribute_tensor(tensor.to(parameter.device), mesh, placements, src_data_rank=None)


def is_sharded(tensor: Tensor) -> bool:
    """Return whether the values of a tensor are divided among the processes."""
    return hasattr(tensor, "placements")


def local_bytes(tensors: Sequence[Tensor]) -> int:
    """Return the memory that this process has for the tensors, in bytes."""
    parts = [tensor.to_local() if is_sharded(tensor) else tensor for tensor in tensors]  # type: ignore[attr-defined]
    return sum(part.numel() * part.element_size() for part in parts)


@torch.no_grad()
def whole_model(model: LanguageModel, world: World) -> LanguageModel | None:
    """Return a copy of a divided model on the CPU in the main process, None in the others. All have to call this."""
    weights = {}
    for name, tensor in model.state_dict().items():
        whole = gathered(tensor)
        if world.is_main:
            weights[name] = whole.cpu()
    if not world.is_main:
        return None
    return model.copy_with(weights)
