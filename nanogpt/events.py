"""The events of long work: frozen dataclasses of plain values, each one line of JSON (see `nanogpt.records`).

Preparing, training, sampling and following a run are all iterators of these events.
"""

import time as clock
from dataclasses import dataclass, field
from typing import Literal

from nanogpt import records


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """`time` is the wall clock (seconds since 1970); durations and rates come from a monotonic clock."""

    time: float = field(default_factory=clock.time)


# preparing a data set


@dataclass(frozen=True, slots=True, kw_only=True)
class Downloading(Event):
    """Bytes of `source`, a URL, downloaded so far; `total_bytes` is None if the server does not tell."""

    source: str
    done_bytes: int
    total_bytes: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Receiving(Event):
    """Bytes that have come from `source`, standard input or a pipe, and are stored on the disk before they are read."""

    source: str
    done_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Skipped(Event):
    """Files, or documents in files, that are left out of a data set: by reason, how many."""

    what: Literal["files", "documents"]
    counts: dict[str, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Encoding(Event):
    """Progress over the text. `phase` is "scan" (reading for vocabulary and length) or "encode" (writing tokens).

    `total_bytes` is 0 while the files of the text are searched for.
    """

    phase: Literal["scan", "encode"]
    done_bytes: int
    total_bytes: int
    tokens: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerTraining(Event):
    """Progress of the training of a tokenizer.

    `phase` is "read" (counting the pieces of the text: `done_bytes` of `total_bytes`, which is 0 if it is not known) or
    "merge" (filling the vocabulary: `vocab_size` of `target` entries). `merges` are those that are new since the last
    event, oldest first, as “th” + “e” → “the”, with the tokens as `formatting.token_text` shows them.
    """

    phase: Literal["read", "merge"]
    done_bytes: int
    total_bytes: int
    vocab_size: int
    target: int
    merges: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class TokenCount:
    """An entry of a vocabulary, as `formatting.token_text` shows it, and how often it occurs in a text."""

    id: int
    text: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenizerMeasured(Event):
    """A tokenizer on a text of `text_bytes` (UTF-8); `mb_per_second` is the speed of encoding in one thread.

    `unused` is the number of entries, without special tokens, that do not occur in the text. `rare` are the longest of
    those that occur once at most, which a model hardly learns (glitch-token candidates), `longest` the longest of all,
    `odd` those with control or invisible characters, or with bytes that are no text alone: each some, with its count.
    """

    vocab_size: int
    text_bytes: int
    characters: int
    tokens: int
    mb_per_second: float
    unused: int
    common: tuple[TokenCount, ...]
    rare: tuple[TokenCount, ...]
    longest: tuple[TokenCount, ...]
    odd: tuple[TokenCount, ...]

    @property
    def tokens_per_character(self) -> float:
        """The mean number of tokens for a character of the text."""
        return self.tokens / self.characters

    @property
    def bytes_per_token(self) -> float:
        """The mean number of bytes of the text (UTF-8) for a token."""
        return self.text_bytes / max(1, self.tokens)


@dataclass(frozen=True, slots=True, kw_only=True)
class VocabularyPoint(Event):
    """A point of the curve of vocabulary size against bytes per token, on a text."""

    vocab_size: int
    bytes_per_token: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CorpusEncoding(Encoding):
    """Progress over a corpus. `done_bytes` and `total_bytes` are those of its files; 0: not known.

    `shard` is the one that is read, after `shards_done` of `shards`. `documents` are kept, `duplicates` and `skipped`
    left out, since the preparation began. `committed_tokens` stay if it is interrupted. `elapsed_s` and
    `bytes_per_second` are of this process, `downloaded_bytes` too; `disk_bytes` is the size of all files now.
    """

    shard: str
    shards_done: int
    shards: int
    documents: int
    duplicates: int
    skipped: int
    committed_tokens: int
    downloaded_bytes: int
    disk_bytes: int
    bytes_per_second: float
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared(Event):
    """A data set is complete on disk. `tokens` maps each split ("train", "val", "test") to its number of tokens."""

    name: str
    path: str
    tokenizer: str
    vocab_size: int
    tokens: dict[str, int]
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Forecast(Event):
    """The data set that preparing a text would give. `tokens` is by split; `exact`: all of the text was encoded.

    `documents` is 0 if the text is not divided into documents.
    """

    files: int
    text_bytes: int
    characters: int
    vocab_size: int
    tokens: dict[str, int]
    exact: bool
    documents: int = 0


# training; `step` is always the number of optimizer steps that are complete


@dataclass(frozen=True, slots=True, kw_only=True)
class Started(Event):
    """Training starts at `step`; above 0 on resume, which discards everything recorded after that step.

    `choices` has the value and the reason of each automatic choice (device, dtype, compile, threads …).
    `val_characters` and `val_bytes` (UTF-8) are the size of the text of the validation split, and `flops_per_token` the
    floating-point operations of a training step for each token; 0 if not known, as in records of earlier versions.
    `eval_interval` is the number of steps between evaluations, None in earlier records.
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
    val_characters: int = 0
    val_bytes: int = 0
    flops_per_token: int = 0
    processes: int = 1
    eval_interval: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Step(Event):
    """One optimizer step. `loss` (nats per token) is the mean over its micro-batches, NaN for a step that only counts.

    `tokens_per_second` and `mfu` (0..1) are over the last steps, without evaluation, saving, sampling and pauses;
    `elapsed_s` is the training time so far, over all resumes; `memory_bytes` is the memory of the process or
    device; `data_share` (0..1) is the share of the last steps' time spent waiting for data.
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
    """Progress of a long evaluation: `done` of `total` batches. Not recorded."""

    step: int
    done: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Evaluated(Event):
    """Mean loss (nats per token) over `tokens` tokens of each split; `best_val_loss` includes this one.

    `ema_val_loss` is the validation loss of the averaged weights, None without weight averaging. The best one is the
    lowest of both kinds.
    `n_parameters` is the size of the evaluated model, because a counted one grows; None in records of earlier versions.
    """

    step: int
    train_loss: float
    val_loss: float
    best_val_loss: float
    is_best: bool
    tokens: int
    elapsed_s: float
    ema_val_loss: float | None = None
    n_parameters: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GradientNoise(Event):
    """The gradient noise scale, averaged over the last `measurements` (see inspection/gradient_noise.py).

    `signal` is the squared norm of the true gradient and `noise` the variance of the gradient of one sequence;
    `noise_scale` is noise / signal in sequences, None if it cannot be told yet. A step has `batch_size` sequences.
    """

    step: int
    signal: float
    noise: float
    noise_scale: float | None
    batch_size: int
    measurements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerHealth(Event):
    """How the layers of the model do at `step` (see inspection/layer_health.py).

    The figures have one value for each of `layers`, None where it is not defined. `gradient_norm` is before clipping;
    `update_ratio` is log10 of the norm of the update by that of the weights before it. The others describe a forward
    pass: `dead_units` is a share, `activation_…` and `histograms` (counts in bins from mean - 4·std to mean + 4·std)
    are of the layer's output, and `attention_entropy` is by head, as a share of the largest possible. `clipped` is the
    share of the reported steps since the last such event whose gradient was clipped; None without clipping.
    """

    step: int
    layers: tuple[str, ...]
    gradient_norm: tuple[float | None, ...]
    weight_norm: tuple[float | None, ...]
    update_ratio: tuple[float | None, ...]
    dead_units: tuple[float | None, ...]
    activation_mean: tuple[float | None, ...]
    activation_std: tuple[float | None, ...]
    activation_kurtosis: tuple[float | None, ...]
    attention_entropy: tuple[tuple[float | None, ...], ...]
    histograms: tuple[tuple[int, ...], ...]
    clipped: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerProblem(Event):
    """A problem of one layer begins at `step`, or is `over`.

    `problem` is a key of `MESSAGES` in inspection/layer_problems.py, `message` says what was measured, and `advice`
    what to try.
    """

    step: int
    layer: str
    problem: str
    message: str
    advice: str
    over: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Spike(Event):
    """The loss or the gradient norm jumped at a step.

    `usual_loss` and `usual_grad_norm` are the medians of the reported steps before. `layer` is the one whose gradient
    grew most against its own median, by `layer_growth`; empty if the layers were not measured. `texts` are the
    sequences of the batch with the highest losses (`text_losses`, with the weights after the step), decoded.
    """

    step: int
    loss: float
    usual_loss: float
    grad_norm: float
    usual_grad_norm: float
    learning_rate: float
    layer: str
    layer_growth: float
    texts: tuple[str, ...]
    text_losses: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Sampled(Event):
    """Text from the weights at `step`, from a fixed prompt and seed."""

    step: int
    prompt: str
    text: str
    seed: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Health(Event):
    """A change in the health of training; `message` is the reason.

    `state`: "learning", "plateau", "overfitting", "diverging" or "data-bound" (see inspection/health.py); "waiting" and
    "going on" (the disk refuses writes, or accepts them again); "nan" and "patience" (training ends) or "rollback"
    (training returns to a checkpoint, and a `Started` follows).
    """

    step: int
    state: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Saved(Event):
    """A checkpoint is complete on disk; `stall_s` is how long training waited for it."""

    step: int
    path: str
    is_best: bool
    stall_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Acknowledged(Event):
    """A command was applied at `step`.

    `command` is the name of its class, `text` says what changed, `id` identifies the command (empty if no process waits
    for an answer), and `max_iters` and `eval_interval` are new values if they changed. In JSON the key of `command` is
    `letter`, so that earlier versions and this one read each other's records.
    """

    step: int
    command: str = field(metadata={"key": "letter"})
    text: str
    id: str = ""
    max_iters: int | None = None
    eval_interval: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Notice(Event):
    """A message for the user; `level` is "info", "warning" or "error"."""

    level: Literal["info", "warning", "error"]
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading(Event):
    """The record of a run is being read: `done_bytes` of `total_bytes`. Not recorded."""

    done_bytes: int
    total_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Status(Event):
    """The state of a run as its followers see it. Never recorded.

    It reports what no other event does: that the trainer is silent, gone or failed, the progress of an evaluation, and
    a new name. `time` is the trainer's last write by its own clock; for the other fields see `nanogpt.runs.RunState`.
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
    """Training has ended.

    `reason`: "max_iters", "patience" (the validation loss did not improve), "stopped" (asked to), "nan" (or a loss
    that ran away), "eval_only".
    """

    step: int
    reason: Literal["max_iters", "patience", "stopped", "nan", "eval_only"]
    train_loss: float | None
    val_loss: float | None
    best_val_loss: float | None
    elapsed_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitEvaluated(Event):
    """The loss of a checkpoint over a whole split; `loss` is in nats per token.

    `tokens`, `characters` and `bytes` (UTF-8) are the size of the split. `predicted` tokens were each predicted once,
    all but the first, in windows of `block_size` tokens that begin every `stride` tokens. `is_average`: the weights
    are the averaged ones. `int8_cost`: with dtype int8, by how many bits per byte the loss is above that in float32.
    """

    run: str
    step: int
    dataset: str
    split: str
    loss: float
    perplexity: float
    bits_per_character: float
    bits_per_byte: float
    tokens: int
    characters: int
    bytes: int
    predicted: int
    block_size: int
    stride: int
    device: str
    dtype: str
    elapsed_s: float
    is_average: bool = False
    int8_cost: float | None = None


# the ladder: models trained one after another, each for the same time


@dataclass(frozen=True, slots=True, kw_only=True)
class RungStarted(Event):
    """Rung `number` of `total` is trained now. `adds`: what it adds to the one before."""

    name: str
    adds: str
    number: int
    total: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RungFinished(Event):
    """A rung was trained for `elapsed_s` seconds and evaluated on the whole validation split.

    `adds`: what it adds to the rung before. `loss` is in nats per token, `nats_per_character` per character of the
    text; `tokens_per_second` is over the whole training.
    """

    name: str
    adds: str
    n_parameters: int
    steps: int
    tokens_per_second: float
    loss: float
    nats_per_character: float
    bits_per_byte: float
    elapsed_s: float
    device: str
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RungFailed(Event):
    """A rung could not be trained or evaluated; the others go on."""

    name: str
    reason: str


# sampling


@dataclass(frozen=True, slots=True)
class Alternative:
    """A token that could have been sampled: its id, its text, and its probability under the current knobs."""

    id: int
    text: str
    probability: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Token(Event):
    """One sampled token of sample number `sample`.

    `text` is the text that this token completes; empty while a UTF-8 character that spans tokens is unfinished.
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
    """Sample number `sample` has ended. `reason`: "length", "stop" (a stop string) or "end" (end of text)."""

    sample: int
    reason: Literal["length", "stop", "end"]
    tokens: int
    tokens_per_second: float


# measuring speed


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured(Event):
    """The measured seconds of one iteration of a configuration on this machine.

    It was measured with micro-batches of `batch_size` sequences, and scaled if the configuration has more.
    """

    seconds_per_step: float
    batch_size: int
    device: str
    dtype: str
    threads: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Measuring(Event):
    """`what` is being measured now, after training."""

    what: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Benchmark(Event):
    """The results of a benchmark; None if one could not be measured. `ms_per_iteration` is the median of `iterations`.

    `parts_ms` splits it into data, forward, backward and optimizer, whose sum is slightly less. `first_iteration_s`
    includes compiling. `mfu` is a share (0..1) of `peak_flops`; `peak_from` says where that comes from.
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


KINDS: dict[str, type[Event]] = {kind.__name__: kind for kind in (*Event.__subclasses__(), CorpusEncoding)}


def to_json(event: Event) -> str:
    """Return an event as one line of JSON: `{"event": <class name>, …}`."""
    return records.encode("event", event)


def from_json(line: str | bytes) -> Event:
    """Return the event that `to_json` wrote. Raise `UserError` for anything else.

    Unknown fields of a known event are ignored, so that an older version reads the events of a newer one.
    """
    return records.decode("event", line, KINDS)
