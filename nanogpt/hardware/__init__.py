"""This machine: which device, number format and threads to use, its peak speed, its memory.

Functions that need torch import it when they are called; importing this package does not.
"""

from nanogpt.hardware.choices import (
    asked_threads,
    autocast,
    cpu_has_bfloat16,
    device_beside_training,
    missing_for_compile,
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
    is_out_of_memory,
    memory_bytes,
    release_memory,
    synchronize,
    total_memory,
    usable_cores,
    usable_gpus,
)
from nanogpt.hardware.measurements import read_measurements, write_measurement
from nanogpt.hardware.peak import GPUS, gpu_peak, measure_cpu, peak_flops

__all__ = [
    "GPUS",
    "asked_threads",
    "autocast",
    "available_memory",
    "cpu_has_bfloat16",
    "cpu_model",
    "cpu_quota",
    "describe",
    "device_beside_training",
    "gpu_peak",
    "is_out_of_memory",
    "measure_cpu",
    "memory_bytes",
    "missing_for_compile",
    "peak_flops",
    "read_measurements",
    "release_memory",
    "resolve_compile",
    "resolve_device",
    "resolve_dtype",
    "resolve_threads",
    "share_cores",
    "synchronize",
    "total_memory",
    "usable_cores",
    "usable_gpus",
    "write_measurement",
]
