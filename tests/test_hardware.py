"""Choices, facts and peaks on this machine's own CPU; GPUs by their names, containers by their files."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from nanogpt import hardware
from nanogpt.errors import SettingError
from nanogpt.hardware import choices, facts, peak
from nanogpt.models.layers import costs

RUN: dict[str, Any] = {"dtype": "float32", "flops_per_token": 10**6}


def shaped(*, vocab_size: int, n_layer: int = 4, n_embd: int = 128, dropout: float = 0.0) -> dict[str, Any]:
    """What a run of a transformer of this shape tells of compiling it."""
    shape: dict[str, Any] = {"n_layer": n_layer, "n_embd": n_embd, "vocab_size": vocab_size, "dropout": dropout}
    return RUN | {"estimate": costs.compile_estimate(dtype="float32", **shape)}


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("NANOGPT_CACHE_DIR", str(tmp_path / "cache"))
    return tmp_path / "cache" / "peak.json"


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty /sys and /proc, to be filled."""
    monkeypatch.setattr(facts, "SYSTEM", tmp_path / "sys")
    monkeypatch.setattr(facts, "PROCESS", tmp_path / "proc")
    return tmp_path


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")


def test_importing_it_imports_no_torch_and_no_other_room() -> None:
    script = "import sys, nanogpt.hardware; print(*sorted(m for m in sys.modules if m == 'torch' or 'nanogpt.' in m))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    rooms = {module.split(".")[1] for module in done.stdout.split()}
    assert rooms == {"errors", "files", "hardware", "heap", "lazy", "paths"}


# ---- device


def test_auto_is_a_device_that_works() -> None:
    assert torch.ones(2, device=hardware.resolve_device("auto")).sum().item() == 2


def test_the_cpu_is_always_there() -> None:
    assert hardware.resolve_device("cpu") == "cpu"


@pytest.mark.parametrize("asked", ["cuda:4711", "tpu", "cuda:"])
def test_a_device_that_is_not_there_is_refused_in_one_line_with_those_that_are(asked: str) -> None:
    with pytest.raises(SettingError) as caught:
        hardware.resolve_device(asked)
    assert caught.value.setting == "device"
    assert f"device={asked!r}" in str(caught.value)
    assert "cpu" in str(caught.value)
    assert "\n" not in str(caught.value)


# ---- number format


@pytest.mark.parametrize("asked", ["float32", "bfloat16", "float16"])
def test_a_number_format_that_is_asked_for_is_taken(asked: str) -> None:
    assert hardware.resolve_dtype(asked, "cpu", width=1, tokens=1) == (asked, "")


@pytest.mark.parametrize(
    ("native", "n_embd", "tokens", "expected"),
    [
        (True, 128, 768, "bfloat16"),
        (True, 64, 768, "float32"),
        (True, 384, 64, "float32"),
        (False, 768, 12288, "float32"),
    ],
)
def test_a_cpu_uses_bfloat16_where_it_has_it_and_the_model_is_wide_enough(
    monkeypatch: pytest.MonkeyPatch, native: bool, n_embd: int, tokens: int, expected: str
) -> None:
    monkeypatch.setattr(choices, "cpu_has_bfloat16", lambda: native)
    chosen, why = hardware.resolve_dtype("auto", "cpu", width=n_embd, tokens=tokens)
    assert chosen == expected
    assert "bfloat16" in why


@pytest.mark.skipif(not Path("/proc/cpuinfo").exists(), reason="only Linux lists the processor's instructions")
def test_native_bfloat16_is_what_the_kernel_says_of_this_cpu() -> None:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    flags = {
        flag for line in lines if line.startswith(("flags", "Features")) for flag in line.partition(":")[2].split()
    }
    assert hardware.cpu_has_bfloat16() == bool(flags & {"avx512_bf16", "amx_bf16", "bf16", "svebf16"})


def test_products_are_in_the_number_format_within_autocast_only() -> None:
    a = torch.ones(4, 4)
    with hardware.autocast("cpu", "bfloat16"):
        assert (a @ a).dtype == torch.bfloat16
    with hardware.autocast("cpu", "float32"):
        assert (a @ a).dtype == torch.float32
    assert (a @ a).dtype == torch.float32


# ---- compiling


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(choices, "missing_for_compile", lambda device: None)
    monkeypatch.setattr(choices, "usable_cores", lambda: 2)


@pytest.mark.usefixtures("compiler")
def test_a_short_run_is_not_compiled_and_a_long_one_is() -> None:
    short, why = hardware.resolve_compile("auto", "cpu", tokens=768, **shaped(vocab_size=50257))
    long, _ = hardware.resolve_compile("auto", "cpu", tokens=768 * 2000, **shaped(vocab_size=50257))
    assert (short, long) == (False, True)
    assert "compiling takes about" in why


@pytest.mark.usefixtures("compiler")
def test_a_character_model_is_not_compiled_for_a_run_of_minutes() -> None:
    assert not hardware.resolve_compile("auto", "cpu", tokens=768 * 2000, **shaped(vocab_size=65))[0]


@pytest.mark.parametrize("device", ["cpu", "cuda"])
@pytest.mark.usefixtures("compiler")
def test_an_architecture_of_which_nothing_is_known_is_not_compiled(device: str) -> None:
    run = RUN | {"estimate": (0.0, 0.0)}
    assert hardware.resolve_compile("auto", device, tokens=10**12, **run) == (
        False,
        "not known to be faster for this architecture",
    )


@pytest.mark.usefixtures("compiler")
def test_dropout_makes_compiling_pay_less() -> None:
    run = shaped(vocab_size=10_000)
    dropped = shaped(vocab_size=10_000, dropout=0.2, n_layer=12, n_embd=1536)
    assert hardware.resolve_compile("auto", "cpu", tokens=10**8, **run)[0]
    assert not hardware.resolve_compile("auto", "cpu", tokens=10**8, **dropped)[0]


@pytest.mark.parametrize(("asked", "expected"), [("true", True), ("false", False)])
@pytest.mark.usefixtures("compiler")
def test_what_is_asked_of_compile_is_taken(asked: str, expected: bool) -> None:
    assert hardware.resolve_compile(asked, "cpu", tokens=1, **shaped(vocab_size=65)) == (expected, "")


def test_without_a_compiler_auto_does_without_and_true_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    chosen, why = hardware.resolve_compile("auto", "cpu", tokens=10**12, **shaped(vocab_size=50257))
    assert not chosen
    assert "no-such-compiler" in why
    with pytest.raises(SettingError, match=r"compile=true.*no-such-compiler") as caught:
        hardware.resolve_compile("true", "cpu", tokens=1, **shaped(vocab_size=65))
    assert caught.value.setting == "compile"


# ---- cores and memory


def test_threads_that_are_asked_for_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert hardware.resolve_threads(7) == 7
    assert hardware.resolve_threads(0) == 3


@pytest.mark.parametrize("nonsense", ["", "0", "many"])
def test_threads_are_otherwise_one_a_usable_core(monkeypatch: pytest.MonkeyPatch, nonsense: str) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", nonsense)
    assert 1 <= hardware.resolve_threads(0) == hardware.usable_cores() <= (os.cpu_count() or 1)


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="this system has no processor affinity")
def test_cores_outside_the_affinity_do_not_count() -> None:
    script = (
        "import os; from nanogpt.hardware import usable_cores\n"
        "os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); print(usable_cores())"
    )
    assert subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True).stdout == "1\n"


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="this system has no processor affinity")
def test_hyper_threads_of_one_core_count_once(machine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {0, 1, 2, 3})
    assert hardware.usable_cores() == 4  # nothing known of siblings
    for cpu in range(4):
        siblings = f"{cpu % 2},{cpu % 2 + 2}\n"
        write(machine / f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", siblings)
    assert hardware.usable_cores() == 2


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        ({}, float("inf")),
        ({"cpu.max": "max 100000"}, float("inf")),
        ({"cpu.max": "150000 100000"}, 1.5),
        ({"job/cpu.max": "50000 100000", "cpu.max": "200000 100000"}, 0.5),
        ({"cpu/cpu.cfs_quota_us": "-1", "cpu/cpu.cfs_period_us": "100000"}, float("inf")),
        ({"cpu/job/cpu.cfs_quota_us": "300000", "cpu/job/cpu.cfs_period_us": "100000"}, 3.0),
        ({"cpu.max": "nonsense"}, float("inf")),
    ],
)
def test_the_containers_quota_is_read_in_both_versions(machine: Path, files: dict[str, str], expected: float) -> None:
    write(machine / "proc/self/cgroup", "2:cpu,cpuacct:/job\n0::/job\n")
    for name, text in files.items():
        write(machine / "sys/fs/cgroup" / name, text)
    assert hardware.cpu_quota() == expected
    assert hardware.usable_cores() >= 1


def test_the_containers_memory_limit_bounds_the_machines(machine: Path) -> None:
    write(machine / "proc/meminfo", "MemTotal: 8000 kB\nMemAvailable: 6000 kB\n")
    write(machine / "proc/self/statm", f"900000 {1_024_000 // os.sysconf('SC_PAGE_SIZE')} 1 1 0 1 0\n")
    assert (hardware.total_memory("cpu"), hardware.available_memory("cpu")) == (8_192_000, 6_144_000)
    write(machine / "sys/fs/cgroup/memory.max", "4096000\n")
    assert hardware.memory_bytes("cpu") == 1_024_000
    assert (hardware.total_memory("cpu"), hardware.available_memory("cpu")) == (4_096_000, 3_072_000)


def test_memory_in_use_grows_with_what_is_taken() -> None:
    before = hardware.memory_bytes("cpu")
    held = torch.ones(50_000_000)  # 200 MB
    assert hardware.memory_bytes("cpu") - before > 150e6
    del held


def test_memory_in_use_is_known_without_proc(machine: Path) -> None:
    assert hardware.memory_bytes("cpu") > 10e6


def test_running_out_of_memory_is_recognised_from_the_real_allocator() -> None:
    with pytest.raises(RuntimeError) as caught:
        torch.empty(10**14)
    assert hardware.is_out_of_memory(caught.value)


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (torch.OutOfMemoryError("Tried to allocate 2.00 GiB"), True),
        (MemoryError(), True),
        (RuntimeError("MPS backend out of memory (MPS allocated: 8 GB)"), True),
        (RuntimeError("DefaultCPUAllocator: not enough memory: you tried to allocate 8 bytes"), True),
        (RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"), True),
        (RuntimeError("mat1 and mat2 shapes cannot be multiplied"), False),
        (ValueError("out of memory"), False),
    ],
)
def test_running_out_of_memory_is_told_from_other_errors(error: BaseException, expected: bool) -> None:
    assert hardware.is_out_of_memory(error) is expected


def test_the_machine_is_described_in_plain_lines() -> None:
    described = hardware.describe()
    assert {"cpu", "cores", "memory", "torch", "python", "platform"} <= described.keys()
    assert all(isinstance(text, str) and text and text.isprintable() for text in described.values())


# ---- peak


@pytest.mark.parametrize(
    ("name", "dtype", "tflops"),
    [
        ("NVIDIA A100-SXM4-80GB", "bfloat16", 312),
        ("NVIDIA A100-PCIE-40GB", "float32", 19.5),
        ("NVIDIA H100 80GB HBM3", "bfloat16", 989),
        ("NVIDIA H100 PCIe", "bfloat16", 756),
        ("NVIDIA H100 NVL", "bfloat16", 835.5),
        ("NVIDIA H200", "bfloat16", 989),
        ("NVIDIA B200", "bfloat16", 2250),
        ("NVIDIA GH200 480GB", "float16", 989),
        ("Tesla V100-SXM2-16GB", "float16", 125),
        ("Tesla V100-PCIE-32GB", "float16", 112),
        ("Tesla T4", "float16", 65),
        ("NVIDIA A10", "bfloat16", 125),
        ("NVIDIA A10G", "bfloat16", 70),
        ("NVIDIA L4", "bfloat16", 121),
        ("NVIDIA L40S", "bfloat16", 362),
        ("NVIDIA RTX A6000", "bfloat16", 154.8),
        ("NVIDIA RTX 6000 Ada Generation", "bfloat16", 364.2),
        ("NVIDIA GeForce RTX 3090", "bfloat16", 71),
        ("NVIDIA GeForce RTX 4090", "bfloat16", 165.2),
        ("NVIDIA GeForce RTX 4070 Ti SUPER", "float32", 44.1),
        ("NVIDIA GeForce RTX 5090", "bfloat16", 209.5),
    ],
)
def test_known_gpus_are_found_under_the_names_that_drivers_give(name: str, dtype: str, tflops: float) -> None:
    assert hardware.gpu_peak(name, dtype) == pytest.approx(tflops * 1e12)


@pytest.mark.parametrize(
    "name",
    [
        "NVIDIA GeForce RTX 4090 Laptop GPU",
        "NVIDIA GeForce RTX 4090 D",
        "NVIDIA A100-SXM4-40GB MIG 3g.20gb",
        "NVIDIA GeForce GTX 1080",
        "NVIDIA A1000",
        "",
    ],
)
def test_the_peak_of_another_gpu_is_unknown_not_wrong(name: str) -> None:
    assert hardware.gpu_peak(name, "float16") is None


def test_cards_without_bfloat16_have_no_peak_for_it() -> None:
    assert hardware.gpu_peak("Tesla T4", "bfloat16") is None


def test_float32_counts_as_tf32_only_where_it_is_allowed() -> None:
    assert hardware.gpu_peak("NVIDIA A100-SXM4-40GB", "float32", tf32=True) == 156e12
    assert hardware.gpu_peak("Tesla T4", "float32", tf32=True) == 8.1e12


@pytest.mark.parametrize("name", hardware.GPUS)
def test_each_gpu_of_the_table_can_be_found_and_is_fastest_in_fewest_bits(name: str) -> None:
    entry = hardware.GPUS[name]
    assert hardware.gpu_peak(f"NVIDIA {name.upper()}", "float16") == entry.half * 1e12
    assert entry.half >= (entry.tf32 or entry.float32) >= entry.float32


def test_the_cpus_peak_is_measured_once_and_then_remembered(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = hardware.peak_flops("cpu", "float32")
    assert first is not None
    assert 0 < first < 1e15
    assert list(json.loads(cache.read_text()).values()) == [first]
    assert [file.name for file in cache.parent.iterdir()] == ["peak.json"]
    monkeypatch.setattr(peak, "measure_cpu", lambda dtype, seconds: first / 2)
    assert hardware.peak_flops("cpu", "float32") == first
    assert hardware.peak_flops("cpu", "bfloat16") == first / 2


@pytest.mark.parametrize("broken", ["{", "[]", '{"a": "b"}', '{"a": NaN}', "\udcff"])
def test_a_broken_cache_is_measured_over(cache: Path, monkeypatch: pytest.MonkeyPatch, broken: str) -> None:
    cache.parent.mkdir()
    cache.write_text(broken, encoding="utf-8", errors="surrogateescape")
    monkeypatch.setattr(peak, "measure_cpu", lambda dtype, seconds: 1e9)
    assert hardware.peak_flops("cpu", "float32") == 1e9
    assert list(json.loads(cache.read_text()).values()) == [1e9]


def test_a_cache_that_cannot_be_written_is_no_error(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cache.parent.write_text("a file where the folder should be")
    monkeypatch.setattr(peak, "measure_cpu", lambda dtype, seconds: 1e9)
    assert hardware.peak_flops("cpu", "float32") == 1e9


def test_measuring_the_peak_leaves_the_random_state_alone() -> None:
    before = torch.get_rng_state()
    peak.measure_cpu("float32", largest=8, seconds=0.0)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_device_of_unknown_speed_has_no_peak() -> None:
    assert hardware.peak_flops("mps", "float32") is None


class SlowProducts:
    """A clock that only products of matrices move: by `seconds(side)` each."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seconds: Callable[[int], float]) -> None:
        self.now, self.sides, self.seconds = 0.0, list[int](), seconds
        monkeypatch.setattr(peak, "time", self)
        monkeypatch.setattr(torch, "mm", self.product)

    def perf_counter(self) -> float:
        return self.now

    def product(self, a: torch.Tensor, b: torch.Tensor) -> None:
        self.sides.append(len(a))
        self.now += self.seconds(len(a))


def test_the_measured_peak_is_the_fastest_product(monkeypatch: pytest.MonkeyPatch) -> None:
    took = iter([2.0, 1.0, 5.0])
    SlowProducts(monkeypatch, lambda side: next(took))
    assert peak.measure_cpu("float32", largest=10, seconds=8) == 2 * 10**3 / 1.0


def test_the_peak_is_measured_with_matrices_as_large_as_the_time_allows(monkeypatch: pytest.MonkeyPatch) -> None:
    fast = SlowProducts(monkeypatch, lambda side: 2 * side**3 / 1e11)  # 1024: 21 ms
    assert peak.measure_cpu("float32", seconds=0.2) == pytest.approx(1e11)
    assert fast.sides[:4] == [128, 256, 512, 1024]
    assert {*fast.sides[3:]} == {1024}
    assert fast.now < 0.2 + 0.03
    slow = SlowProducts(monkeypatch, lambda side: 2 * side**3 / 4e8)  # 128: 10.5 ms; 1024: 5 s
    assert peak.measure_cpu("bfloat16", seconds=0.2) == pytest.approx(4e8)
    assert {*slow.sides} == {128}
    assert slow.now < 0.2 + 0.011


def test_threads_that_wait_give_up_their_core_soon_unless_the_person_has_decided(monkeypatch):
    for name in ("OMP_WAIT_POLICY", "GOMP_SPINCOUNT"):
        monkeypatch.delenv(name, raising=False)
    hardware.share_cores()
    assert os.environ.pop("GOMP_SPINCOUNT") == "1000"
    monkeypatch.setenv("OMP_WAIT_POLICY", "ACTIVE")
    hardware.share_cores()
    assert "GOMP_SPINCOUNT" not in os.environ
    monkeypatch.delenv("OMP_WAIT_POLICY")
    monkeypatch.setenv("GOMP_SPINCOUNT", "7")
    hardware.share_cores()
    assert os.environ["GOMP_SPINCOUNT"] == "7"


def test_the_limits_of_the_groups_around_ones_own_hold_too(machine: Path) -> None:
    write(machine / "proc/self/cgroup", "0::/user.slice/job_7/step_0/task_0\n")
    groups = machine / "sys/fs/cgroup/user.slice/job_7"
    write(groups / "step_0/task_0/memory.max", "max")
    write(groups / "memory.max", str(2**30))
    write(groups / "cpu.max", "150000 100000")
    write(machine / "proc/meminfo", "MemTotal: 8388608 kB\n")
    assert hardware.total_memory("cpu") == 2**30
    assert hardware.cpu_quota() == 1.5


def test_a_gpu_that_torch_cannot_use_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)  # as its driver says
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert hardware.usable_gpus() == []
    assert "gpu" not in hardware.describe()


@pytest.mark.parametrize(
    ("capability", "is_usable"),
    [
        ((7, 0), False),
        ((7, 5), True),
        ((8, 0), True),
        ((8, 9), True),
        ((9, 0), True),
        ((10, 0), False),
        ((12, 1), True),
    ],
)
def test_a_gpu_is_usable_if_torch_was_built_for_it(
    monkeypatch: pytest.MonkeyPatch, capability: tuple[int, int], is_usable: bool
) -> None:
    monkeypatch.setattr(torch.version, "cuda", "12.9")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda number: capability)
    monkeypatch.setattr(torch.cuda, "get_arch_list", lambda: ["sm_75", "sm_80", "sm_90a", "compute_120"])
    assert hardware.usable_gpus() == ([0] if is_usable else [])


def test_models_beside_a_training_are_not_on_apples_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    assert hardware.device_beside_training() == "auto"
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert hardware.resolve_device("auto") == "mps"
    assert hardware.device_beside_training() == "cpu"
