"""Read `events.jsonl` in blocks of lines; consecutive steps become columns of numbers, not objects. Imports no torch.

A million steps are about 320 MB. They are parsed by msgspec, in a second; as `Step` objects they would take a gigabyte
and a minute.
"""

import io
import math
import os
import re
import time
from array import array
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import suppress
from dataclasses import MISSING, dataclass, fields
from functools import cache, cached_property
from itertools import groupby, islice
from pathlib import Path
from typing import Any, TypeVar, cast

from nanogpt.errors import UserError
from nanogpt.events import KINDS, Event, LayerHealth, Notice, Reading, Started, Step, from_json
from nanogpt.files import open_regular, why

BLOCK = 1 << 22  # bytes read at once: few calls, since each takes long on a network disk
LONGEST_EVENT = 1 << 24  # bytes; samples are the longest events
LARGE = 1 << 23  # bytes; a larger log has a preview
TOGETHER = 1000  # steps parsed at once: about a millisecond
PREVIEW_POINTS, PREVIEW_S = 1024, 0.2  # the latter for a slow disk
NAME = re.compile(rb'\{"event": ?"(\w+)"')
STEP_LINES = (b'{"event":"Step",', b'{"event": "Step",')
LAYER_HEALTH_LINE = b'{"event":"LayerHealth",'
FREQUENT_LINES = (*STEP_LINES, LAYER_HEALTH_LINE)
Recorded = TypeVar("Recorded", bound=Event)
MEASURED = tuple(item.name for item in fields(Step))


@dataclass(frozen=True, slots=True)
class Steps:
    """Consecutive `Step` events: the values of some fields as float64 (NaN for None), and the last event."""

    columns: dict[str, "array[float]"]
    last: Step

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))


@dataclass(frozen=True)
class LayerHealthLine:
    """The line of a `LayerHealth`, which is parsed when it is needed: of many measurements few are shown.

    Its fields are there, but may have wrong types.
    """

    step: int
    line: bytes

    @cached_property
    def event(self) -> Event:
        """Return the event, or a `Notice` if it is unreadable."""
        return parse_event(self.line, Path("events.jsonl"))


LogItem = Event | Steps | LayerHealthLine


def parse_block(block: bytes, path: Path, names: tuple[str, ...] = MEASURED) -> Iterator[Event | Steps]:
    """Yield the events of whole lines, those of steps as `Steps` with these fields. An unreadable line becomes a
    `Notice`.

    A measurement of the layers may come after steps that follow it, so that more steps are parsed together.
    """
    for item, _ in parse_with_lines(block, path, names):
        yield item.event if isinstance(item, LayerHealthLine) else item


def parse_with_lines(block: bytes, path: Path, names: tuple[str, ...]) -> Iterator[tuple[LogItem, bytes]]:
    """Like `parse_block`, but yield each item with its line, `Steps` with the last one, and measurements unparsed."""
    for is_frequent, group in groupby(io.BytesIO(block), key=_is_frequent):  # its lines end only at a line feed
        while lines := list(islice(group, TOGETHER if is_frequent else 1)):
            of_steps = [line for line in lines if line.startswith(STEP_LINES)]
            steps = _steps(of_steps, names)
            if steps is not None:
                yield steps, of_steps[-1]
                lines = [] if len(steps) == len(lines) else [line for line in lines if not line.startswith(STEP_LINES)]
            for line in lines:
                event = parse_lazily(line, path)
                yield _single(event, names) if isinstance(event, Step) else event, line


def parse_event(line: bytes, path: Path) -> Event:
    """Return the event of one line, or a `Notice` if it is unreadable."""
    try:
        return _fast_event(line) or from_json(line)
    except UserError as error:
        return Notice(level="warning", text=f"a line of {path} cannot be read and is skipped: {error}")


def parse_lazily(line: bytes, path: Path) -> Event | LayerHealthLine:
    """Like `parse_event`, but of a measurement of the layers only the step is parsed."""
    import msgspec

    if line.startswith(LAYER_HEALTH_LINE):
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):
            return LayerHealthLine(_layer_health_decoder()(line).step, line)
    return parse_event(line, path)


def _fast_event(line: bytes) -> Event | None:
    """Return the event that `from_json` returns; None for what msgspec cannot parse, such as a loss of NaN."""
    import msgspec

    name = NAME.match(line)
    if name and (kind := name[1].decode()) in KINDS:
        with suppress(msgspec.MsgspecError, ValueError, RecursionError):
            return _event_decoder(kind)(line)
    return None


def are_objects(block: bytes) -> bool:
    """Return whether each of these whole lines is a JSON object with the name of an event."""
    import msgspec

    decode = _name_decoder()
    try:
        for line in io.BytesIO(block):
            decode(line)
    except (msgspec.MsgspecError, ValueError, RecursionError):
        return False
    return True


def _is_frequent(line: bytes) -> bool:
    return line.startswith(FREQUENT_LINES)


@cache
def _event_decoder(name: str) -> Callable[[bytes], Event]:
    """Return a function that parses a line of this kind of event."""
    import msgspec

    return msgspec.json.Decoder(KINDS[name]).decode


@cache
def _name_decoder() -> Callable[[bytes], Any]:
    """Return a function that parses the line of any event, and keeps only its name."""
    import msgspec

    return msgspec.json.Decoder(msgspec.defstruct("EventLine", [("event", str)])).decode


@cache
def _layer_health_decoder() -> Callable[[bytes], Any]:
    """Return a function that parses the step of a line with the fields of a `LayerHealth`."""
    import msgspec

    others: list[Any] = [
        (each.name, msgspec.Raw) for each in fields(LayerHealth) if each.default is MISSING and each.name != "step"
    ]
    return msgspec.json.Decoder(msgspec.defstruct("LayerHealthLine", [*others, ("step", int)])).decode


@cache
def _step_decoder(names: tuple[str, ...]) -> Callable[[bytes], Any]:
    """Return a function that parses these fields of a line of a `Step`; `msgspec.structs.astuple` has the values."""
    import msgspec

    number = float | str | None  # a string for a number that is not finite
    defaults = {each.name: (each.default,) for each in fields(Step) if each.default is not MISSING}
    columns: list[Any] = [(name, number, *defaults.get(name, ())) for name in names]
    return msgspec.json.Decoder(msgspec.defstruct("StepLine", columns, kw_only=True, gc=False)).decode


def _steps(lines: Sequence[bytes], names: tuple[str, ...]) -> Steps | None:
    """Return the steps of these lines; None if one of them is unreadable."""
    import msgspec

    if not lines:
        return None
    with suppress(msgspec.MsgspecError, ValueError, RecursionError):
        rows = zip(*map(msgspec.structs.astuple, map(_step_decoder(names), lines)), strict=True)
        columns = dict(zip(names, map(_column, rows), strict=True))
        last = parse_event(lines[-1], Path())
        return Steps(columns, last) if isinstance(last, Step) else None
    return None


def _single(step: Step, names: tuple[str, ...]) -> Steps:
    values = ((name, getattr(step, name)) for name in names)
    return Steps({name: array("d", [math.nan if value is None else value]) for name, value in values}, step)


def _column(values: tuple[float | str | None, ...]) -> "array[float]":
    try:
        return array("d", values)  # type: ignore[arg-type]
    except TypeError:
        return array("d", [math.nan if value is None else float(value) for value in values])


def preview(path: Path, points: int = PREVIEW_POINTS) -> Steps | None:
    """Return about `points` steps of a large log, evenly spread, and the last one; None if the log is small.

    On a slow disk they are fewer: it takes about PREVIEW_S.
    """
    deadline = time.monotonic() + PREVIEW_S
    found: dict[int, bytes] = {}  # by their places in the file
    with suppress(OSError), open_regular(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size < LARGE:
            return None
        end = max(0, size - 4096)
        file.seek(end)
        tail = [line for line in file.read(4096).split(b"\n")[1:-1] if line.startswith(STEP_LINES)]
        for place in _evenly(size, points):
            if time.monotonic() > deadline:
                break
            file.seek(place)
            file.readline()
            line = file.readline()
            if place < end and line.startswith(STEP_LINES) and line.endswith(b"\n"):
                found[place] = line
        return _rising([*(found[place] for place in sorted(found)), *tail])
    return None


def _evenly(size: int, points: int) -> Iterator[int]:
    """Yield places in a file of `size` bytes, each halfway between earlier ones, until `points` are reached."""
    parts = 1
    yield 0
    while parts < points:
        yield from (size * (2 * number + 1) // (2 * parts) for number in range(parts))
        parts *= 2


def _rising(lines: Iterable[bytes]) -> Steps | None:
    """Return the steps of these lines, without those that were repeated later, after a resume."""
    steps = _steps(list(lines), MEASURED)
    if steps is None:
        return None
    at = steps.columns["step"]
    rising: list[int] = []
    for number, step in enumerate(at):
        while rising and at[rising[-1]] >= step:
            rising.pop()
        rising.append(number)
    columns = {name: array("d", [column[number] for number in rising]) for name, column in steps.columns.items()}
    return Steps(columns, steps.last)


def read_blocks(path: Path, names: tuple[str, ...] = MEASURED) -> Iterator[Event | Steps]:
    """Yield all recorded events, also those that a resume undid, without an incomplete last line.

    Steps have the fields `names`. Raise `UserError`.
    """
    for block, _ in whole_lines(path):
        yield from parse_block(block, path, names)


def whole_lines(path: Path, start: int = 0) -> Iterator[tuple[bytes, Reading]]:
    """Yield blocks of whole lines from the byte `start` on, and how much has been read; nothing if there is no file.

    Raise `UserError`.
    """
    rest, done = b"", start
    try:
        with open_regular(path) as file:
            total = os.fstat(file.fileno()).st_size
            file.seek(start)
            while block := file.read(BLOCK):
                done += len(block)
                whole, newline, rest = (rest + block).rpartition(b"\n")
                if newline:
                    yield whole + newline, Reading(done_bytes=done, total_bytes=total)
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
    wanted, path = (kind.__name__.encode(), b"Started"), run / "events.jsonl"
    for block, _ in whole_lines(path):
        for line in io.BytesIO(block):
            name = NAME.match(line)
            if name and name[1] not in wanted:
                continue
            event = parse_event(line, path)
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
    for event in read_blocks(run / "events.jsonl", tuple(names)):
        if isinstance(event, Started):
            end = bisect_right(columns["step"], event.step)
            for column in columns.values():
                del column[end:]
        elif isinstance(event, Steps):
            for name, column in columns.items():
                column.extend(event.columns[name])
    return columns
