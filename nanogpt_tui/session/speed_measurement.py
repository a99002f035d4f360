"""The step time that the form of a new run shows, measured in a thread whenever its configuration changes.

The measurement itself is in `nanogpt/training/step_timing.py`.
"""

import dataclasses
import gc
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from nanogpt.config import Config, with_settings
from nanogpt.data.catalog import DatasetInfo
from nanogpt.errors import UserError
from nanogpt.events import Event, Measured
from nanogpt.training import estimate
from nanogpt_tui.text import format_bytes

if TYPE_CHECKING:
    from textual.timer import Timer

    from nanogpt_tui.session.session import Session
    from nanogpt_tui.session.workers import Worker

DELAY_S = 1.0  # after the last change of the configuration
RETRY_S = 0.2  # while a cancelled measurement finishes its last step
NOT_NOW = "the time is measured while nothing is training"


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeMemory:
    """The device of the run, its free memory in bytes, None if that is not known, and the number format."""

    device: str
    free: int | None
    dtype: str = "float32"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """The run will use torch.compile, and the measured steps did not. `why` is the engine's reason if the engine chose
    it."""

    why: str

    @property
    def text(self) -> str:
        """One sentence without its full stop."""
        why = f" ({self.why})" if self.why else ""
        return f"Without torch.compile, which the run will use{why}"


Result = FreeMemory | Compiled | Event


@dataclass(frozen=True, slots=True)
class Speed:
    """The results so far. `note` says how the time was measured, or why not; `problem` is an error in one line."""

    memory: FreeMemory | None = None
    seconds_per_step: float | None = None
    note: str = ""
    problem: str = ""
    dtype: str = "float32"


def measure(config: Config, dataset: str) -> Iterator[Result]:
    """Take a few training steps of `config` on a prepared data set.

    Yield `FreeMemory`, then what `nanogpt.training.step_timing` yields, and `Compiled` if the run will be compiled.

    Raise `UserError` without a step if the training would not fit into memory.
    """
    from nanogpt import data, hardware, runs
    from nanogpt.training.step_timing import estimate_step_time

    device = hardware.resolve_device(config.system.device)
    hardware.release_memory()  # of a training before
    free = hardware.available_memory(device)
    tokens, dtype = config.data.batch_size * config.model.block_size, "float32"
    if not config.model.capabilities.counted:
        dtype, _ = hardware.resolve_dtype(config.system.dtype, device, width=config.model.width, tokens=tokens)
    yield FreeMemory(device=device, free=free, dtype=dtype)
    opened = data.open_dataset(dataset)
    config = runs.with_dataset(config, opened)
    needed = estimate.memory(config, dtype, device).total * (config.system.processes if device == "cpu" else 1)
    if free is not None and needed > free:
        raise UserError(f"needs about {format_bytes(needed)}, and {format_bytes(free)} are free")
    try:
        yield from estimate_step_time(config, runs.splits(opened))
        yield from compiled(config)
    finally:
        gc.collect()
        hardware.release_memory()


def compiled(config: Config) -> Iterator[Compiled]:
    """Yield one `Compiled` if a run of `config` will use torch.compile on this machine. `vocab_size` must be set."""
    from nanogpt.training.runtime import resolve_runtime

    runtime = resolve_runtime(with_settings(config, {"processes": 1}))
    if runtime.compile:
        yield Compiled(why=runtime.choices.get("compile", ""))


class SpeedMeasurement:
    """Keep `speed` up to date for the requested configuration. Results are cached by everything the speed depends on.

    `set_timer(seconds, function)` calls the function later; `changed` is called in the interface's thread when `speed`
    has changed.
    """

    def __init__(
        self, session: "Session", set_timer: "Callable[[float, Callable[[], None]], Timer]", changed: Callable[[], None]
    ) -> None:
        self.speed = Speed()
        self._session, self._set_timer, self._changed = session, set_timer, changed
        self._config: Config | None = None
        self._datasets: Mapping[str, DatasetInfo] = {}
        self._cache: dict[object, Speed] = {}  # by `_cache_key`
        self._current: tuple[object, Worker[Result]] | None = None  # the cache key, and the worker
        self._failed: object = None  # the cache key of the last measurement if that had a problem
        self._timer: Timer | None = None

    @property
    def is_measuring(self) -> bool:
        return self._current is not None

    def request(self, config: Config | None, datasets: Mapping[str, DatasetInfo]) -> None:
        """Set the configuration to measure. Start after DELAY_S unless its speed is known. None: nothing to measure."""
        self._config, self._datasets = config, datasets
        if self._timer is not None:
            self._timer.stop()
        if config is None:
            self.cancel()
        elif known := self._cache.get(_cache_key(config)):
            self.cancel()
            self.speed = known
        elif _cache_key(config) not in (self._failed, self._current[0] if self._current is not None else None):
            self.cancel()
            self.speed, self._failed = Speed(), None
            self._timer = self._set_timer(DELAY_S, self.start)

    def cancel(self) -> None:
        """Cancel the measurement, if there is one. Do not wait for it."""
        if self._current is not None:
            self._current[1].cancel()
            self._current = None

    def start(self) -> None:
        """Measure the requested configuration now if that is possible; else say in `speed.note` why not."""
        if self._timer is not None:
            self._timer.stop()  # a pending start would measure the same a second time
        config = self._config
        if config is None:
            return
        self.cancel()
        self._failed = None
        name = config.data.dataset
        dataset = self._datasets.get(name)
        if self._session.is_training:
            self.speed = Speed(note=NOT_NOW)
        elif dataset is None or not dataset.prepared:
            self.speed = Speed(note="the time can be measured once the data set is prepared") if dataset else Speed()
        elif self._session.is_measuring:
            self._timer = self._set_timer(RETRY_S, self.start)
        else:
            worker = self._session.start_measurement(lambda: measure(config, name), lambda: self._on_results(worker))
            self._current = _cache_key(config), worker
        self._changed()

    def _on_results(self, worker: "Worker[Result]") -> None:
        if self._current is None or worker is not self._current[1]:
            return
        ended = worker.done  # read first: what it yields after this is taken the next time
        for result in worker.drain():
            if isinstance(result, FreeMemory):
                self.speed = Speed(memory=result, dtype=result.dtype)
            elif isinstance(result, Measured):
                self.speed = dataclasses.replace(
                    self.speed,
                    seconds_per_step=result.seconds_per_step,
                    note=conditions(result, self._config),
                    dtype=result.dtype,
                )
            elif isinstance(result, Compiled):
                self.speed = dataclasses.replace(self.speed, note=f"{self.speed.note}. {result.text}")
        if ended:
            if worker.error:
                self.speed = dataclasses.replace(self.speed, problem=worker.error)
            if worker.cancelled:  # by a training that starts
                self.speed = Speed(note=NOT_NOW)
            elif self.speed.problem:  # it may be gone the next time
                self._failed = self._current[0]
            else:
                self._cache[self._current[0]] = self.speed
            self._current = None
        self._changed()


def _cache_key(config: Config) -> object:
    """Return everything that the speed and its note depend on."""
    optimizer = type(config.optimizer), config.optimizer.ema_decay
    length = config.schedule.max_iters if config.system.compile == "auto" else None  # it decides what "auto" is
    return config.model, config.data, config.system, optimizer, config.checkpoint.lora_rank, length


def conditions(measured: Measured, config: Config | None) -> str:
    """Return the conditions of a measurement in words: device, number format, threads, a smaller batch."""
    parts = [measured.device, measured.dtype]
    if measured.device == "cpu":
        parts.append(f"{measured.threads} thread{'s' if measured.threads != 1 else ''}")
    if config is not None and config.system.processes > 1:
        parts.append("in one process")
    if config is not None and measured.batch_size < config.data.batch_size:
        parts.append(f"from {measured.batch_size} of {config.data.batch_size} sequences")
    return ", ".join(parts)
