"""The peak FLOP/s of a device, the denominator of MFU.

GPUs are looked up by name. CPUs are measured, and the best result is kept in the cache folder. An unknown peak is None:
MFU is then unknown, and not wrong.
"""

import re
import time
from typing import NamedTuple

from nanogpt.hardware.facts import cpu_model
from nanogpt.hardware.measurements import read_measurements, write_measurement


class Peak(NamedTuple):
    """Dense peaks in TFLOP/s with accumulation in float32. `half`: float16, and bfloat16 if the card has it."""

    half: float
    tf32: float | None
    float32: float
    bfloat16: bool = True


# From data sheets and architecture white papers of the makers, without sparsity, at boost clock. GeForce cards
# accumulate in float32, as torch does, at half the rate, so their figure is half of the advertised one.
GPUS: dict[str, Peak] = {
    "b200": Peak(2250, 1125, 75),
    "gb200": Peak(2500, 1250, 80),
    "h200": Peak(989, 494.5, 67),
    "h200 nvl": Peak(835.5, 418, 60),
    "gh200": Peak(989, 494.5, 67),
    "h100": Peak(989, 494.5, 67),  # SXM
    "h100 pcie": Peak(756, 378, 51),
    "h100 hbm2e": Peak(756, 378, 51),  # how early drivers name the PCIe card
    "h100 nvl": Peak(835.5, 418, 60),
    "h800": Peak(989, 494.5, 67),
    "h20": Peak(148, 74, 44),
    "a100": Peak(312, 156, 19.5),
    "a800": Peak(312, 156, 19.5),
    "a30": Peak(165, 82, 10.3),
    "a40": Peak(149.7, 74.8, 37.4),
    "a10": Peak(125, 62.5, 31.2),
    "a10g": Peak(70, 35, 31.5),
    "l40s": Peak(362, 183, 91.6),
    "l40": Peak(181, 90.5, 90.5),
    "l4": Peak(121, 60, 30.3),
    "t4": Peak(65, None, 8.1, bfloat16=False),
    "v100": Peak(125, None, 15.7, bfloat16=False),  # SXM2
    "v100 pcie": Peak(112, None, 14, bfloat16=False),
    "v100s": Peak(130, None, 16.4, bfloat16=False),
    "rtx pro 6000 blackwell workstation edition": Peak(503.8, 251.9, 125.9),
    "rtx 6000 ada generation": Peak(364.2, 182.1, 91.1),
    "rtx a6000": Peak(154.8, 77.4, 38.7),
    "rtx a5000": Peak(111.1, 55.6, 27.8),
    "rtx a4000": Peak(76.7, 38.3, 19.2),
    "rtx 5090": Peak(209.5, 104.8, 104.8),
    "rtx 5080": Peak(112.6, 56.3, 56.3),
    "rtx 5070 ti": Peak(87.9, 43.9, 43.9),
    "rtx 5070": Peak(61.7, 30.9, 30.9),
    "rtx 4090": Peak(165.2, 82.6, 82.6),
    "rtx 4080 super": Peak(104.4, 52.2, 52.2),
    "rtx 4080": Peak(97.5, 48.7, 48.7),
    "rtx 4070 ti super": Peak(88.2, 44.1, 44.1),
    "rtx 4070 ti": Peak(80.2, 40.1, 40.1),
    "rtx 4070 super": Peak(71, 35.5, 35.5),
    "rtx 4070": Peak(58.3, 29.1, 29.1),
    "rtx 4060 ti": Peak(44.1, 22.1, 22.1),
    "rtx 4060": Peak(30.2, 15.1, 15.1),
    "rtx 3090 ti": Peak(80, 40, 40),
    "rtx 3090": Peak(71, 35.6, 35.6),
    "rtx 3080 ti": Peak(68.2, 34.1, 34.1),
    "rtx 3080": Peak(59.5, 29.8, 29.8),
    "rtx 3070 ti": Peak(43.5, 21.7, 21.7),
    "rtx 3070": Peak(40.6, 20.3, 20.3),
    "rtx 3060 ti": Peak(32.4, 16.2, 16.2),
    "rtx 3060": Peak(25.5, 12.7, 12.7),
    "rtx 2080 ti": Peak(53.8, None, 13.4, bfloat16=False),
    "quadro rtx 8000": Peak(130.5, None, 16.3, bfloat16=False),
    "quadro rtx 6000": Peak(130.5, None, 16.3, bfloat16=False),
    "titan rtx": Peak(130.5, None, 16.3, bfloat16=False),
}
# Words that drivers add to the name of a card: maker, brand, memory; and the form factor, ignored if there is no entry
# with it. A name with other words (Laptop GPU, Max-Q, MIG 1g.5gb) is another device with another peak.
BRAND = re.compile(r"nvidia|geforce|tesla|\d+gb?")
FORM = re.compile(r"sxm\d?|pcie|hbm\d\w?")


MEASURE_S = 0.2  # how long a CPU's peak is measured


def gpu_peak(name: str, dtype: str, tf32: bool = False) -> float | None:
    """Return the peak FLOP/s of the GPU with torch's name `name`, as "NVIDIA A100-SXM4-80GB"; None if it is unknown.

    tf32: whether `torch.set_float32_matmul_precision` allows TF32 for float32 matrices.
    """
    words = [word for word in re.split(r"[\s-]+", name.lower()) if not BRAND.fullmatch(word)]
    bare = [word for word in words if not FORM.fullmatch(word)]
    peak = GPUS.get(" ".join(words)) or GPUS.get(" ".join(bare))
    if peak is None or (dtype == "bfloat16" and not peak.bfloat16):
        return None
    if dtype == "float32":
        return 1e12 * (peak.tf32 if tf32 and peak.tf32 else peak.float32)
    return 1e12 * peak.half


def peak_flops(device: str, dtype: str) -> float | None:
    """Return the peak FLOP/s of `device` in `dtype` with the current number of threads; None if it is unknown.

    A CPU is measured for 0.2 s the first time, and then for a quarter of that. The best result so far is kept in
    peak.json in the cache folder, so that other programs that run now do not lower it.
    """
    import torch

    if device.startswith("cuda"):
        tf32 = torch.get_float32_matmul_precision() != "highest"
        return gpu_peak(torch.cuda.get_device_name(device), dtype, tf32)
    if device != "cpu":
        return None
    key = f"{cpu_model()} | {torch.get_num_threads()} threads | torch {torch.__version__} | {dtype}"
    best = read_measurements("peak.json").get(key, 0.0)
    measured = measure_cpu(dtype, seconds=MEASURE_S / 4 if best else MEASURE_S)
    if measured > best:
        write_measurement("peak.json", key, measured)
    return max(measured, best)


def measure_cpu(dtype: str, largest: int = 1024, seconds: float | None = None) -> float:
    """Return the FLOP/s of the fastest product of two square matrices in `seconds` (`MEASURE_S`), at least one try.

    The side starts at 128 and doubles up to `largest` while a product is quick: without a fast path for the format, as
    for bfloat16 on older CPUs, a product of the largest takes seconds.
    """
    import torch

    seconds = MEASURE_S if seconds is None else seconds
    side, best = min(128, largest), 0.0
    begin = time.perf_counter()
    with torch.no_grad():
        while True:
            a, b = torch.ones(2, side, side, dtype=getattr(torch, dtype))  # draws no random numbers
            started = time.perf_counter()
            torch.mm(a, b)
            ended = time.perf_counter()
            best = max(best, 2 * side**3 / (ended - started))
            if ended - begin >= seconds:
                return best
            if ended - started < seconds / 20:
                side = min(2 * side, largest)
