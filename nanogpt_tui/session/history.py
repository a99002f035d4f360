"""The history of a run for the screens: one table with a row per step, and lists of the rarer events.

One thread adds and another reads, without a lock: a row is written before the row count grows, and a table that is full
is replaced by a larger copy. 100,000 steps take about 7 MB, and reading a column copies nothing.
"""

import math
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanogpt.events import (
    Acknowledged,
    Downloading,
    Encoding,
    Evaluated,
    Event,
    Finished,
    Health,
    LayerHealth,
    LayerProblem,
    Notice,
    Prepared,
    Reading,
    Sampled,
    Saved,
    Spike,
    Started,
    Status,
    Step,
    TokenizerTraining,
)
from nanogpt.inspection import layer_problems, spikes
from nanogpt.loss_units import TextSize
from nanogpt.runs.event_log import LayerHealthLine, LogItem, Steps
from nanogpt.runs.folder import summary
from nanogpt.runs.parsed_log import read_with_progress
from nanogpt.runs.state import RunState, reduce
from nanogpt.runs.thinned import Thinned
from nanogpt.training.control import REMOTE
from nanogpt_tui.session.alerts import SEVERITY

FIELDS = (
    "step",
    "loss",
    "learning_rate",
    "grad_norm",
    "tokens",
    "tokens_per_second",
    "mfu",
    "memory_bytes",
    "elapsed_s",
)


@dataclass(frozen=True, slots=True)
class LogLine:
    """One line of the log. `time` is in seconds since the epoch; `kind` is the event's name in lower case, or a
    notice's level."""

    time: float
    kind: str
    text: str


class History:
    """Everything that the app knows about one run. `run_state` is its present state.

    While an existing record is read, `reading` is the fraction that has been read (0..1), and `run_state` is what the
    run's folder tells. `version` grows with every event, `generation` when steps are removed or replaced.
    """

    def __init__(self, run: str = "", folder_state: RunState | None = None) -> None:
        """`folder_state` is the state of a run whose record is about to be read."""
        self.reading: float | None = None if folder_state is None else 0.0
        self.preview: Steps | None = None  # some of the steps, until all are read
        self.fallback_state: RunState | None = None  # of a run that is resumed, if the resume fails
        self.version = 0
        self.generation = 0
        self.started: Started | None = None
        self.finished: Finished | None = None
        self.preparing: Downloading | Encoding | TokenizerTraining | None = None
        self.evaluations: list[Evaluated] = []
        self.saves: list[Saved] = []
        self.changes: list[Acknowledged] = []
        self.samples: list[Sampled] = []
        self.health: Health | None = None
        self.spikes: list[Spike] = []
        self.log: list[LogLine] = []
        self._folder_state = folder_state or RunState(run)
        self._event_state = RunState(run)  # the reduction of the events
        self._last: Step | None = None
        self._table: NDArray[np.float64] = np.empty((len(FIELDS), 1024))
        self._rows = 0
        self._expected_rows = 0  # of the record that is being read
        self._measurements = Thinned[LayerHealth | LayerHealthLine]()

    def __len__(self) -> int:
        preview = self._active_preview
        return self._rows if preview is None else len(preview)

    def column(self, name: str) -> NDArray[np.float64]:
        """Return the values of `name` (one of FIELDS) at every reported step: a view, (rows,)."""
        preview = self._active_preview
        if preview is not None:
            return np.frombuffer(preview.columns[name])
        return self._column(name)

    def _column(self, name: str) -> NDArray[np.float64]:
        rows = self._rows  # read before the table: a later table has at least as many
        return self._table[FIELDS.index(name), :rows]

    @property
    def _active_preview(self) -> Steps | None:
        return self.preview if self.reading is not None else None

    @property
    def run_state(self) -> RunState:
        """The present state of the run."""
        return self._event_state if self.reading is None else self._folder_state

    @property
    def run(self) -> str:
        """The run's name."""
        return self.run_state.name

    @property
    def phase(self) -> str:
        """The run's phase in one word (see `nanogpt.runs.RunState`)."""
        return self.run_state.phase

    @property
    def step(self) -> int:
        """The number of completed optimizer steps."""
        return self.run_state.step

    @property
    def max_iters(self) -> int:
        return self.run_state.max_iters

    @property
    def val_text(self) -> TextSize | None:
        """The size of the text of the validation split; None if it is not known."""
        return self.run_state.val_text

    @property
    def flops_per_token(self) -> int:
        """The floating-point operations of training for each token; 0 if not known."""
        return self.started.flops_per_token if self.started is not None else 0

    @property
    def running(self) -> bool:
        """Whether the run is training or preparing to."""
        return self.run_state.alive or self.run_state.state == "preparing"

    @property
    def last(self) -> Step | None:
        """The newest reported step."""
        preview = self._active_preview
        return self._last if preview is None else preview.last

    @property
    def unsaved(self) -> str:
        """What would be lost if the run ended now without a checkpoint, in words."""
        if not self.saves:
            return "the whole run: it has no checkpoint yet"
        return f"everything after step {self.saves[-1].step:,}, the last checkpoint"

    @property
    def layer_health(self) -> list[LayerHealth]:
        """The measurements of the layers; of many every n-th and the newest."""
        events = (item.event if isinstance(item, LayerHealthLine) else item for item in self._measurements.items)
        return [event for event in events if isinstance(event, LayerHealth)]

    @property
    def has_layer_health(self) -> bool:
        """Whether the layers have been measured."""
        return bool(self._measurements.items)

    @property
    def evaluation(self) -> Evaluated | None:
        """The newest evaluation."""
        evaluations = self.evaluations  # a resume may replace the list by a shorter one
        return evaluations[-1] if evaluations else None

    def add(self, event: LogItem) -> None:
        """Add the next event of the stream, a block of steps, or a measurement of the layers that is not parsed."""
        before = self._event_state
        if not isinstance(event, LayerHealth | LayerHealthLine):  # which does not change the state
            self._event_state = reduce(before, event.last if isinstance(event, Steps) else event)
        match event:
            case Steps():
                self._extend(event)
            case Step():
                self._append(event)
            case Started():
                self._start(event)
            case Evaluated():
                if self.health is not None and self.health.state == "rollback":
                    self.health = None
                self.evaluations.append(event)
                best = " (best)" if event.is_best else ""
                average = "" if event.ema_val_loss is None else f", EMA {event.ema_val_loss:.4f}"
                self._log_event(event, f"step {event.step:,}: validation loss {event.val_loss:.4f}{average}{best}")
            case Sampled():
                self.samples.append(event)
            case Saved():
                self.saves.append(event)
                self._log_event(event, f"saved step {event.step:,}{' (best)' if event.is_best else ''}")
            case Acknowledged():
                self._acknowledge(event)
            case Health():
                self.health = event
                kind = SEVERITY.get(event.state, "warning")
                self.log.append(LogLine(event.time, kind, event.message))
            case LayerHealth() | LayerHealthLine():
                self._measurements.add(event)
            case LayerProblem():
                kind = "info" if event.over else "warning"
                self.log.append(LogLine(event.time, kind, layer_problems.describe(event)))
            case Spike():
                self.spikes.append(event)
                self.log.append(LogLine(event.time, "warning", spikes.describe(event)))
            case Notice():
                self.log.append(LogLine(event.time, event.level, event.text))
            case Finished():
                self.finished = event
                self._log_event(event, f"{self._event_state.state} at step {event.step:,}")
            case Downloading() | Encoding() | TokenizerTraining():
                self.preparing = event
            case Prepared():
                self.preparing = None
                tokens = sum(event.tokens.values())
                self._log_event(event, f"{event.name}: {tokens:,} tokens, vocabulary {event.vocab_size:,}")
            case Reading():
                self._expected_rows = int(1.1 * self._rows * event.total_bytes / max(1, event.done_bytes))
                if self.reading is not None:
                    self.reading = event.done_bytes / max(1, event.total_bytes)
            case Status():
                self._apply_status(before, event)
        self.version += 1

    def mark_failed(self, text: str) -> None:
        """Record that the work ended with an error; `text` is the error in one line."""
        self._mark_ended("failed", text, "error")

    def mark_stopped(self, text: str) -> None:
        """Record that the person ended the work before there was an event of it; `text` says so in one line."""
        self._mark_ended("stopped", text, "info")

    def _mark_ended(self, state: str, text: str, level: str) -> None:
        self._event_state = self.fallback_state or replace(self.run_state, state=state, message=text)
        self._end_reading()
        self.log.append(LogLine(time.time(), level, text))
        self.version += 1

    def rename(self, name: str) -> None:
        """Record a new name of a run that has ended and is not followed: the status of others tells it."""
        before, self._event_state = self._event_state, replace(self._event_state, name=name)
        self._log_new_name(before.name)
        self.version += 1

    def _log_new_name(self, old: str) -> None:
        self.log.append(LogLine(time.time(), "info", f"renamed: {old} is now {self._event_state.name}"))

    def finish_reading(self) -> None:
        """End the reading of a record that nobody continues: the state is what the folder tells."""
        if self.reading is not None:
            self._event_state = self._folder_state
            self._end_reading()
            self.version += 1

    def _end_reading(self) -> None:
        # parsed here, not when they are first shown, which is in the interface's thread
        self._measurements.items = [*self.layer_health]
        self.reading = None
        self.generation += self.preview is not None
        self.preview = None

    def show_preview(self, steps: Steps | None) -> None:
        """Show these steps until all are read."""
        if steps is not None:
            self.preview = steps
            self.generation += 1
            self.version += 1

    def _apply_status(self, before: RunState, event: Status) -> None:
        """Log what the folder's status says beyond the record. The first status ends the reading of the record."""
        phase = self._event_state.phase
        if self.reading is not None:
            self._end_reading()
            self.fallback_state = None
        elif phase == before.phase:
            if self._event_state.name != before.name:
                self._log_new_name(before.name)
            return
        if phase == "interrupted":
            self.log.append(LogLine(time.time(), "gone", interruption_text(event, bool(self.saves))))
        elif phase == "silent":
            text = "no heartbeat for some time: the process, its disk or its connection may be slow"
            self.log.append(LogLine(time.time() - event.silent_s, "warning", text))
        elif phase == "failed" and event.message and self.finished is None:
            self.log.append(LogLine(event.time, "error", event.message))

    def _log_event(self, event: Event, text: str) -> None:
        self.log.append(LogLine(event.time, type(event).__name__.lower(), text))

    def _start(self, event: Started) -> None:
        """Begin the run, or resume it: remove everything after the step that it resumes from."""
        if self.finished is not None or (self.health is not None and self.health.state != "rollback"):
            self.health = None  # that of the start before; a rollback, which is shown until an evaluation, goes on
        self.started, self.finished, self.preparing = event, None, None
        if self.reading is None:
            self.fallback_state = None
        self._rows = int(np.searchsorted(self._column("step"), event.step, side="right"))
        remaining: dict[str, list[Any]] = {
            name: [item for item in getattr(self, name) if item.step <= event.step]
            for name in ("evaluations", "saves", "changes", "samples", "spikes")
        }
        for name, items in remaining.items():
            setattr(self, name, items)
        self._measurements.keep(lambda measured: measured.step <= event.step)
        self._last = None
        self.generation += 1  # last: whoever sees it reads everything anew
        self._log_event(event, f"training on {event.device}, {event.dtype}, from step {event.step:,}")

    def _acknowledge(self, event: Acknowledged) -> None:
        kind = REMOTE.get(event.command)
        if kind is not None and kind.is_change:
            self.changes.append(event)
        self._log_event(event, event.text)

    def _append(self, event: Step) -> None:
        self._reserve(1)
        self._table[:, self._rows] = [math.nan if (value := getattr(event, name)) is None else value for name in FIELDS]
        self._rows += 1
        self._last = event

    def _extend(self, steps: Steps) -> None:
        self._reserve(len(steps))
        new_rows = slice(self._rows, self._rows + len(steps))
        for row, name in zip(self._table, FIELDS, strict=True):
            row[new_rows] = steps.columns[name]
        self._rows += len(steps)
        self._last = steps.last

    def _reserve(self, more: int) -> None:
        size = self._table.shape[1]
        if self._rows + more > size:
            # memory that is not written to yet costs nothing: one table for all of a long record
            grown = np.empty((len(FIELDS), max(self._rows + more, size + (size >> 1), self._expected_rows)))
            grown[:, : self._rows] = self._table[:, : self._rows]
            self._table = grown


def interruption_text(event: Status, is_saved: bool) -> str:
    """Return a line that says that a trainer ended without a message, and what the user can do."""
    trainer = f"process {event.pid} on {event.host}" if event.pid else "its process"
    advice = "resume the run from its latest checkpoint" if is_saved else "it had saved no checkpoint yet"
    return f"{trainer} ended without a message: {advice}"


def load_history(folder: Path) -> History:
    """Read the whole record of a run."""
    history = History(folder.name, summary(folder))
    for event in read_with_progress(folder / "events.jsonl", FIELDS):
        history.add(event)
    history.finish_reading()
    return history
