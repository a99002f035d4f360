"""How fast a run would train that is being thought up: some real steps in a thread, a pause after the last change.

Knows no screen.
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
from nanogpt_tui.text import megabytes

if TYPE_CHECKING:
    from textual.timer import Timer

    from nanogpt_tui.session.session import Session
    from nanogpt_tui.session.workers import Worker

PAUSE_S = 1.0  # without a change, before the speed is measured


@dataclass(frozen=True, slots=True, kw_only=True)
class FreeMemory:
    """The device that would be trained on, and the bytes that are free there."""

    device: str
    free: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """The run will use torch.compile, which the steps that were measured did not; `why`, in the engine's words, where
    it chose that itself."""

    why: str

    @property
    def words(self) -> str:
        why = f" ({self.why})" if self.why else ""
        return f"Without torch.compile, which the run will use{why}"


Found = FreeMemory | Compiled | Event


@dataclass(frozen=True, slots=True)
class Speed:
    """What `measure` has found so far. `problem` is why it could not, in one line."""

    room: FreeMemory | None = None
    seconds_per_step: float | None = None
    note: str = ""
    problem: str = ""
    dtype: str = "float32"


def measure(config: Config, dataset: str) -> Iterator[Found]:
    """Take a few training steps of `config` on a prepared data set.

    Yield `FreeMemory`, then what `nanogpt.training.step_timing` yields, and `Compiled` if the run will be compiled.

    Raise `UserError` where it would not fit into memory, before trying.
    """
    from nanogpt import data, hardware, runs
    from nanogpt.training.step_timing import sounded

    device = hardware.resolve_device(config.system.device)
    free = hardware.available_memory(device)
    yield FreeMemory(device=device, free=free)
    opened = data.open_dataset(dataset)
    config = with_settings(config, {"vocab_size": config.model.vocab_size or opened.tokenizer.vocab_size})
    needed = estimate.memory(config, device=device).total
    if free is not None and needed > free:
        raise UserError(f"needs about {megabytes(needed)}, and {megabytes(free)} are free")
    try:
        yield from sounded(config, runs.splits(opened))
        yield from compiled(config)
    finally:
        gc.collect()
        if device.startswith("cuda"):
            import torch

            torch.cuda.empty_cache()


def compiled(config: Config) -> Iterator[Compiled]:
    """Yield one `Compiled` where a run of `config`, whose `vocab_size` is set, will use torch.compile here."""
    from nanogpt.training.runtime import resolve_runtime

    machine = resolve_runtime(config)
    if machine.compile:
        yield Compiled(why=machine.choices.get("compile", ""))


class SpeedMeasurement:
    """Keeps `speed` that of the configuration that is wanted: as it was found before, or measured anew.

    `set_timer` calls a function after so many seconds; `changed` is called in the interface's thread when measuring has
    news.
    """

    def __init__(
        self, session: "Session", set_timer: "Callable[[float, Callable[[], None]], Timer]", changed: Callable[[], None]
    ) -> None:
        self.speed = Speed()
        self._session, self._set_timer, self._changed = session, set_timer, changed
        self._config: Config | None = None
        self._datasets: Mapping[str, DatasetInfo] = {}
        self._known: dict[object, Speed] = {}  # what was measured, by all that it depends on
        self._current: tuple[object, Worker[Found]] | None = None  # what it depends on, and the work
        self._cancelled: list[Worker[Found]] = []
        self._timer: Timer | None = None

    @property
    def under_way(self) -> bool:
        return self._current is not None

    @property
    def ending(self) -> bool:
        """Whether a measuring that was cancelled still has its last step to end."""
        self._cancelled = [job for job in self._cancelled if not job.done]
        return bool(self._cancelled)

    def want(self, config: Config | None, datasets: Mapping[str, DatasetInfo]) -> None:
        """Forgets the speed where it is another's now, and measures it after a pause. None: nothing to measure."""
        self._config, self._datasets = config, datasets
        if self._timer is not None:
            self._timer.stop()
        if config is None:
            self.cancel()
        elif found := self._known.get(_depends(config)):
            self.cancel()
            self.speed = found
        elif self._current is None or self._current[0] != _depends(config):
            self.cancel()
            self.speed = Speed()
            self._timer = self._set_timer(PAUSE_S, self.begin)

    def cancel(self) -> None:
        if self._current is not None:
            self._current[1].cancel()
            self._cancelled.append(self._current[1])
            self._current = None

    def begin(self) -> None:
        """Measures what is wanted, where it can be."""
        config = self._config
        if config is None:
            return
        name = config.data.dataset
        dataset = self._datasets.get(name)
        if self._session.is_training:
            self.speed = Speed(note="the time is measured while nothing is training")
        elif dataset is None or not dataset.prepared:
            self.speed = Speed(note="the time can be measured once the data set is prepared") if dataset else Speed()
        elif self.ending:
            self._timer = self._set_timer(0.2, self.begin)
        else:
            self.cancel()
            job = self._session.work(lambda: measure(config, name), lambda: self._receive(job), name="measure")
            self._current = _depends(config), job
        self._changed()

    def _receive(self, job: "Worker[Found]") -> None:
        if self._current is None or job is not self._current[1]:
            return
        for event in job.take():
            if isinstance(event, FreeMemory):
                self.speed = Speed(room=event)
            elif isinstance(event, Measured):
                note, each = how(event, self._config), event.seconds_per_step
                self.speed = dataclasses.replace(self.speed, seconds_per_step=each, note=note, dtype=event.dtype)
            elif isinstance(event, Compiled):
                self.speed = dataclasses.replace(self.speed, note=f"{self.speed.note}. {event.words}")
        if job.done:
            if job.error:
                self.speed = dataclasses.replace(self.speed, problem=job.error)
            self._known[self._current[0]] = self.speed
            self._current = None
        self._changed()


def _depends(config: Config) -> object:
    """All that the speed depends on."""
    return config.model, config.data, config.system, type(config.optimizer)


def how(measured: Measured, config: Config | None) -> str:
    """In what way the time was found."""
    parts = [measured.device, measured.dtype]
    if measured.device == "cpu":
        parts.append(f"{measured.threads} thread{'s' if measured.threads != 1 else ''}")
    if config is not None and measured.batch_size < config.data.batch_size:
        parts.append(f"from {measured.batch_size} of {config.data.batch_size} sequences")
    return ", ".join(parts)
