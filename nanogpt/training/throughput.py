"""The speed of a running training as its steps are timed: tokens/s, MFU, time left. Imports no torch.

`step_timing.py` instead trains for a few steps only to measure them.
"""

import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

Parts = dict[str, float]  # seconds by part of a step


class Throughput:
    """Rates over the last steps, without what happens outside `step()` (evaluation, saving, pauses).

    The first step of a process is left out: it compiles, allocates and warms caches.

    record: gets the parts of each step, and the whole step under the name "step". wait: called at the end of each part,
    so that the work of a GPU counts in the part that started it.
    """

    def __init__(
        self,
        tokens_per_iteration: int,
        flops_per_token: int,
        peak_flops: float | None,
        record: list[Parts] | None = None,
        wait: Callable[[], object] = lambda: None,
    ) -> None:
        self._tokens = tokens_per_iteration
        self.flops_per_token = flops_per_token
        self._peak_flops = peak_flops
        self._durations: deque[float] = deque(maxlen=50)  # seconds
        self._first = 0.0
        self._unsynchronized_s: list[float] = []  # durations of steps that the device may not have finished
        self._is_unsynchronized = False
        self._evaluation_s = 0.0
        self._record, self._wait = record, wait
        self._parts: Parts = {}  # of the current step
        self._fetches: deque[float] = deque(maxlen=50)

    @contextmanager
    def step(self) -> Iterator[None]:
        """Time one step."""
        started, self._parts, self._is_unsynchronized = time.perf_counter(), {}, False
        yield
        duration = time.perf_counter() - started
        if self._record is not None:
            self._record.append(self._parts | {"step": duration})
        if self._first:
            self._fetches.append(self._parts.get("data", 0.0))
            self._unsynchronized_s.append(duration)
            if not self._is_unsynchronized:
                count = len(self._unsynchronized_s)
                self._durations.extend([sum(self._unsynchronized_s) / count] * count)
                self._unsynchronized_s.clear()
        else:
            self._first = duration

    def mark_unsynchronized(self) -> None:
        """Mark the current step as not synchronized with the device.

        The time until the next synchronized step counts in equal parts for all steps since the previous one.
        """
        self._is_unsynchronized = True

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Time a part of a step: data, forward, backward or optimizer."""
        started = time.perf_counter()
        yield
        self._wait()
        self._parts[name] = self._parts.get(name, 0.0) + time.perf_counter() - started

    @property
    def data_share(self) -> float:
        """The share of the last steps' time that was spent on waiting for data, 0 to 1."""
        return sum(self._fetches) / sum(self._durations) if self._durations else 0.0

    def record_evaluation(self, seconds: float) -> None:
        """Set the duration of the last evaluation, without pauses."""
        self._evaluation_s = seconds

    @property
    def seconds_per_step(self) -> float:
        """Mean over the last steps (at most 50, and about 5 s); after the first step, its duration."""
        total, count = 0.0, 0
        for duration in reversed(self._durations):
            total, count = total + duration, count + 1
            if total > 5:
                break
        return total / count if count else self._first

    @property
    def tokens_per_second(self) -> float:
        """Tokens trained on per second, 0 before the first step."""
        return self._tokens / self.seconds_per_step if self.seconds_per_step else 0.0

    @property
    def mfu(self) -> float | None:
        """Model FLOPs utilization (Chowdhery et al. 2022): achieved over peak FLOP/s, 0 to 1; None without a peak."""
        return self.tokens_per_second * self.flops_per_token / self._peak_flops if self._peak_flops else None

    def eta_s(self, steps_left: int, evaluations_left: int) -> float:
        """Return the seconds until the end at the current speed, evaluations included."""
        return steps_left * self.seconds_per_step + evaluations_left * self._evaluation_s
