"""Every setting of a training run and of sampling: its name, default, bounds and meaning, in frozen dataclasses.

Knows nothing of where a value comes from (see `resolve`) nor of torch. The names are nanoGPT's; the defaults suit two
CPU cores and tiny Shakespeare, and are nanoGPT's advice for a MacBook.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from functools import cache
from types import UnionType
from typing import Any, get_args, get_type_hints

from nanogpt.errors import SettingError, nearest


@dataclass(frozen=True, slots=True)
class Setting:
    """What is known of one setting. `low` and `high` are allowed themselves, `above` and `below` are not."""

    name: str
    section: str
    kind: type
    optional: bool
    default: Any
    help: str
    low: float | None = None
    high: float | None = None
    above: float | None = None
    below: float | None = None
    choices: tuple[str, ...] = ()

    @property
    def bounds(self) -> str:
        """The allowed values in words; empty where all are."""
        if self.choices:
            return "one of " + ", ".join(self.choices)
        limits = (("at least", self.low), ("above", self.above), ("at most", self.high), ("below", self.below))
        return " and ".join(f"{word} {limit:,}" for word, limit in limits if limit is not None)

    def parse(self, value: Any) -> Any:
        """`value` (a string from a flag, or a value from TOML or JSON) as this setting's type, within its bounds."""
        if value is None or (self.optional and value in ("", "none", "None")):
            if self.optional:
                return None
            raise self.error(value, f"has to be {self._noun}")
        checked = self._convert(value)
        if self.choices and checked not in self.choices:
            hint = nearest(str(checked), self.choices)
            raise self.error(value, f"has to be {self.bounds}.{hint}" if hint else f"has to be {self.bounds}")
        if isinstance(checked, float) and not math.isfinite(checked):
            raise self.error(value, "has to be a finite number")
        if isinstance(checked, int | float) and not isinstance(checked, bool) and not self._within(checked):
            raise self.error(value, f"has to be {self.bounds}")
        return checked

    def error(self, value: Any, reason: str) -> SettingError:
        shown = str(value) if str(value).isprintable() else repr(value)  # one line, and no control characters
        return SettingError(self.name, f"{self.name}={shown[:80]}: {reason}")

    @property
    def _noun(self) -> str:
        return {int: "a whole number", float: "a number", bool: "true or false", str: "a text"}[self.kind]

    def _convert(self, value: Any) -> Any:
        try:
            if self.kind is bool:
                if isinstance(value, bool):
                    return value
                return {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}[
                    str(value).lower()
                ]
            if isinstance(value, bool) and self.kind is not str:
                raise ValueError
            if self.kind is int:
                number = value if isinstance(value, int) else float(value)
                if not math.isfinite(number) or int(number) != number:
                    raise ValueError
                return int(value) if isinstance(value, str) and value.strip().lstrip("+-").isdigit() else int(number)
            if self.kind is float:
                return float(value)
            return str(value).lower() if self.choices else str(value)
        except (ValueError, TypeError, KeyError, OverflowError):
            raise self.error(value, f"has to be {self._noun}") from None

    def _within(self, value: float) -> bool:
        return (
            (self.low is None or value >= self.low)
            and (self.high is None or value <= self.high)
            and (self.above is None or value > self.above)
            and (self.below is None or value < self.below)
        )


def _setting(default: Any, help: str, **known: Any) -> Any:
    return field(default=default, metadata={"help": help, **known})


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelConfig:
    architecture: str = _setting("gpt2", "the model file to use, by its name in nanogpt/models")
    n_layer: int = _setting(4, "number of transformer blocks", low=1, high=1000)
    n_head: int = _setting(4, "attention heads in each block", low=1, high=1000)
    n_embd: int = _setting(128, "width of the residual stream; a multiple of n_head", low=1, high=1_000_000)
    block_size: int = _setting(64, "context window in tokens", low=1, high=10_000_000)
    dropout: float = _setting(0.0, "fraction of activations zeroed while training", low=0, below=1)
    bias: bool = _setting(False, "biases in Linear and LayerNorm, as GPT-2 has them")
    ngram: int = _setting(2, "longest n-gram that has an embedding of its own; modern only", low=1, high=4)
    vocab_size: int = _setting(0, "rows of the embedding; 0 takes the tokenizer's size", low=0, high=100_000_000)


SHAPE = tuple(item.name for item in fields(ModelConfig) if item.name != "dropout")  # what weights decide


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    dataset: str = _setting("shakespeare_char", "a prepared data set or a recipe; see `nanogpt datasets`")
    batch_size: int = _setting(12, "sequences in one forward pass (the micro-batch)", low=1, high=1_000_000)
    gradient_accumulation_steps: int = _setting(1, "micro-batches in one iteration", low=1, high=1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig:
    optimizer: str = _setting(
        "adamw",
        "adamw, or muon: Muon for the matrices of the blocks, AdamW for the rest",
        choices=("adamw", "muon"),
    )
    learning_rate: float = _setting(1e-3, "highest learning rate", above=0, high=1000)
    weight_decay: float = _setting(0.1, "decay of the matrices; vectors are not decayed", low=0, high=1000)
    beta1: float = _setting(0.9, "decay of Adam's first moment", low=0, below=1)
    beta2: float = _setting(0.99, "decay of Adam's second moment", low=0, below=1)
    grad_clip: float = _setting(1.0, "largest norm of the gradient; 0: no clipping", low=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig:
    max_iters: int = _setting(2000, "number of iterations (optimizer steps)", low=0, high=10**12)
    decay_lr: bool = _setting(True, "warm-up and cosine decay; false holds learning_rate")
    warmup_iters: int = _setting(100, "iterations over which the learning rate rises", low=0, high=10**12)
    lr_decay_iters: int | None = _setting(
        None, "iteration at which min_lr is reached; none: max_iters", low=0, high=10**12
    )
    min_lr: float | None = _setting(None, "lowest learning rate; none: a tenth of learning_rate", low=0, high=1000)


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    eval_interval: int = _setting(250, "iterations between evaluations", low=1, high=10**12)
    eval_iters: int = _setting(
        20, "batches in one evaluation of a split; 0: the whole validation split", low=0, high=10**9
    )
    eval_only: bool = _setting(False, "evaluate once and stop")
    log_interval: int = _setting(1, "iterations between reported steps", low=1, high=10**9)
    sample_interval: int = _setting(0, "iterations between samples of sample_start; 0: none", low=0, high=10**12)
    sample_start: str = _setting("", "prompt of the samples taken while training and at its end")
    sample_tokens: int = _setting(300, "length of those samples in tokens; 0: none", low=0, high=1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    init_from: str = _setting(
        "scratch", "scratch, resume, or a run, checkpoint or Hugging Face folder whose weights to start from"
    )
    always_save_checkpoint: bool = _setting(True, "save at each evaluation; false: only at a new best")
    checkpoint_interval: int = _setting(
        0, "iterations between checkpoints that are kept; 0: only best and latest", low=0, high=10**12
    )
    on_divergence: str = _setting(
        "stop",
        "when the loss becomes NaN or runs away: stop, or go back to the last good checkpoint with half the learning "
        "rate, at most 3 times",
        choices=("stop", "rollback"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemConfig:
    device: str = _setting("auto", "auto, cpu, cuda, cuda:N or mps")
    dtype: str = _setting("auto", "number format", choices=("auto", "float32", "bfloat16", "float16"))
    compile: str = _setting(
        "auto", "torch.compile; auto: where it pays within the run", choices=("auto", "true", "false")
    )
    threads: int = _setting(0, "CPU threads; 0: one per core", low=0, high=4096)
    backend: str = _setting("auto", "torch.distributed backend under torchrun", choices=("auto", "nccl", "gloo"))
    seed: int = _setting(1337, "seed of initialisation, batch order and dropout", low=0, high=2**63 - 1)
    wandb_log: bool = _setting(False, "log to Weights & Biases too (the optional extra `wandb`)")
    wandb_project: str = _setting("nanogpt", "project in Weights & Biases")
    wandb_run_name: str = _setting("", "name in Weights & Biases; empty: the run's own")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """The knobs of generation. `stop` ends a sample where any of these texts is written (and leaves it out)."""

    max_new_tokens: int = _setting(500, "tokens to write", low=0, high=10**9)
    temperature: float = _setting(
        0.8, "below 1 is safer, above 1 wilder; 0 always takes the likeliest token", low=0, high=1000
    )
    top_k: int = _setting(200, "keep only this many of the likeliest tokens; 0: all", low=0, high=10**9)
    top_p: float = _setting(1.0, "keep the likeliest tokens whose probabilities sum to this", above=0, high=1)
    min_p: float = _setting(0.0, "drop tokens less likely than this share of the likeliest", low=0, high=1)
    repetition_penalty: float = _setting(
        1.0, "above 1: tokens that are already in the text become less likely", low=0.01, high=1000
    )
    seed: int = _setting(1337, "seed; the same seed writes the same text", low=0, high=2**63 - 1)
    stop: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of one training run, each checked for itself and against the others."""

    model: ModelConfig = field(default_factory=ModelConfig)
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=OptimizerConfig)
    schedule: ScheduleConfig = field(default_factory=ScheduleConfig)
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    system: SystemConfig = field(default_factory=SystemConfig)

    def __post_init__(self) -> None:
        model, optimizer, schedule = self.model, self.optimizer, self.schedule
        if model.n_embd % model.n_head:
            raise SettingError(
                "n_embd",
                f"n_embd={model.n_embd} is not divisible by n_head={model.n_head}: each head takes an equal share; "
                f"try n_embd={max(1, round(model.n_embd / model.n_head)) * model.n_head}",
            )
        if schedule.min_lr is not None and schedule.min_lr > optimizer.learning_rate:
            raise SettingError(
                "min_lr", f"min_lr={schedule.min_lr:g}: has to be at most learning_rate={optimizer.learning_rate:g}"
            )
        device = self.system.device
        if device not in ("auto", "cpu", "cuda", "mps") and not (device[:5] == "cuda:" and device[5:].isdigit()):
            raise settings()["device"].error(device, "has to be auto, cpu, cuda, cuda:N or mps")

    @property
    def tokens_per_iteration(self) -> int:
        """Tokens that one optimizer step sees, over all its micro-batches."""
        return self.data.batch_size * self.data.gradient_accumulation_steps * self.model.block_size

    @property
    def min_lr(self) -> float:
        low = self.schedule.min_lr
        return self.optimizer.learning_rate / 10 if low is None else low

    def values(self) -> dict[str, Any]:
        """Every setting by its (unique) name."""
        return {setting.name: getattr(getattr(self, setting.section), setting.name) for setting in settings().values()}


def _described(cls: type, section: str) -> Iterator[Setting]:
    hints = get_type_hints(cls)
    for item in fields(cls):
        if not item.metadata:
            continue
        hint = hints[item.name]
        optional = isinstance(hint, UnionType)
        kind = get_args(hint)[0] if optional else hint
        yield Setting(item.name, section, kind, optional, item.default, **item.metadata)


@cache
def settings() -> dict[str, Setting]:
    """Every setting of a training run, by name, in the order of the sections."""
    sections = get_type_hints(Config)
    return {known.name: known for name, cls in sections.items() for known in _described(cls, name)}


@cache
def sampling_settings() -> dict[str, Setting]:
    """Every numeric knob of sampling, by name."""
    return {known.name: known for known in _described(SamplingConfig, "sampling")}
