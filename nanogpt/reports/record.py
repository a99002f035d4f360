"""What a run has recorded: its state, its settings and its events, with the steps as columns of numbers."""

from array import array
from bisect import bisect_right
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, cast

from nanogpt.config import Config
from nanogpt.errors import UserError
from nanogpt.events import Event, Saved, Started
from nanogpt.runs.event_log import Steps, read_blocks
from nanogpt.runs.folder import read_run_toml, run_config, summary
from nanogpt.runs.state import RunState

MEASURED = ("loss", "learning_rate", "grad_norm", "tokens", "tokens_per_second", "mfu", "memory_bytes", "elapsed_s")
Recorded = TypeVar("Recorded", bound=Event)


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The record of one run, without what a resume undid.

    `steps` has time, step and MEASURED of each `Step` as columns (NaN for None), `events` all other events. `config` is
    None if the settings cannot be read. `facts` are those of the table `[run]` of run.toml: versions, hardware, time.
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
    events: list[Event] = []
    for item in read_blocks(run / "events.jsonl", tuple(columns)):
        if isinstance(item, Steps):
            for name, column in columns.items():
                column.extend(item.columns[name])
            continue
        if isinstance(item, Started):
            events = _continued(events, item.step)
            end = bisect_right(columns["step"], item.step)
            for column in columns.values():
                del column[end:]
        events.append(item)
    try:
        config: Config | None = run_config(run)
    except UserError:
        config = None
    return RunRecord(run, state, config, facts if isinstance(facts, dict) else {}, columns, events)


def _continued(events: list[Event], step: int) -> list[Event]:
    """Return the events that a training that starts at `step` continues, as `nanogpt.runs.history` does."""
    if step == 0 and not any(isinstance(event, Saved) and event.step == 0 for event in events):
        return []
    return [event for event in events if cast(int, getattr(event, "step", 0)) <= step]
