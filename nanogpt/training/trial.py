"""The number of threads and the number format of a training on a CPU, found by trial before its first step.

How fast several threads are depends on what else the machine does, because they wait for each other after each
operation. The trial times forward and backward passes over the first micro-batch, two candidates in turn. Nothing
that it computes is kept: gradients are dropped, and random state, weights and buffers stay as they are. The result is
recorded in the run like a setting, and a resumed run uses it again: another number of threads adds float32 numbers in
another order, so the run would not continue exactly.
"""

import hashlib
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from torch import Tensor

from nanogpt import hardware
from nanogpt.config import Config
from nanogpt.data.batches import Batches, check_ids
from nanogpt.formatting import counted
from nanogpt.models.base import Forward, LanguageModel, compute_loss
from nanogpt.models.flat_parameters import FlatParameters
from nanogpt.training.runtime import Runtime

BUDGET_S = 1.0  # of the comparison of two candidates
SHARE_OF_RUN = 0.02  # that such a comparison may take
MIN_ROUNDS, MIN_TURN_S = 3, 0.02
FILE = "trials.json"
CONFIRMED = 1.15  # the ratio of an earlier trial is used again if a round is within this factor of it
CLEAR = 1.2  # a comparison ends early if one candidate is faster by this factor in each round
# By how much another number format has to be faster than the usual one, and fewer threads in passes over a part of the
# batch, in which operations are shorter than in training.
MARGIN = 1.1

Candidate = TypeVar("Candidate")


def choose_by_trial(
    runtime: Runtime, config: Config, model: LanguageModel, flat: FlatParameters | None, batches: Batches, passes: int
) -> Runtime:
    """Return the runtime with the fastest threads and number format that the settings allow, set up in this thread.

    batches: whose position stays. passes: how many micro-batches the run has. The runtime stays as it is for a run that
    is too short, on a GPU, with compiled code, and with several processes.
    """
    dtypes, counts = [runtime.dtype], [runtime.threads]
    if config.system.dtype == "auto" and hardware.cpu_has_bfloat16():
        dtypes.append("float32" if runtime.dtype == "bfloat16" else "bfloat16")
    if hardware.asked_threads(config.system.threads) is None:
        counts = [runtime.threads >> power for power in range(runtime.threads.bit_length())]  # halved down to 1
    if runtime.device != "cpu" or runtime.compile or runtime.world.size > 1 or len(dtypes) + len(counts) == 2:
        return runtime
    position = batches.position
    window = torch.from_numpy(check_ids(batches.next(), config.model.vocab_size))  # (B, T + 1)
    batches.position = position
    threads = runtime.threads
    buffers = [(buffer, buffer.clone()) for buffer in model.buffers()]  # such as the running means of a batch norm
    try:
        with torch.random.fork_rng(devices=[]):
            timed = TimedPasses(model, flat, window, runtime, passes)
            if not timed.budget_s:
                return runtime
            known = KnownRatios(f"{config.model} | {config.data.batch_size} | whole {timed.is_whole_batch}")
            dtype, _ = fastest(dtypes, lambda each: timed.seconds(threads, each), timed.budget_s, MARGIN, known)
            margin = 1.0 if timed.is_whole_batch else MARGIN
            known = KnownRatios(f"{known.settings} | {dtype}")
            threads, comparison = fastest(
                counts, lambda each: timed.seconds(each, dtype), timed.budget_s, margin, known
            )
    finally:  # the passes set other numbers of threads
        torch.set_num_threads(threads)
        for buffer, before in buffers:
            buffer.copy_(before)
        if flat is not None:
            flat.release_gradients()
    choices = dict(runtime.choices)
    if comparison:
        better, worse, factor = comparison
        were = "was" if better == 1 else "were"
        choices["threads"] = f"{counted(better, 'thread')} {were} {factor:.2f} times as fast as {worse} in a trial"
        if factor < 1:  # fewer were faster, but not by the margin
            choices["threads"] += f" of a part of a batch, where fewer have to be {MARGIN} times as fast"
    if dtype != runtime.dtype:
        choices["dtype"] = f"faster than {runtime.dtype} in a trial"
    return replace(runtime, threads=threads, dtype=dtype, choices=choices)


def fastest(
    candidates: Sequence[Candidate],
    seconds: Callable[[Candidate], float],
    budget_s: float,
    margin: float,
    known: "KnownRatios | None" = None,
) -> tuple[Candidate, tuple[Candidate, Candidate, float] | None]:
    """Return the fastest candidate, and the last comparison: the better one, the worse one, and the factor.

    The first two are compared, then the next one with the better one, until one is not better. seconds: does some work
    with a candidate and returns its time. margin: by which factor a later candidate has to be faster. known: the ratios
    of earlier trials.
    """
    best, comparison = candidates[0], None
    for candidate in candidates[1:]:
        factor = known.confirmed(best, candidate, seconds) if known else None
        if factor is None:
            factor = speed_ratio(best, candidate, seconds, budget_s)
            if known:
                known.store(best, candidate, factor)
        if factor <= margin:
            return best, (best, candidate, 1 / factor)
        comparison = candidate, best, factor
        best = candidate
    return best, comparison


def speed_ratio(first: Candidate, second: Candidate, seconds: Callable[[Candidate], float], budget_s: float) -> float:
    """Return how many times as fast `second` is as `first`, by the times of turns without the slowest of each.

    There are `MIN_ROUNDS`, and more until they take `budget_s` seconds or the result is clear. After twice this time
    there are no more. Beside busy processes the slow turns of several threads are part of their speed, so the sums
    count, not the medians; a single one may have been chance. Of fewer rounds all count: the faster of two turns with
    several threads is chance too.
    """
    times: list[tuple[float, float]] = []
    while len(times) < MIN_ROUNDS or (sum(map(sum, times)) < budget_s and not is_clear(times)):
        times.append((seconds(first), seconds(second)))
        if sum(map(sum, times)) > 2 * budget_s > 0:
            break
    n_counted = len(times) - 1 if len(times) >= MIN_ROUNDS else len(times)
    first_s, second_s = (math.fsum(sorted(turns)[:n_counted]) for turns in zip(*times, strict=True))
    return first_s / second_s


def is_clear(times: Sequence[tuple[float, float]]) -> bool:
    """Return whether the same candidate is faster by the factor `CLEAR` in each round."""
    ratios = [first_s / second_s for first_s, second_s in times]
    return min(ratios) > CLEAR or max(ratios) < 1 / CLEAR


class KnownRatios:
    """The ratios of earlier trials on this machine with the same `settings`, in trials.json in the cache folder.

    A ratio is used again if a single round confirms it, so that most trainings start without a whole trial.
    """

    def __init__(self, settings: str) -> None:
        self.settings = settings

    def confirmed(self, first: Candidate, second: Candidate, seconds: Callable[[Candidate], float]) -> float | None:
        """Return the ratio of an earlier trial of these candidates, or None if a round does not confirm it."""
        ratio = hardware.read_measurements(FILE).get(self._key(first, second))
        if ratio is None:
            return None
        seconds(first)  # warms up
        now = seconds(first) / seconds(second)
        is_clear_still = is_clear([(ratio, 1.0), (now, 1.0)])
        return ratio if is_clear_still or 1 / CONFIRMED < now / ratio < CONFIRMED else None

    def store(self, first: Candidate, second: Candidate, ratio: float) -> None:
        """Keep a ratio for later trainings."""
        hardware.write_measurement(FILE, self._key(first, second), ratio)

    def _key(self, first: Candidate, second: Candidate) -> str:
        machine = f"{hardware.cpu_model()} | {hardware.usable_cores()} cores | torch {torch.__version__}"
        settings = hashlib.sha256(self.settings.encode()).hexdigest()[:16]
        return f"{machine} | {settings} | {first} : {second}"


class TimedPasses:
    """Forward and backward passes over rows of one micro-batch, timed.

    `budget_s` is the time for a comparison of two candidates, 0 if the run is too short for one. The rows are as many
    as let each candidate have some turns in this time.
    """

    def __init__(
        self, model: LanguageModel, flat: FlatParameters | None, window: Tensor, runtime: Runtime, passes: int
    ) -> None:
        self._model, self._flat, self._window = model, flat, window
        self._rows = self._passes_per_turn = 1
        self._backends: dict[str, Forward] = {}  # by number format
        # Beside busy processes a pass with several threads can take hundreds of times as long as usual.
        self.seconds(1, runtime.dtype)  # warms up
        row_s, turns = self.seconds(1, runtime.dtype), 2 * MIN_ROUNDS
        self.budget_s = min(BUDGET_S, SHARE_OF_RUN * passes * len(window) * row_s / runtime.threads)
        if self.budget_s < turns * row_s:
            self.budget_s = 0.0
            return
        rows = int(self.budget_s / (turns * row_s))
        self._rows = rows if rows < len(window) / 2 else len(window)
        self._passes_per_turn = max(1, round(MIN_TURN_S / (row_s * self._rows)))

    @property
    def is_whole_batch(self) -> bool:
        """Whether a pass has all rows of a micro-batch."""
        return self._rows == len(self._window)

    def seconds(self, threads: int, dtype: str) -> float:
        """Return the seconds of the passes of one turn."""
        torch.set_num_threads(threads)
        model = self._model
        if dtype not in self._backends:
            backend = None if model.adapters else model.training_backend("cpu", getattr(torch, dtype), self._flat)
            self._backends[dtype] = backend or model
        forward = self._backends[dtype]
        window = self._window[: self._rows]
        started = time.perf_counter()
        for _ in range(self._passes_per_turn):
            with hardware.autocast("cpu", dtype):
                loss = compute_loss(forward, window[:, :-1], window[:, 1:])
            loss.backward()  # type: ignore[no-untyped-call]
            for parameter in model.parameters():
                parameter.grad = None
        return time.perf_counter() - started
