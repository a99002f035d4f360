"""A training's events as a screen wants them: columns of numbers that only grow, and short lists. Knows no screen.

One thread adds, another reads without a lock: a row is written before it is counted, and a table that is outgrown is
replaced by a copy. 100,000 steps take some 7 MB, and reading a column copies nothing.
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
    Notice,
    Prepared,
    Reading,
    Sampled,
    Saved,
    Started,
    Status,
    Step,
)
from nanogpt.runs.event_log import Steps, read_blocks
from nanogpt.runs.folder import summary
from nanogpt.runs.state import RunState, reduce
from nanogpt.training.control import REMOTE

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
SEVERITY = {"nan": "error", "learning": "info", "going on": "info"}  # of a change in health; others are a "warning"


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the log; `kind` is the event's name in lower case, or a notice's level."""

    time: float
    kind: str
    text: str


class History:
    """What is known of one run. `now` is how it stands, `state` its phase in one word (see `nanogpt.runs.RunState`).

    While the record of a run is read that was there before, `reading` is the share that is read (0..1), and `now` is
    what the folder says of it.
    """

    def __init__(self, run: str = "", seen: RunState | None = None) -> None:
        """`seen` is how a run stands whose record is going to be read."""
        self.reading: float | None = None if seen is None else 0.0
        self.preview: Steps | None = None  # some of the steps, until all are read
        self.rest: RunState | None = None  # what a run stays that is to go on, where it does not begin
        self.version = 0  # grows with every event
        self.generation = 0  # grows when steps are undone
        self.started: Started | None = None
        self.finished: Finished | None = None
        self.preparing: Downloading | Encoding | None = None
        self.evaluations: list[Evaluated] = []
        self.saves: list[Saved] = []
        self.changes: list[Acknowledged] = []
        self.samples: list[Sampled] = []
        self.health: Health | None = None
        self.log: list[Line] = []
        self._seen = seen or RunState(run)
        self._recorded = RunState(run)  # by the events alone
        self._last: Step | None = None
        self._table: NDArray[np.float64] = np.empty((len(FIELDS), 1024))
        self._rows = 0

    def __len__(self) -> int:
        preview = self._shown_before
        return self._rows if preview is None else len(preview)

    def column(self, name: str) -> NDArray[np.float64]:
        """The values of `name` (one of FIELDS) at every reported step so far: a view, shape (rows,)."""
        preview = self._shown_before
        if preview is not None:
            return np.frombuffer(preview.columns[name])
        return self._column(name)

    def _column(self, name: str) -> NDArray[np.float64]:
        rows = self._rows  # read before the table: a later table has at least as many
        return self._table[FIELDS.index(name), :rows]

    @property
    def _shown_before(self) -> Steps | None:
        """What is shown of the steps while they are read."""
        return self.preview if self.reading is not None else None

    @property
    def now(self) -> RunState:
        return self._recorded if self.reading is None else self._seen

    @property
    def run(self) -> str:
        return self.now.name

    @property
    def state(self) -> str:
        return self.now.phase

    @property
    def step(self) -> int:
        """Optimizer steps that are complete."""
        return self.now.step

    @property
    def max_iters(self) -> int:
        return self.now.max_iters

    @property
    def running(self) -> bool:
        return self.now.alive or self.now.state == "preparing"

    @property
    def last(self) -> Step | None:
        preview = self._shown_before
        return self._last if preview is None else preview.last

    @property
    def unsaved(self) -> str:
        """What is lost where the run ends now without a checkpoint, in words."""
        if not self.saves:
            return "the whole run: it has no checkpoint yet"
        return f"everything after step {self.saves[-1].step:,}, the last checkpoint"

    @property
    def evaluation(self) -> Evaluated | None:
        return self.evaluations[-1] if self.evaluations else None

    def add(self, event: Event | Steps) -> None:
        """Takes the next event of the stream, or many steps together."""
        before = self._recorded
        self._recorded = reduce(before, event.last if isinstance(event, Steps) else event)
        match event:
            case Steps():
                self._extend(event)
            case Step():
                self._append(event)
            case Started():
                self._begin(event)
            case Evaluated():
                self.evaluations.append(event)
                best = " (best)" if event.is_best else ""
                self.note(event, f"step {event.step:,}: validation loss {event.val_loss:.4f}{best}")
            case Sampled():
                self.samples.append(event)
            case Saved():
                self.saves.append(event)
                self.note(event, f"saved step {event.step:,}{' (best)' if event.is_best else ''}")
            case Acknowledged():
                self._acknowledged(event)
            case Health():
                self.health = event
                kind = SEVERITY.get(event.state, "warning")
                self.log.append(Line(event.time, kind, event.message))
            case Notice():
                self.log.append(Line(event.time, event.level, event.text))
            case Finished():
                self.finished = event
                self.note(event, f"{self._recorded.state} at step {event.step:,}")
            case Downloading() | Encoding():
                self.preparing = event
            case Prepared():
                self.preparing = None
                tokens = sum(event.tokens.values())
                self.note(event, f"{event.name}: {tokens:,} tokens, vocabulary {event.vocab_size:,}")
            case Reading():
                if self.reading is not None:
                    self.reading = event.done_bytes / max(1, event.total_bytes)
            case Status():
                self._look(before, event)
        self.version += 1

    def fail(self, text: str) -> None:
        """The work ended with an error, which `text` says in one line."""
        self._recorded = self.rest or replace(self.now, state="failed", message=text)
        self._read()
        self.log.append(Line(time.time(), "error", text))
        self.version += 1

    def stay(self) -> None:
        """All that was recorded is read, and nobody goes on with the run: it is as its folder says."""
        if self.reading is not None:
            self._recorded = self._seen
            self._read()
            self.version += 1

    def _read(self) -> None:
        self.reading = None
        self.generation += self.preview is not None
        self.preview = None

    def show_preview(self, steps: Steps | None) -> None:
        """Shows these steps until all are read."""
        if steps is not None:
            self.preview = steps
            self.generation += 1
            self.version += 1

    def _look(self, before: RunState, event: Status) -> None:
        """All that was recorded is read; and how the run stands beyond that."""
        phase = self._recorded.phase
        if self.reading is not None:
            self._read()
            self.rest = None
        elif phase == before.phase:
            if self._recorded.name != before.name:
                self.log.append(Line(time.time(), "info", f"renamed: {before.name} is {self._recorded.name} now"))
            return
        if phase == "interrupted":
            self.log.append(Line(time.time(), "gone", gone(event, bool(self.saves))))
        elif phase == "silent":
            text = "no heartbeat for some time: the process, its disk or its connection may be slow"
            self.log.append(Line(time.time() - event.silent_s, "warning", text))
        elif phase == "failed" and event.message and self.finished is None:
            self.log.append(Line(event.time, "error", event.message))

    def note(self, event: Event, text: str) -> None:
        self.log.append(Line(event.time, type(event).__name__.lower(), text))

    def _begin(self, event: Started) -> None:
        """A start, or a resume: what was recorded after its step is undone."""
        self.started, self.finished, self.preparing = event, None, None
        if self.reading is None:
            self.rest = None
        self._rows = int(np.searchsorted(self._column("step"), event.step, side="right"))
        self.generation += 1
        kept: dict[str, list[Any]] = {
            name: [item for item in getattr(self, name) if item.step <= event.step]
            for name in ("evaluations", "saves", "changes", "samples")
        }
        for name, items in kept.items():
            setattr(self, name, items)
        self._last = None
        self.note(event, f"training on {event.device}, {event.dtype}, from step {event.step:,}")

    def _acknowledged(self, event: Acknowledged) -> None:
        kind = REMOTE.get(event.command)
        if kind is not None and kind.is_change:
            self.changes.append(event)
        self.note(event, event.text)

    def _append(self, event: Step) -> None:
        self._make_room(1)
        self._table[:, self._rows] = [math.nan if (value := getattr(event, name)) is None else value for name in FIELDS]
        self._rows += 1
        self._last = event

    def _extend(self, steps: Steps) -> None:
        self._make_room(len(steps))
        there = slice(self._rows, self._rows + len(steps))
        for row, name in zip(self._table, FIELDS, strict=True):
            row[there] = steps.columns[name]
        self._rows += len(steps)
        self._last = steps.last

    def _make_room(self, more: int) -> None:
        size = self._table.shape[1]
        if self._rows + more > size:
            grown = np.empty((len(FIELDS), max(self._rows + more, size + (size >> 1))))
            grown[:, : self._rows] = self._table[:, : self._rows]
            self._table = grown


def gone(event: Status, is_saved: bool) -> str:
    """That a trainer ended without a message, and what can be done."""
    where = f"process {event.pid} on {event.host}" if event.pid else "its process"
    way = "resume the run from its latest checkpoint" if is_saved else "it had saved no checkpoint yet"
    return f"{where} ended without a message: {way}"


def read(folder: Path) -> History:
    """What is recorded of a run, all at once."""
    seen = summary(folder)
    history = History(folder.name, seen)
    for event in read_blocks(folder / "events.jsonl"):
        history.add(event)
    history.stay()
    return history
