"""What long work reports: frozen records of plain values, each one line of JSON. Knows nothing of who reads them.

Preparing, training, sampling and following a run are all iterators of these events. `to_json` and `from_json` are each
other's inverse, also for NaN and infinity, which JSON has no number for and which are written as strings.
"""

import dataclasses
import json
import math
import time as clock
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, Literal, TypeVar, get_args, get_origin, get_type_hints

from nanogpt.errors import UserError


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`time` is the wall clock (seconds since 1970), for people; durations and rates come from a monotonic clock."""

    time: float = field(default_factory=clock.time)


# ---- preparing a data set


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloading(Event):
    """Bytes of a source fetched so far; `total_bytes` is None where the server does not say."""

    source: str
    done_bytes: int
    total_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding(Event):
    """Progress over the text. `phase` is "scan" (reading for vocabulary and length) or "encode" (writing tokens)."""

    phase: Literal["scan", "encode"]
    done_bytes: int
    total_bytes: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Event):
    """A data set is whole on disk. `tokens` maps each split ("train", "val", "test") to its number of tokens."""

    name: str
    path: str
    tokenizer: str
    vocab_size: int
    tokens: dict[str, int]
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast(Event):
    """What preparing a text would give. `tokens` is by split, and `exact` says whether all of it was encoded."""

    files: int
    text_bytes: int
    characters: int
    vocab_size: int
    tokens: dict[str, int]
    exact: bool


# ---- training; `step` is always the number of optimizer steps that are complete


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Event):
    """Training begins at `step` (above 0 on resume: whatever was recorded after that step is undone).

    `choices` says for each automatic choice (device, dtype, compile, threads …) what was chosen and why.
    """

    run: str
    step: int
    max_iters: int
    n_parameters: int
    tokens_per_iteration: int
    train_tokens: int
    val_tokens: int
    vocab_size: int
    device: str
    dtype: str
    compile: bool
    threads: int
    peak_flops: float | None
    choices: dict[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Event):
    """One optimizer step. `loss` (nats per token) is the mean over its micro-batches.

    `tokens_per_second` and `mfu` (0..1) are over the last steps, without evaluation, saving, sampling and pauses;
    `elapsed_s` is the training time so far, over all resumes; `memory_bytes` is what the process or device holds;
    `data_share` (0..1) is the share of the last steps' time that went to waiting for data.
    """

    step: int
    loss: float
    learning_rate: float
    grad_norm: float
    tokens: int
    tokens_per_second: float
    mfu: float | None
    memory_bytes: int
    elapsed_s: float
    eta_s: float
    data_share: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluating(Event):
    """An evaluation that takes a while: `done` of `total` batches. Not recorded."""

    step: int
    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated(Event):
    """Mean loss (nats per token) over `tokens` tokens of each split; `best_val_loss` includes this one."""

    step: int
    train_loss: float
    val_loss: float
    best_val_loss: float
    is_best: bool
    tokens: int
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled(Event):
    """Text from the weights at `step`, from a fixed prompt and seed."""

    step: int
    prompt: str
    text: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(Event):
    """A change in how training does; `message` is the reason.

    `state`: "learning", "plateau", "overfitting", "diverging" or "data-bound" (see inspection/health.py); "waiting" and
    "going on" (the disk refuses what has to be written, or takes it again); "nan" (it ends) or "rollback" (it goes back
    to a checkpoint: a `Started` follows).
    """

    step: int
    state: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved(Event):
    """A checkpoint is whole on disk; `stall_s` is how long training waited for it."""

    step: int
    path: str
    is_best: bool
    stall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged(Event):
    """A command was applied at `step`: `command` is its class's name, `text` says what changed, `id` which one it was
    (empty where nobody waits for an answer), `max_iters` the last iteration where that is what changed.

    In JSON the key of `command` is `letter`, so that earlier versions and this one read each other's records.
    """

    step: int
    command: str = field(metadata={"key": "letter"})
    text: str
    id: str = ""
    max_iters: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice(Event):
    """Something the person should know; `level` is "info", "warning" or "error"."""

    level: Literal["info", "warning", "error"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading(Event):
    """The record of a run is being read: `done_bytes` of `total_bytes`. Not recorded."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Event):
    """How a run stands, seen from outside: told by who follows it, never recorded.

    It tells what no other event does: that its trainer is silent, gone or failed, how far an evaluation is, and that it
    has another name. `time` is when the trainer wrote last, by its own clock; for the rest see `nanogpt.runs.RunState`.
    """

    run: str
    path: str
    state: str
    phase: str
    step: int
    paused: bool
    waiting: str
    evaluating: float | None
    message: str
    silent_s: float
    pid: int
    host: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Finished(Event):
    """Training is over. `reason`: "max_iters", "stopped" (asked to), "nan" (or a loss that ran away), "eval_only"."""

    step: int
    reason: Literal["max_iters", "stopped", "nan", "eval_only"]
    train_loss: float | None
    val_loss: float | None
    best_val_loss: float | None
    elapsed_s: float


# ---- sampling


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token that could have come: its id, its text, and its probability under the knobs in force."""

    id: int
    text: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(Event):
    """One sampled token of sample number `sample`.

    `text` is what became readable with it: empty while a UTF-8 character that spans tokens is unfinished.
    `probability` is the model's own for this token (softmax of the raw logits at temperature 1); `alternatives` are the
    most probable tokens by the same measure, best first.
    """

    sample: int
    id: int
    text: str
    probability: float
    alternatives: tuple[Alternative, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stopped(Event):
    """Sample number `sample` is over. `reason`: "length", "stop" (a stop string was written) or "end" (end of text)."""

    sample: int
    reason: Literal["length", "stop", "end"]
    tokens: int
    tokens_per_second: float


# ---- measuring speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(Event):
    """The seconds that one iteration of the asked configuration takes here, measured with micro-batches of
    `batch_size` sequences and scaled up where that is fewer than asked."""

    seconds_per_step: float
    batch_size: int
    device: str
    dtype: str
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring(Event):
    """What is measured now, after training."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark(Event):
    """The figures; what could not be measured is None. `ms_per_iteration` is the median of `iterations`.

    `parts_ms` splits it into data, forward, backward and optimizer; a little is left between them.
    `first_iteration_s` includes compiling. `mfu` is a share (0..1) of `peak_flops`, which is `peak_from` somewhere.
    """

    cpu: str
    device: str
    dtype: str
    compile: bool
    threads: int
    choices: dict[str, str]
    n_parameters: int
    tokens_per_iteration: int
    iterations: int
    first_iteration_s: float
    ms_per_iteration: float
    parts_ms: dict[str, float]
    tokens_per_second: float
    mfu: float | None
    peak_flops: float | None
    peak_from: str
    sampling_tokens_per_second: float | None
    sampling_together: int
    sampling_together_tokens_per_second: float | None
    tokenizer: str
    preparation_mb_per_second: float | None


Record = TypeVar("Record")
KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in Event.__subclasses__()}


def to_json(event: Event) -> str:
    """One line without a line break: `{"event": <class name>, …}`."""
    return written("event", event)


def from_json(line: str | bytes) -> Event:
    """The event that `to_json` wrote. Raises `UserError` for anything else; unknown fields of a known event are
    dropped, so that an older version reads what a newer one wrote."""
    return read("event", line, KINDS)


def written(what: str, record: Any) -> str:
    """Return a dataclass of plain values as one line of JSON, with its class's name under the key `what`.

    A field's own key is its name, or the `key` in its metadata.
    """
    kind: type = type(record)
    plain = {what: kind.__name__, **dataclasses.asdict(record)}
    for key, (name, _) in _fields(kind).items():
        if key != name:
            plain[key] = plain.pop(name)
    return json.dumps(_speakable(plain), allow_nan=False, separators=(",", ":"))


def typed(kind: type[Record], fields: Mapping[str, Any]) -> Record:
    """Return a dataclass out of plain values, as JSON has them, without those that it does not know.

    Raise TypeError or ValueError for values of other types.
    """
    known = _fields(kind)  # type: ignore[arg-type]
    return kind(**{known[key][0]: _typed(value, known[key][1]) for key, value in fields.items() if key in known})


def read(what: str, line: str | bytes, kinds: Mapping[str, type[Record]], called: str = "") -> Record:
    """Return the record that `written` wrote, of one of these kinds.

    Raise `UserError` for anything else; its text says "not a …" with `called`, or `what`.
    """
    noun = called or what
    a = "an" if noun[0] in "aeiou" else "a"
    shown = line.decode("utf-8", "replace") if isinstance(line, bytes) else line
    shown = shown.strip("\0\n")
    if not shown:
        raise UserError(f"not {a} {noun}: empty, or nothing but zeros")
    try:
        fields = json.loads(line)
        kind = fields.pop(what)
        if isinstance(kind, str) and kind not in kinds:
            raise UserError(f"not {a} {noun} that this version knows: {kind[:80]!r}")
        return typed(kinds[kind], fields)
    except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise UserError(f"not {a} {noun}: {shown[:80]!r} ({error})") from error


@cache
def _fields(kind: type) -> dict[str, tuple[str, Any]]:
    """Return the name and the type of each field of a dataclass, by its key in JSON."""
    hints = get_type_hints(kind)
    return {each.metadata.get("key", each.name): (each.name, hints[each.name]) for each in dataclasses.fields(kind)}


def _speakable(value: Any) -> Any:
    """Replaces non-finite floats by "nan", "inf" and "-inf", everywhere inside."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, dict):
        return {key: _speakable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_speakable(inner) for inner in value]
    return value


def _typed(value: Any, hint: Any) -> Any:
    """The plain JSON value as the field's type has it."""
    if hint is float:
        return float(value)
    if hint in (int, str, bool) and type(value) is not hint:
        raise TypeError(f"{type(value).__name__} where {hint.__name__} is due")
    if get_origin(hint) is dict:
        return {name: _typed(inner, get_args(hint)[1]) for name, inner in value.items()}
    if get_origin(hint) is tuple:
        return tuple(_typed(inner, get_args(hint)[0]) for inner in value)
    if dataclasses.is_dataclass(hint):
        return typed(hint, value)  # type: ignore[arg-type]
    if value is not None and float in get_args(hint):  # float | None
        return float(value)
    return value
