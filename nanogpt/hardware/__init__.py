"""This machine: which device, number format and threads to use, how fast it can be, how full it is.

A leaf: knows nothing of models, data or runs. torch is imported by the functions that ask it, not with this package.
"""

from nanogpt.hardware.choices import (
    autocast,
    compile_needs,
    cpu_multiplies_bfloat16,
    resolve_compile,
    resolve_device,
    resolve_dtype,
    resolve_threads,
    share_cores,
)
from nanogpt.hardware.facts import (
    available_memory,
    cpu_model,
    cpu_quota,
    describe,
    memory_bytes,
    out_of_memory,
    synchronize,
    total_memory,
    usable_cores,
)
from nanogpt.hardware.heap import kept_memory
from nanogpt.hardware.peak import GPUS, gpu_peak, measure_cpu, peak_flops

__all__ = [
    "GPUS",
    "autocast",
    "available_memory",
    "compile_needs",
    "cpu_model",
    "cpu_multiplies_bfloat16",
    "cpu_quota",
    "describe",
    "gpu_peak",
    "kept_memory",
    "measure_cpu",
    "memory_bytes",
    "out_of_memory",
    "peak_flops",
    "resolve_compile",
    "resolve_device",
    "resolve_dtype",
    "resolve_threads",
    "share_cores",
    "synchronize",
    "total_memory",
    "usable_cores",
]
