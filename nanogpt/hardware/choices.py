"""What "auto" means on this machine: device, number format, torch.compile, threads.

Each choice has a reason, for the record of the run. The rules are based on measurements, which
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
from nanogpt.hardware.facts import usable_cores, usable_gpus
from nanogpt.hardware.peak import peak_flops
from nanogpt.heap import share_heap

# From about this size bfloat16 is faster on a CPU; below, the conversion takes longer than it saves.
BFLOAT16_WIDTH = 128
BFLOAT16_TOKENS = 256

# Compile if the estimated saving exceeds the cost by this factor: the estimate may be wrong by a factor of two.
COMPILE_MARGIN = 2.0
# FLOP/s assumed for a GPU that is not in the table.
UNKNOWN_GPU_FLOPS = 1e14


def resolve_device(asked: str) -> str:
    """Return the device for `asked`: "auto" (a GPU, if there is one), "cpu", "cuda", "cuda:N" or "mps".

    Raise `SettingError`, with the available devices, for a device that this machine does not have.
    """
    import torch

    if asked == "cpu":
        return asked
    available = [f"cuda:{index}" for index in usable_gpus()]
    available += ["mps"] if torch.backends.mps.is_available() else []
    available += ["cpu"]
    if asked == "auto":
        return available[0].removesuffix(":0")
    if asked in available or f"{asked}:0" in available:
        return asked
    why = "this machine has none"
    if asked.startswith("cuda") and not torch.version.cuda:
        why = "this torch is built without CUDA"
    elif asked.startswith("cuda") and torch.cuda.is_available() and not usable_gpus():
        why = "this torch was not built for its GPU"
    raise SettingError("device", f"device={asked!r}: {why}; available: {', '.join(available)} (auto uses the first)")


def device_beside_training() -> str:
    """Return the device for models that are used in another thread than a training's: "auto", or "cpu" on Apple's GPU.

    Two threads that use that GPU at once end the process (pytorch's issue 197805).
    """
    return "cpu" if resolve_device("auto") == "mps" else "auto"


def resolve_threads(asked: int) -> int:
    """Return the number of CPU threads: what `asked_threads` returns, else one for each usable core."""
    return asked_threads(asked) or usable_cores()


def asked_threads(setting: int) -> int | None:
    """Return the number of CPU threads that the setting (0: none) or OMP_NUM_THREADS asks for; None for neither."""
    if setting:
        return setting
    from_environment = os.environ.get("OMP_NUM_THREADS", "")
    return (int(from_environment) or None) if from_environment.isdigit() else None


def share_cores() -> None:
    """Set up a process on Linux to train while other processes are busy. Call it before torch is imported.

    Waiting threads of torch give up their core soon, and all threads share one heap. By default they spin for a long
    time, which makes a step ten times slower if another process is busy (28 ms to 250 ms on two cores; with this, 28 ms
    to 100 ms). A value that the user has set stays.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "1000")
    share_heap()


def resolve_dtype(asked: str, device: str, *, width: int, tokens: int) -> tuple[str, str]:
    """Return the number format of matrix products in training, and the reason ("" if `asked` decides).

    Generation has its own rule: `nanogpt.sampling.resolve_sampling_dtype`.

    width: of a hidden state. tokens: in one micro-batch.
    """
    if asked != "auto":
        return asked, ""
    if device.startswith("cuda"):
        import torch

        if torch.cuda.get_device_capability(device) >= (8, 0):
            return "bfloat16", "the GPU has bfloat16 instructions"
        return "float16", "the GPU has no native bfloat16"
    if device != "cpu":
        return "float32", f"no other format is known to be faster on {device}"
    if not cpu_has_bfloat16():
        return "float32", "this CPU has no native bfloat16"
    if width < BFLOAT16_WIDTH or tokens < BFLOAT16_TOKENS:
        return "float32", (
            f"bfloat16 is faster from a width of {BFLOAT16_WIDTH} and {BFLOAT16_TOKENS} tokens in a batch, "
            f"this run has {width} and {tokens}"
        )
    return "bfloat16", "this CPU has bfloat16 instructions"


def cpu_has_bfloat16() -> bool:
    """Return whether the CPU has bfloat16 instructions that torch's libraries use: AVX512-BF16, AMX, or ARM's BF16."""
    import torch

    if sys.platform == "darwin":
        return False  # there torch uses Accelerate for float32, which has no bfloat16
    if hasattr(torch.cpu, "get_capabilities"):
        has = torch.cpu.get_capabilities()
        return any(has.get(name, False) for name in ("avx512_bf16", "amx_bf16", "bf16", "sve_bf16"))
    # older releases of torch have these two, for x86 only
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
    """Return whether to use torch.compile, and the reason ("" if `asked` decides).

    tokens: how many the run trains on. estimate: what compiling saves on a CPU (ns of one core for each token), and
    what it costs once (s). "auto" compiles if the estimated saving in the run is more than twice the cost. Raise
    `SettingError` for "true" if something that compiling needs is not installed.
    """
    if asked == "false":
        return False, ""
    missing = missing_for_compile(device)
    if asked == "true":
        if missing:
            raise SettingError(
                "compile", f"compile=true: torch.compile needs {missing}; install it, or use compile=auto"
            )
        return True, ""
    if missing:
        return False, f"torch.compile needs {missing}"
    if device == "mps":
        return False, "not known to be faster on mps"
    saving_ns, cost = estimate
    if not cost:
        return False, "not known to be faster for this architecture"
    if device.startswith("cuda"):
        # An eager run reaches about a third of the peak, and compiling saves about a third of its time.
        saved = tokens * flops_per_token / (peak_flops(device, dtype) or UNKNOWN_GPU_FLOPS)
    else:
        saved = 1e-9 * tokens * saving_ns / usable_cores()
    is_worth_it = saved > COMPILE_MARGIN * cost
    return is_worth_it, f"compiling takes about {cost:.0f} s and saves about {max(0.0, saved):.0f} s in this run"


def missing_for_compile(device: str) -> str | None:
    """Return what torch.compile needs for this device and lacks on this machine, as text; None if nothing is known."""
    if device.startswith("cuda"):
        import torch

        if find_spec("triton") is None:
            return "the package triton"
        if torch.cuda.get_device_capability(device) < (7, 0):
            return "a GPU of compute capability 7.0 or more"
        compilers = [os.environ.get("CC", ""), "gcc", "clang", "cc"]
    else:
        # torch calls exactly this one
        usual = {"darwin": "clang++", "win32": "cl"}.get(sys.platform, "g++")
        compilers = [os.environ.get("CXX", usual)]
    if not any(name and shutil.which(name) for name in compilers):
        return f"a compiler ({' or '.join(name for name in compilers if name)})"
    if not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        return "Python's header files (python3-dev, python3-devel)"
    return None


def autocast(device: str, dtype: str) -> AbstractContextManager[object]:
    """Return a context with matrix products in `dtype`; operations that need more precision stay in float32."""
    if dtype == "float32":
        return nullcontext()
    import torch

    return torch.autocast(device.partition(":")[0], dtype=getattr(torch, dtype))
