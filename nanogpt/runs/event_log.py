"""Read `events.jsonl` in blocks of lines; consecutive steps become columns of numbers, not objects. Imports no torch.

A million steps are about 350 MB; as `Step` objects they would take a gigabyte and a minute.
"""

import io
import json
import math
from array import array
from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, fields
from itertools import groupby
from pathlib import Path
from typing import Any, TypeVar, cast

from nanogpt.errors import UserError
from nanogpt.events import Event, Notice, Started, Step, from_json
from nanogpt.files import open_regular, why
from nanogpt.records import from_values

BLOCK = 1 << 17  # bytes read and parsed at once: about 4 ms, during which other threads wait for the GIL
LONGEST_EVENT = 1 << 24  # bytes; samples are the longest events
LARGE = 1 << 23  # bytes; a larger log has a preview
Recorded = TypeVar("Recorded", bound=Event)
MEASURED = tuple(item.name for item in fields(Step))


@dataclass(frozen=True, slots=True)
class Steps:
    """Consecutive `Step` events: the values of each field as float64 (NaN for None), and the last event."""

    columns: dict[str, "array[float]"]
    last: Step

    def __len__(self) -> int:
        return len(self.columns["step"])


def parse_block(block: bytes, path: Path) -> Iterator[Event | Steps]:
    """Yield the events of whole lines, those of steps as `Steps`. An unreadable line becomes a `Notice`."""
    rows = parse_objects(block)
    if rows is not None:
        with suppress(UserError, ValueError, TypeError, KeyError, OverflowError):
            yield from list(_grouped(rows))
            return
    for line in io.BytesIO(block):  # not splitlines, which breaks at a carriage return too
        event = parse_event(line, path)
        yield _single(event) if isinstance(event, Step) else event


def parse_event(line: bytes, path: Path) -> Event:
    """Return the event of one line, or a `Notice` if it is unreadable."""
    try:
        return from_json(line)
    except UserError as error:
        return Notice(level="warning", text=f"a line of {path} cannot be read and is skipped: {error}")


def parse_objects(block: bytes) -> list[dict[str, Any]] | None:
    """Return the JSON objects of whole lines, parsed together; None if a line is not an object."""
    try:
        rows = json.loads(b"[" + block[:-1].replace(b"\n", b",") + b"]")
    except (ValueError, RecursionError):
        return None
    whole = len(rows) == block.count(b"\n") and all(isinstance(row, dict) for row in rows)
    return rows if whole else None


def _grouped(rows: Iterable[dict[str, Any]]) -> Iterator[Event | Steps]:
    for is_step, group in groupby(rows, key=lambda row: row["event"] == "Step"):
        if is_step:
            yield _steps(list(group))
        else:
            for row in group:
                yield from_json(json.dumps(row))


def _steps(rows: list[dict[str, Any]]) -> Steps:
    columns = {}
    for name in MEASURED:
        values = [row.get(name, 0.0) for row in rows] if name == "data_share" else [row[name] for row in rows]
        try:
            columns[name] = array("d", values)
        except TypeError:  # None, or a string for a number that is not finite
            columns[name] = array("d", [math.nan if value is None else float(value) for value in values])
    return Steps(columns, from_values(Step, rows[-1]))


def _single(step: Step) -> Steps:
    values = {name: getattr(step, name) for name in MEASURED}
    return Steps({name: array("d", [math.nan if v is None else v]) for name, v in values.items()}, step)


def preview(path: Path, points: int = 1000) -> Steps | None:
    """Return about `points` steps of a large log, evenly spread, and the last one; None if the log is small."""
    rows: list[dict[str, Any]] = []
    with suppress(OSError), open_regular(path) as file:
        size = path.stat().st_size
        if size < LARGE:
            return None
        for place in (*range(0, size, size // points), max(0, size - 4096)):
            file.seek(place)
            file.readline()
            for line in (file.readline() for _ in range(1 if place < size - 4096 else 64)):
                row = parse_objects(line) if line.endswith(b"\n") else None
                if row and row[0].get("event") == "Step":
                    while rows and rows[-1]["step"] >= row[0]["step"]:  # repeated after a resume
                        rows.pop()
                    rows += row
    with suppress(ValueError, TypeError, KeyError, OverflowError):
        return _steps(rows) if rows else None
    return None


def read_blocks(path: Path) -> Iterator[Event | Steps]:
    """Yield all recorded events, also those that a resume undid, without an incomplete last line. Raise `UserError`."""
    rest = b""
    try:
        with open_regular(path) as file:
            while block := file.read(BLOCK):
                whole, newline, rest = (rest + block).rpartition(b"\n")
                if newline:
                    yield from parse_block(whole + newline, path)
                rest = rest[-LONGEST_EVENT:]  # a longer line is not an event
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot read {path}: {why(error)}") from None


def events_of(run: Path, kind: type[Recorded]) -> list[Recorded]:
    """Return the events of a kind with a `step` that a run has recorded, without those that a resume undid.

    For `Step` use `steps_of`. Raise `UserError`.
    """
    found: list[Recorded] = []
    for event in read_blocks(run / "events.jsonl"):
        if isinstance(event, Started):
            last = event.step
            found = [each for each in found if cast("Any", each).step <= last]
        elif isinstance(event, kind):
            found.append(event)
    return found


def steps_of(run: Path, names: Sequence[str]) -> dict[str, "array[float]"]:
    """Return these fields of all recorded steps, "step" among them, without those that a resume undid.

    Raise `UserError`.
    """
    columns: dict[str, array[float]] = {name: array("d") for name in names}
    for event in read_blocks(run / "events.jsonl"):
        if isinstance(event, Started):
            end = bisect_right(columns["step"], event.step)
            for column in columns.values():
                del column[end:]
        elif isinstance(event, Steps):
            for name, column in columns.items():
                column.extend(event.columns[name])
    return columns
