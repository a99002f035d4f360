"""A training's events as a screen wants them: columns of numbers that only grow, and short lists. Knows no screen.

One thread adds, another reads without a lock: a row is written before it is counted, and a table that is outgrown is
replaced by a copy. 100,000 steps take some 10 MB, and reading a column copies nothing.
"""

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nanogpt.events import (
    Acknowledged,
    Downloading,
    Encoding,
    Evaluated,
    Evaluating,
    Event,
    Finished,
    Health,
    Notice,
    Prepared,
    Sampled,
    Saved,
    Started,
    Step,
)

FIELDS = (
    "step",
    "loss",
    "ema",
    "learning_rate",
    "grad_norm",
    "tokens",
    "tokens_per_second",
    "mfu",
    "memory_bytes",
    "elapsed_s",
    "eta_s",
)
EMA_DECAY = 0.95
SEVERITY = {"nan": "error", "learning": "info", "going on": "info"}  # of a change in health; others are a "warning"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log; `kind` is the event's name in lower case, or a notice's level."""

    time: float
    kind: str
    text: str


class History:
    """What is known of one run. `state`: "preparing", "training", "paused", "finished", "stopped",
    "failed", or "interrupted" where a trainer died without a word."""

    def __init__(self, run: str = "") -> None:
        self.run = run
        self.state = "preparing"
        self.rest = ""  # the state that a run keeps which is to go on, where it does not begin
        self.version = 0  # grows with every event
        self.generation = 0  # grows when steps are undone
        self.started: Started | None = None
        self.finished: Finished | None = None
        self.preparing: Downloading | Encoding | None = None
        self.max_iters = 0
        self.evaluating: Evaluating | None = None
        self.evaluations: list[Evaluated] = []
        self.saves: list[Saved] = []
        self.changes: list[Acknowledged] = []
        self.samples: list[Sampled] = []
        self.health: Health | None = None
        self.log: list[Line] = []
        self.last: Step | None = None
        self._table: NDArray[np.float64] = np.empty((len(FIELDS), 1024))
        self._rows = 0
        self._smooth, self._weight = 0.0, 0.0

    def __len__(self) -> int:
        return self._rows

    def column(self, name: str) -> NDArray[np.float64]:
        """The values of `name` (one of FIELDS) at every reported step so far: a view, shape (rows,)."""
        rows = self._rows  # read before the table: a later table has at least as many
        return self._table[FIELDS.index(name), :rows]

    @property
    def step(self) -> int:
        """Optimizer steps that are complete."""
        if self.last is not None:
            return self.last.step
        return self.started.step if self.started else 0

    @property
    def running(self) -> bool:
        return self.state in ("preparing", "training", "paused")

    @property
    def evaluation(self) -> Evaluated | None:
        return self.evaluations[-1] if self.evaluations else None

    def add(self, event: Event) -> None:
        """Takes the next event of the stream."""
        match event:
            case Step():
                self._append(event)
            case Started():
                self._begin(event)
            case Evaluating():
                self.evaluating = event
            case Evaluated():
                self.evaluating = None
                self.evaluations.append(event)
                best = " (best)" if event.is_best else ""
                self.note(event, f"step {event.step:,}: validation loss {event.val_loss:.4f}{best}")
            case Sampled():
                self.samples.append(event)
            case Saved():
                self.saves.append(event)
                self.note(event, f"saved step {event.step:,}{' (best)' if event.is_best else ''}")
            case Acknowledged():
                self._obeyed(event)
            case Health():
                self.health = event
                kind = SEVERITY.get(event.state, "warning")
                self.log.append(Line(event.time, kind, event.message))
            case Notice():
                self.log.append(Line(event.time, event.level, event.text))
            case Finished():
                self.finished, self.state = event, {"nan": "failed", "stopped": "stopped"}.get(event.reason, "finished")
                self.note(event, f"{self.state} at step {event.step:,}")
            case Downloading() | Encoding():
                self.preparing = event
            case Prepared():
                self.preparing = None
                tokens = sum(event.tokens.values())
                self.note(event, f"{event.name}: {tokens:,} tokens, vocabulary {event.vocab_size:,}")
        self.version += 1

    def fail(self, text: str) -> None:
        """The work ended with an error, which `text` says in one line."""
        self.state = self.rest or "failed"
        self.log.append(Line(time.time(), "error", text))
        self.version += 1

    def note(self, event: Event, text: str) -> None:
        self.log.append(Line(event.time, type(event).__name__.lower(), text))

    def _begin(self, event: Started) -> None:
        """A start, or a resume: what was recorded after its step is undone."""
        self.started, self.finished, self.preparing, self.state = event, None, None, "training"
        self.max_iters, self.rest, self.evaluating = event.max_iters, "", None
        self._rows = int(np.searchsorted(self.column("step"), event.step, side="right"))
        self._weight = 1 - EMA_DECAY**self._rows
        self._smooth = self._weight * float(self.column("ema")[-1]) if self._rows else 0.0
        self.generation += 1
        kept: dict[str, list[Any]] = {
            name: [item for item in getattr(self, name) if item.step <= event.step]
            for name in ("evaluations", "saves", "changes", "samples")
        }
        for name, items in kept.items():
            setattr(self, name, items)
        self.last = None
        self.note(event, f"training on {event.device}, {event.dtype}, from step {event.step:,}")

    def _obeyed(self, event: Acknowledged) -> None:
        if event.letter == "Pause":
            self.state = "paused"
        if event.letter in ("Resume", "Stop"):
            self.state = "training"
        if event.max_iters is not None:
            self.max_iters = event.max_iters
        if event.letter in ("ScaleLearningRate", "SetLearningRateScale", "SetEvalInterval", "SetMaxIters"):
            self.changes.append(event)
        self.note(event, event.text)

    def _append(self, event: Step) -> None:
        if math.isfinite(event.loss):
            self._smooth = EMA_DECAY * self._smooth + (1 - EMA_DECAY) * event.loss
            self._weight = EMA_DECAY * self._weight + (1 - EMA_DECAY)
        if self._rows == self._table.shape[1]:
            grown = np.empty((len(FIELDS), 2 * self._rows))
            grown[:, : self._rows] = self._table
            self._table = grown
        self._table[:, self._rows] = (
            event.step,
            event.loss,
            self._smooth / self._weight if self._weight else math.nan,
            event.learning_rate,
            event.grad_norm,
            event.tokens,
            event.tokens_per_second,
            math.nan if event.mfu is None else event.mfu,
            event.memory_bytes,
            event.elapsed_s,
            event.eta_s,
        )
        self._rows += 1
        self.last = event


def from_events(run: str, events: Iterable[Event], state: str = "stopped") -> History:
    """The history of a run that is not being trained. `state` is that of its summary."""
    history = History(run)
    for event in events:
        history.add(event)
    if history.running or history.state == "stopped":
        history.state = state
    return history
