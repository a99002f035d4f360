"""Memory and CPU time of a process and of all processes below it, from /proc (Linux)."""

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Self

SAMPLE_S = 1.0  # a sample takes some 2 ms of CPU for each process, which a measurement of speed must not notice
_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


class Sampler:
    """Samples a process and its descendants in a thread while the block runs.

    `peak_pss` is the largest sum of their proportional set sizes in bytes: memory that several of them share counts
    once. `cpu_s` has the CPU seconds of each process, by its id, as of the last sample.
    """

    def __init__(self, pid: int) -> None:
        self._pid = pid
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampler", daemon=True)
        self.peak_pss = 0
        self.cpu_s: dict[int, float] = {}

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._ended.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._ended.wait(SAMPLE_S):
            pids = tree(self._pid)
            self.peak_pss = max(self.peak_pss, sum(map(pss, pids)))
            self.cpu_s |= {pid: seconds for pid in pids if (seconds := cpu_seconds(pid)) is not None}


def tree(pid: int) -> list[int]:
    """Return a process and its descendants; those that have ended are left out."""
    try:
        tasks = list(Path(f"/proc/{pid}/task").iterdir())
        children = [int(child) for task in tasks for child in (task / "children").read_text().split()]
    except OSError:
        return []
    return [pid, *(each for child in children for each in tree(child))]


def pss(pid: int) -> int:
    """Return the proportional set size of a process in bytes; 0 if it has ended."""
    try:
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    return 0


def cpu_seconds(pid: int) -> float | None:
    """Return the CPU seconds of all threads of a process; None if it has ended."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None
    return (int(fields[11]) + int(fields[12])) / _TICKS_PER_SECOND
