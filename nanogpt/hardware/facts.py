"""Facts about this machine: cores, memory, names.

Every figure has a fallback, because containers hide files and operating systems differ. No function here raises.
"""

import gc
import math
import os
import platform
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

SYSTEM = Path("/sys")
PROCESS = Path("/proc")
OUT_OF_MEMORY = ("out of memory", "not enough memory", "can't allocate memory", "bad_alloc", "ALLOC_FAILED")


def usable_cores() -> int:
    """Return the number of physical cores that affinity and quota of this process allow; hyper-threads count once."""
    if hasattr(os, "sched_getaffinity"):
        logical = os.sched_getaffinity(0)
        siblings = {_text(SYSTEM / f"devices/system/cpu/cpu{cpu}/topology/thread_siblings_list") for cpu in logical}
        cores = len(siblings) if "" not in siblings else len(logical)
    else:  # macOS: each operation waits for its slowest part, so efficiency cores slow the others down
        cores = int(_sysctl("hw.perflevel0.physicalcpu") or _sysctl("hw.physicalcpu") or os.cpu_count() or 1)
    return max(1, math.ceil(min(cores, cpu_quota())))


def cpu_quota() -> float:
    """Return the CPU quota of the container (cgroup version 1 or 2) in cores; infinity without one."""
    granted = [math.inf]
    for folder in _cgroups("cpu"):
        both = _text(folder / "cpu.max").split()  # "200000 100000" or "max 100000", in microseconds
        quota, period = both if len(both) == 2 else (_text(folder / f"cpu.cfs_{n}_us") for n in ("quota", "period"))
        if quota.isdigit() and period.isdigit() and int(period):  # "-1" and "max" are no limit
            granted.append(int(quota) / int(period))
    return min(granted)


def usable_gpus() -> list[int]:
    """Return the numbers of the GPUs that this torch can use.

    Its own count has also those whose driver is too old for it, and those for which it has no kernels.
    """
    import torch

    if not torch.cuda.is_available():
        return []
    numbers = range(torch.cuda.device_count())
    if torch.version.cuda is None or not (built_for := torch.cuda.get_arch_list()):  # ROCm
        return list(numbers)
    return [number for number in numbers if _has_kernels(torch.cuda.get_device_capability(number), built_for)]


def _has_kernels(capability: tuple[int, int], built_for: list[str]) -> bool:
    """Return whether a GPU runs what was built for these architectures, such as sm_86 and compute_90.

    Machine code runs on later GPUs with the same first number, and intermediate code on all later ones.
    """
    for name in built_for:
        kind, _, digits = name.partition("_")
        built = divmod(int("".join(filter(str.isdigit, digits)) or 0), 10)
        if built <= capability and (kind == "compute" or built[0] == capability[0]):
            return True
    return False


def release_memory() -> None:
    """Give the memory that torch keeps of freed tensors back to the GPU; on a CPU do nothing."""
    import torch

    with suppress(RuntimeError):  # after a fault of the GPU nothing works
        if torch.cuda.is_initialized():  # type: ignore[no-untyped-call]
            gc.collect()
            torch.cuda.empty_cache()
        elif torch.backends.mps.is_available():
            gc.collect()
            torch.mps.empty_cache()


def total_memory(device: str) -> int | None:
    """Return the memory of the device in bytes (for a CPU, at most the container's limit); None if it is unknown."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[1])
    installed = _meminfo("MemTotal")
    if installed is None:
        pages = os.sysconf("SC_PHYS_PAGES") if hasattr(os, "sysconf") else -1
        installed = pages * os.sysconf("SC_PAGE_SIZE") if pages > 0 else None
    limit = _memory_limit()
    return installed if limit is None else min(limit, installed or limit)


def available_memory(device: str) -> int | None:
    """Return the bytes that can still be allocated; None if they are unknown."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.mem_get_info(device)[0])
    free, limit = _meminfo("MemAvailable"), _memory_limit()
    left = max(0, limit - memory_bytes("cpu")) if limit is not None else None
    return min((figure for figure in (free, left) if figure is not None), default=None)


def memory_bytes(device: str) -> int:
    """Return the bytes in use: the resident memory of this process, or the memory that torch reserved on the GPU."""
    if device.startswith("cuda"):
        import torch

        return int(torch.cuda.memory_reserved(device))
    if device == "mps":
        import torch

        return int(torch.mps.driver_allocated_memory())
    with suppress(OSError):
        file = os.open(f"{PROCESS}/self/statm", os.O_RDONLY)  # twice as fast as `_text`, and called at every step
        try:
            return int(os.read(file, 100).split()[1]) * os.sysconf("SC_PAGE_SIZE")
        finally:
            os.close(file)
    try:
        import resource
    except ImportError:  # Windows
        return 0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def synchronize(device: str) -> None:
    """Wait until a GPU has finished its work. On a CPU there is nothing to wait for."""
    if device.startswith("cuda"):
        import torch

        torch.cuda.synchronize(device)
    elif device == "mps":
        import torch

        torch.mps.synchronize()


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether this error means that memory ran out, on any device."""
    if isinstance(error, MemoryError):
        return True
    # by name and text: torch raises a plain RuntimeError for the CPU, and is not imported for this question
    named = any(kind.__name__ == "OutOfMemoryError" for kind in type(error).__mro__)
    return named or (isinstance(error, RuntimeError) and any(words in str(error) for words in OUT_OF_MEMORY))


def describe() -> dict[str, str]:
    """Return facts for the record of a run, by name: processor, cores, memory, GPUs, versions, platform."""
    from importlib import metadata  # some 20 ms, which a list of runs does without

    import torch

    facts = {
        "cpu": cpu_model(),
        "cores": str(usable_cores()),
        "memory": f"{(total_memory('cpu') or 0) / 2**30:.1f} GiB",
        "gpu": ", ".join(torch.cuda.get_device_name(index) for index in usable_gpus()),
        "torch": metadata.version("torch"),
        "python": platform.python_version(),
        "platform": platform.platform(),
    }
    return {name: " ".join(value.split()) for name, value in facts.items() if value}


def cpu_model() -> str:
    """Return the name of the processor, from its maker if the system knows it."""
    for line in _text(PROCESS / "cpuinfo").splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("model name", "Model", "Hardware") and value.strip():
            return " ".join(value.split())
    return _sysctl("machdep.cpu.brand_string") or platform.processor() or platform.machine() or "unknown"


def _memory_limit() -> int | None:
    limits = [_text(folder / name) for folder in _cgroups("memory") for name in ("memory.max", "memory.limit_in_bytes")]
    return min((int(limit) for limit in limits if limit.isdigit() and int(limit) < 2**60), default=None)


def _cgroups(controller: str) -> list[Path]:
    """Return the folders of the control groups of this process, of both versions and the root; they may not exist."""
    root = SYSTEM / "fs/cgroup"
    folders = [root, root / controller]  # and a limit of a group holds for those within it
    for line in _text(PROCESS / "self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if not controllers or controller in controllers.split(","):
            base, group = root / controller if controllers else root, Path(path.lstrip("/"))
            folders += [base / each for each in (group, *group.parents)]
    return folders


def _meminfo(field: str) -> int | None:
    for line in _text(PROCESS / "meminfo").splitlines():
        name, _, value = line.partition(":")
        if name == field:
            return int(value.split()[0]) * 1024
    return None


def _text(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="replace").strip()
    except OSError:
        return ""


def _sysctl(name: str) -> str:
    if sys.platform != "darwin":
        return ""
    try:
        return subprocess.run(
            ["/usr/sbin/sysctl", "-n", name], capture_output=True, text=True, timeout=5
        ).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""
