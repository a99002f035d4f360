"""What "auto" means on this machine: device, number format, torch.compile, threads. Knows nothing of models and runs.

Each choice comes with its reason, for the record of the run. The rules rest on the measurements that
`benchmarks/auto_choices.py` repeats; the constants below are from two cores of a 2025 server CPU with AVX512-BF16.
"""

import os
import shutil
import sys
import sysconfig
from contextlib import AbstractContextManager, nullcontext
from importlib.util import find_spec
from pathlib import Path

from nanogpt.errors import SettingError
from nanogpt.hardware.facts import usable_cores
from nanogpt.hardware.heap import share_heap
from nanogpt.hardware.peak import peak_flops

# bfloat16 pays on a CPU from about this size on; below, converting takes longer than multiplying saves.
BFLOAT16_WIDTH = 128
BFLOAT16_TOKENS = 256

# An estimate may be wrong by a factor of two, and who waits without need is more annoyed than who saves is glad.
COMPILE_MARGIN = 2.0
# FLOP/s of a GPU that is not in the table, of the order of those that people train on.
UNKNOWN_GPU_FLOPS = 1e14


def resolve_device(asked: str) -> str:
    """The device that `asked` ("auto", "cpu", "cuda", "cuda:N", "mps") means: for "auto" a GPU before the CPU.

    Raises `SettingError` for a device that is not there, naming those that are.
    """
    import torch

    there = [f"cuda:{index}" for index in range(torch.cuda.device_count())] if torch.cuda.is_available() else []
    there += ["mps"] if torch.backends.mps.is_available() else []
    there += ["cpu"]
    if asked == "auto":
        return there[0].removesuffix(":0")
    if asked in there or f"{asked}:0" in there:
        return asked
    why = "this torch is built without CUDA" if asked.startswith("cuda") and not torch.version.cuda else "not here"
    raise SettingError("device", f"device={asked!r}: {why}; there is {', '.join(there)} (auto takes the first)")


def resolve_threads(asked: int) -> int:
    """Threads for the CPU's share of the work; 0 is OMP_NUM_THREADS where it is set, else one a usable core."""
    if asked:
        return asked
    wished = os.environ.get("OMP_NUM_THREADS", "")
    return int(wished) if wished.isdigit() and int(wished) else usable_cores()


def share_cores() -> None:
    """Readies a process on Linux for training beside others; for before torch is imported and threads begin.

    Lets torch threads give up their core soon while they wait for others, and all threads share one heap.

    By default they spin for long, which beside any other busy process makes a step ten times slower (28 ms to 250 on
    two cores; with this, 28 to 100). A value that the person has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    share_heap()


def resolve_dtype(asked: str, device: str, *, width: int, tokens: int) -> tuple[str, str]:
    """Return (number format of matrix products, why; nothing where it was not chosen here).

    width: of a hidden state; tokens: in one micro-batch.
    """
    if asked != "auto":
        return asked, ""
    if device.startswith("cuda"):
        import torch

        if torch.cuda.get_device_capability(device) >= (8, 0):
            return "bfloat16", "the GPU multiplies it natively"
        return "float16", "the GPU has no native bfloat16"
    if device != "cpu":
        return "float32", f"nothing else has been measured to be faster on {device}"
    if not cpu_multiplies_bfloat16():
        return "float32", "this CPU has no native bfloat16"
    if width < BFLOAT16_WIDTH or tokens < BFLOAT16_TOKENS:
        return "float32", (
            f"bfloat16 pays from a width of {BFLOAT16_WIDTH} and {BFLOAT16_TOKENS} tokens in a batch on, "
            f"here {width} and {tokens}"
        )
    return "bfloat16", "this CPU multiplies it natively"


def cpu_multiplies_bfloat16() -> bool:
    """Whether the CPU has instructions for it that torch's libraries use: AVX512-BF16, AMX, or ARM's BF16."""
    import torch

    if sys.platform == "darwin":
        return False  # torch hands float32 to Accelerate there, and has nothing like it for bfloat16
    if hasattr(torch.cpu, "get_capabilities"):
        has = torch.cpu.get_capabilities()
        return any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
    # older releases have these two instead, for x86 only
    asks = (getattr(torch.cpu, name, None) for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"))
    return any(ask is not None and ask() for ask in asks)


def resolve_compile(
    asked: str,
    device: str,
    *,
    dtype: str,
    tokens: int,
    flops_per_token: int,
    estimate: tuple[float, float],
) -> tuple[bool, str]:
    """Return (whether to use torch.compile, why; nothing where it was not chosen here).

    tokens: all that the run is still to train on. estimate: what it saves on a CPU, in nanoseconds of one core a token,
    and what it costs once, in seconds.

    "auto" compiles where the seconds that it saves in the run are estimated at more than twice those that it takes.
    Raises `SettingError` where "true" is asked and something that it needs is not installed.
    """
    if asked == "false":
        return False, ""
    missing = compile_needs(device)
    if asked == "true":
        if missing:
            raise SettingError(
                "compile", f"compile=true: torch.compile needs {missing}; install it, or say compile=auto"
            )
        return True, ""
    if missing:
        return False, f"torch.compile needs {missing}"
    if device == "mps":
        return False, "not measured to pay on mps"
    saving_ns, cost = estimate
    if device.startswith("cuda"):
        # A third of the time of an eager run, which reaches about a third of the peak: as long as it takes at the peak.
        saved = tokens * flops_per_token / (peak_flops(device, dtype) or UNKNOWN_GPU_FLOPS)
    else:
        saved = 1e-9 * tokens * saving_ns / usable_cores()
    pays = saved > COMPILE_MARGIN * cost
    return pays, f"compiling takes about {cost:.0f} s and saves about {max(0.0, saved):.0f} s in this run"


def compile_needs(device: str) -> str | None:
    """What torch.compile lacks here for this device, in words; None where nothing is known to lack."""
    if device.startswith("cuda"):
        import torch

        if find_spec("triton") is None:
            return "the package triton"
        if torch.cuda.get_device_capability(device) < (7, 0):
            return "a GPU of compute capability 7.0 or more"
        compilers = [os.environ.get("CC", ""), "gcc", "clang", "cc"]
    else:
        # exactly the one that torch would call: it looks for no other
        usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
        compilers = [os.environ.get("CXX", usual)]
    if not any(name and shutil.which(name) for name in compilers):
        return f"a compiler ({' or '.join(name for name in compilers if name)})"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "Python's header files (python3-dev, python3-devel)"
    return None


def autocast(device: str, dtype: str) -> AbstractContextManager[object]:
    """Within it, matrix products are in `dtype` and what needs more digits stays in float32."""
    if dtype == "float32":
        return nullcontext()
    import torch

    return torch.autocast(device.partition(":")[0], dtype=getattr(torch, dtype))
