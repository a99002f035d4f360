"""What a training runs on: device, number format, compilation, threads, processes, each chosen or as set.

Knows nothing of the loop.
"""

from contextlib import AbstractContextManager
from dataclasses import dataclass

import torch

from nanogpt import hardware
from nanogpt.config import Config
from nanogpt.errors import SettingError, UserError
from nanogpt.training.distributed import World, join
from nanogpt.training.estimate import memory


@dataclass(frozen=True, slots=True)
class Runtime:
    """`peak_flops` is the FLOP/s of all processes' devices together, None where unknown; `choices` says why what."""

    device: str
    dtype: str
    compile: bool
    threads: int
    world: World
    peak_flops: float | None
    choices: dict[str, str]

    def autocast(self) -> AbstractContextManager[object]:
        """Within it, matrices are multiplied in `dtype`."""
        return hardware.autocast(self.device, self.dtype)


def resolve_runtime(config: Config) -> Runtime:
    """Makes every choice that the configuration leaves open, and readies torch for it in this thread.

    Raises `SettingError`.
    """
    system, shape = config.system, config.model
    device = hardware.resolve_device(system.device)
    world = join(system.backend, device)
    if config.data.gradient_accumulation_steps % world.size:
        raise SettingError(
            "gradient_accumulation_steps",
            f"gradient_accumulation_steps={config.data.gradient_accumulation_steps}: the micro-batches are shared "
            f"among {world.size} processes; make it a multiple of {world.size}",
        )
    if world.size > 1 and device == "cuda":
        device = f"cuda:{world.local_rank}"
    if device.startswith("cuda"):
        torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
    threads = hardware.resolve_threads(system.threads)
    torch.set_num_threads(threads)
    micro_batch = config.data.batch_size * shape.block_size
    dtype, why_dtype = hardware.resolve_dtype(system.dtype, device, width=shape.width, tokens=micro_batch)
    compiled, why_compiled = hardware.resolve_compile(
        system.compile,
        device,
        dtype=dtype,
        tokens=config.schedule.max_iters * config.tokens_per_iteration,
        flops_per_token=shape.flops_per_token(),
        estimate=shape.compile_estimate(dtype),
    )
    peak = hardware.peak_flops(device, dtype)
    choices = {name: why for name, why in (("dtype", why_dtype), ("compile", why_compiled)) if why}
    return Runtime(device, dtype, compiled, threads, world, peak * world.size if peak else None, choices)


def check_memory(config: Config, dtype: str, device: str) -> None:
    """Raises `UserError` for a training that cannot fit, before the system ends the process for trying."""
    needed, there = memory(config, dtype, device), hardware.total_memory(device)
    if there is None or needed.total <= there:
        return
    takes = (
        f"out of memory: this training takes about {needed.total / 1e9:,.0f} GB, and {device} has {there / 1e9:,.0f} GB"
    )
    if needed.total - needed.activations > there:
        raise UserError(f"{takes}: choose a smaller model")
    raise UserError(f"{takes}: {less_memory(config)}")


def less_memory(config: Config) -> str:
    """Return what to change of a training that takes too much memory, in words."""
    rows, context = config.data.batch_size, config.model.block_size
    ways = [f"lower batch_size (now {rows}) and raise gradient_accumulation_steps by as much"] if rows > 1 else []
    ways += [f"lower block_size (now {context})"] if context > 1 else []
    return ", or ".join([*ways, "choose a smaller model"])
