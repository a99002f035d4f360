"""What a run has recorded: its state, its settings and its events, with the steps as columns of numbers."""

from array import array
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar, cast

from nanogpt.config import Config
from nanogpt.errors import UserError
from nanogpt.events import Event, LayerHealth, Saved, Started
from nanogpt.runs.checkpoints import trained_config
from nanogpt.runs.event_log import Steps, read_blocks
from nanogpt.runs.folder import read_run_toml, summary
from nanogpt.runs.state import RunState
from nanogpt.runs.thinned import Thinned

MEASURED = ("loss", "learning_rate", "grad_norm", "tokens", "tokens_per_second", "mfu", "memory_bytes", "elapsed_s")
Recorded = TypeVar("Recorded", bound=Event)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The record of one run, without what a resume undid.

    `steps` has time, step and MEASURED of each `Step` as columns (NaN for None), `events` all other events, but of
    many measurements of the layers every n-th and the newest. `config` is None if the settings cannot be read.
    `facts` are those of the table `[run]` of run.toml: versions, hardware, time.
    """

    folder: Path
    state: RunState
    config: Config | None
    facts: Mapping[str, Any]
    steps: "Mapping[str, array[float]]"
    events: list[Event]

    def all(self, kind: type[Recorded]) -> list[Recorded]:
        """Return the events of a kind, in order; `kind` is not `Step`."""
        return [event for event in self.events if isinstance(event, kind)]

    def last(self, kind: type[Recorded]) -> Recorded | None:
        """Return the last event of a kind, or None."""
        return next((event for event in reversed(self.events) if isinstance(event, kind)), None)


def read_record(run: Path) -> RunRecord:
    """Return the record of a run, which may be in training. Raise `UserError`."""
    state, facts = summary(run), read_run_toml(run).get("run", {})
    columns: dict[str, array[float]] = {name: array("d") for name in ("time", "step", *MEASURED)}
    events: list[tuple[int, Event]] = []  # each with its place in the order
    measurements = Thinned[tuple[int, Event]]()
    for number, item in enumerate(read_blocks(run / "events.jsonl", tuple(columns))):
        if isinstance(item, Steps):
            for name, column in columns.items():
                column.extend(item.columns[name])
            continue
        if isinstance(item, Started):
            is_continued = _continued_by(item, [event for _, event in events])
            events = list(filter(is_continued, events))
            measurements.keep(is_continued)
            end = bisect_right(columns["step"], item.step)
            for column in columns.values():
                del column[end:]
        if isinstance(item, LayerHealth):
            measurements.add((number, item))
        else:
            events.append((number, item))
    try:
        config: Config | None = trained_config(run)
    except UserError:
        config = None
    in_order = [event for _, event in sorted([*events, *measurements.items], key=itemgetter(0))]
    return RunRecord(run, state, config, facts, columns, in_order)


def _continued_by(started: Started, events: Sequence[Event]) -> Callable[[tuple[int, Event]], bool]:
    """Return whether a training that starts continues an event, as `nanogpt.runs.history` does; `events` are those
    before."""
    if started.step == 0 and not any(isinstance(event, Saved) and event.step == 0 for event in events):
        return lambda _: False
    return lambda numbered: cast(int, getattr(numbered[1], "step", 0)) <= started.step
