"""The runtime of a training: device, number format, compilation, threads and processes, each as set or chosen here."""

from contextlib import AbstractContextManager
from dataclasses import dataclass, replace

import torch

from nanogpt import hardware
from nanogpt.config import Config
from nanogpt.errors import SettingError, UserError
from nanogpt.formatting import counted
from nanogpt.training.distributed import World, join_process_group, local_size
from nanogpt.training.estimate import COUNTED, memory


@dataclass(frozen=True, slots=True)
class Runtime:
    """The resolved settings of a training.

    sharded: whether parameters, gradients and optimizer state are divided among the processes. peak_flops: FLOP/s of
    the devices of all processes together, None if it is unknown or was not measured yet. choices: by setting, the
    reason of each choice that was made here.
    """

    device: str
    dtype: str
    compile: bool
    threads: int
    world: World
    sharded: bool
    choices: dict[str, str]
    peak_flops: float | None = None

    def autocast(self) -> AbstractContextManager[object]:
        """Multiply matrices in `dtype` inside this context."""
        return hardware.autocast(self.device, self.dtype)


def resolve_runtime(config: Config) -> Runtime:
    """Choose what the configuration leaves open, set up torch for it in this thread, and join the process group.

    Raise `SettingError` for a setting that does not fit this machine.
    """
    system, shape = config.system, config.model
    device = hardware.resolve_device(system.device)
    world = join_process_group(system.backend, device)
    if world.size == 1 and system.processes > 1:
        raise SettingError(
            "processes",
            f"processes={system.processes}: this is a single process; start the training with `nanogpt train`, which "
            "starts them, or set 1",
        )
    rows = config.sequences
    if rows < world.size:
        raise SettingError(
            "batch_size",
            f"batch_size={config.data.batch_size}: a step has {counted(rows, 'sequence')}, too few for "
            f"{world.size} processes; start at most {rows}, or raise batch_size or gradient_accumulation_steps",
        )
    if world.size > 1 and device.partition(":")[0] == "cuda":  # earlier versions recorded the main process's number
        check_gpus(world)
        device = f"cuda:{world.local_rank}"
    if device.startswith("cuda"):
        if ":" in device:  # without a number it is the current one, and `set_device` refuses it
            torch.cuda.set_device(device)
        torch.set_float32_matmul_precision("high")
    threads = hardware.resolve_threads(system.threads)
    torch.set_num_threads(threads)
    if shape.capabilities.counted:
        if world.size > 1:
            raise SettingError(
                "architecture", f"architecture={shape.name}: it is counted by one process; start it without torchrun"
            )
        return Runtime(device, "float32", False, threads, world, False, {"training": COUNTED})
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
    choices = {name: why for name, why in (("dtype", why_dtype), ("compile", why_compiled)) if why}
    sharded = system.sharding == "fsdp" and world.size > 1
    if system.sharding == "fsdp" and not sharded:
        choices["sharding"] = "none: a single process has nothing to divide; processes sets how many train together"
    if sharded and config.data.batch_size == 1 and rows % world.size:
        raise SettingError(  # a process would have a micro-batch more, and each gathers the weights from all processes
            "gradient_accumulation_steps",
            f"gradient_accumulation_steps={config.data.gradient_accumulation_steps}: with batch_size=1 and "
            f"sharding=fsdp it must be a multiple of the {world.size} processes",
        )
    return Runtime(device, dtype, compiled, threads, world, sharded, choices)


def with_peak(runtime: Runtime) -> Runtime:
    """Return the runtime with its peak speed, which is measured on a CPU, with the current number of threads."""
    peak = hardware.peak_flops(runtime.device, runtime.dtype)
    return replace(runtime, peak_flops=peak * runtime.world.size if peak else None)


def check_gpus(world: World) -> None:
    """Raise `SettingError` if this machine has fewer GPUs than processes of the training."""
    here, gpus = max(local_size(), world.local_rank + 1), torch.cuda.device_count()
    if here > gpus:
        raise SettingError(
            "processes",
            f"processes={here}: each needs a GPU, and this machine has {gpus}; start at most {gpus}, or use device=cpu",
        )


def check_memory(config: Config, dtype: str, device: str, world: World) -> None:
    """Raise `UserError` for a training that does not fit in memory, before the system kills the process.

    Each GPU has the memory for one process, and the CPU that for all processes of its machine.
    """
    needed, total = memory(config, dtype, device, world.size), hardware.total_memory(device)
    here = local_size() if device == "cpu" and world.size > 1 else 1
    if total is None or here * needed.total <= total:
        return
    together = f" in {here} processes" if here > 1 else ""
    problem = (
        f"out of memory: this training takes about {here * needed.total / 1e9:,.0f} GB{together}, and {device} has "
        f"{total / 1e9:,.0f} GB"
    )
    if here * (needed.total - needed.activations) > total:
        raise UserError(f"{problem}: choose a smaller model")
    raise UserError(f"{problem}: {memory_advice(config)}")


def memory_advice(config: Config) -> str:
    """Return which settings to change if a training takes too much memory, as text."""
    rows, context = config.data.batch_size, config.model.block_size
    changes = [f"lower batch_size (now {rows}) and raise gradient_accumulation_steps by as much"] if rows > 1 else []
    changes += [f"lower block_size (now {context})"] if context > 1 else []
    return ", or ".join([*changes, "choose a smaller model"])
