"""The settings of a training run and of sampling, in frozen dataclasses.

The names are nanoGPT's. The defaults suit two CPU cores and tiny Shakespeare, and are nanoGPT's advice for a MacBook.
The sections model, optimizer and schedule are those of the chosen components (see `components`).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cache
from typing import Any, get_type_hints

from nanogpt.config.components import (
    ARCHITECTURE,
    KINDS,
    OPTIMIZER,
    SCHEDULE,
    ArchitectureConfig,
    Kind,
    OptimizerConfig,
    ScheduleConfig,
    component,
    component_settings,
    loadable_names,
)
from nanogpt.config.setting import Setting, declared_settings, setting
from nanogpt.errors import SettingError
from nanogpt.formatting import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class DataConfig:
    """The data set and the batches."""

    dataset: str = setting("shakespeare_char", "a prepared data set or a recipe; see `nanogpt datasets`")
    batch_size: int = setting(12, "sequences in one forward pass (the micro-batch)", low=1, high=1_000_000, common=True)
    gradient_accumulation_steps: int = setting(1, "micro-batches in one iteration", low=1, high=1_000_000, common=True)
    document_mask: bool = setting(False, "let a position see its own document only, in training and evaluation")
    document_separator: int = setting(
        -1, "token id before each document, for document_mask; -1: the tokenizer's end of text", low=-1, high=2**32 - 1
    )

    @property
    def separator(self) -> int | None:
        """The id that limits what a position sees; None without `document_mask`. Its setting is resolved."""
        return self.document_separator if self.document_mask else None


@dataclass(frozen=True, slots=True, kw_only=True)
class EvaluationConfig:
    """Evaluation, reports and samples while training."""

    eval_interval: int = setting(250, "iterations between evaluations", low=1, high=10**12, common=True)
    eval_iters: int = setting(
        20, "batches in one evaluation of a split; 0: the whole validation split", low=0, high=10**9
    )
    eval_only: bool = setting(False, "evaluate once and stop")
    patience: int = setting(
        0, "evaluations without a better validation loss after which the run ends; 0: never", low=0, high=10**9
    )
    min_delta: float = setting(0.0, "how much lower the validation loss has to be to count as better", low=0)
    log_interval: int = setting(1, "iterations between reported steps", low=1, high=10**9)
    noise_interval: int = setting(
        0, "iterations between measurements of the gradient noise scale; 0: none", low=0, high=10**12
    )
    health_interval: int = setting(
        50,
        "iterations between measurements of each layer's health; 0: none, and no reports of spikes",
        low=0,
        high=10**12,
    )
    sample_interval: int = setting(
        0, "iterations between samples of sample_start; 0: none", low=0, high=10**12, common=True
    )
    sample_start: str = setting("", "prompt of the samples taken while training and at its end")
    sample_tokens: int = setting(300, "length of those samples in tokens; 0: none", low=0, high=1_000_000)


@dataclass(frozen=True, slots=True, kw_only=True)
class CheckpointConfig:
    """The initial weights, the checkpoints, and the reaction to divergence and to spikes."""

    init_from: str = setting(
        "scratch",
        "scratch, resume, or the weights to start from: a run, a checkpoint, hf:FOLDER, hf:OWNER/NAME on the hub, or "
        "gpt2 to gpt2-xl from there",
    )
    lora_rank: int = setting(
        0, "rank of LoRA adapters, which are trained in place of the weights of init_from; 0: none", low=0, high=10_000
    )
    lora_alpha: float = setting(16.0, "scale of the adapters: their product counts lora_alpha / lora_rank", above=0)
    always_save_checkpoint: bool = setting(True, "save at each evaluation; false: only at a new best")
    checkpoint_interval: int = setting(
        0, "iterations between checkpoints that are kept; 0: only best and latest", low=0, high=10**12
    )
    keep_checkpoints: int = setting(
        0, "checkpoints to keep, spread over the run, best and latest included; 0: only those two", low=0, high=10**9
    )
    on_divergence: str = setting(
        "stop",
        "when the loss becomes NaN or runs away: stop, or go back to the last good checkpoint with half the learning "
        "rate, at most 3 times",
        choices=("stop", "rollback"),
    )
    on_spike: str = setting(
        "train",
        "when the loss or the gradient of a batch jumps: train on it, or skip it and leave the weights as they are",
        choices=("train", "skip"),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemConfig:
    """Hardware, number format, seed and logging."""

    device: str = setting("auto", "auto, cpu, cuda, cuda:N or mps", common=True)
    dtype: str = setting("auto", "number format", choices=("auto", "float32", "bfloat16", "float16"))
    compile: str = setting(
        "auto", "torch.compile; auto: where it pays within the run", choices=("auto", "true", "false")
    )
    threads: int = setting(0, "CPU threads; 0: the fastest number, by a trial", low=0, high=4096)
    processes: int = setting(
        1, "processes on this machine, each with its share of a batch; torchrun decides it itself", low=1, high=1024
    )
    sharding: str = setting(
        "none",
        "what the processes divide besides the batch: none, or (fsdp) parameters, gradients and optimizer state",
        choices=("none", "fsdp"),
    )
    backend: str = setting("auto", "torch.distributed backend under torchrun", choices=("auto", "nccl", "gloo"))
    seed: int = setting(1337, "seed of initialisation, batch order and dropout", low=0, high=2**63 - 1)
    dashboards: str = setting(
        "", "programs that show the run live, separated by commas: tensorboard, wandb, trackio (each an extra)"
    )
    wandb_log: bool = setting(False, "the same as dashboards=wandb: Weights & Biases")
    wandb_project: str = setting("nanogpt", "project in Weights & Biases and trackio")
    wandb_run_name: str = setting("", "name in Weights & Biases and trackio; empty: the run's own")


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplingConfig:
    """The knobs of generation. A sample ends before the first of the texts in `stop`."""

    max_new_tokens: int = setting(500, "tokens to write", low=0, high=10**9)
    temperature: float = setting(
        0.8, "below 1 is safer, above 1 wilder; 0 always takes the likeliest token", low=0, high=1000
    )
    top_k: int = setting(200, "keep only this many of the likeliest tokens; 0: all", low=0, high=10**9)
    top_p: float = setting(1.0, "keep the likeliest tokens whose probabilities sum to this", above=0, high=1)
    min_p: float = setting(0.0, "drop tokens less likely than this share of the likeliest", low=0, high=1)
    repetition_penalty: float = setting(
        1.0, "above 1: tokens that are already in the text become less likely", low=0.01, high=1000
    )
    seed: int = setting(1337, "seed; the same seed writes the same text", low=0, high=2**63 - 1)
    stop: tuple[str, ...] = ()


def _default(kind: Kind) -> Any:
    return component(kind, kind.default)()


@dataclass(frozen=True, slots=True, kw_only=True)
class Config:
    """All settings of one training run, checked one by one and together."""

    model: ArchitectureConfig = field(default_factory=lambda: _default(ARCHITECTURE))
    data: DataConfig = field(default_factory=DataConfig)
    optimizer: OptimizerConfig = field(default_factory=lambda: _default(OPTIMIZER))
    schedule: ScheduleConfig = field(default_factory=lambda: _default(SCHEDULE))
    evaluation: EvaluationConfig = field(default_factory=EvaluationConfig)
    checkpoint: CheckpointConfig = field(default_factory=CheckpointConfig)
    system: SystemConfig = field(default_factory=SystemConfig)

    def __post_init__(self) -> None:
        for section in (self.model, self.optimizer, self.schedule):
            section.validate_within(self)
        if self.evaluation.noise_interval and self.data.gradient_accumulation_steps < 2:
            raise self.settings()["noise_interval"].error(
                self.evaluation.noise_interval,
                "the noise is measured between micro-batches; set gradient_accumulation_steps=2 and halve batch_size",
            )
        if self.system.sharding == "fsdp":
            self._check_sharding()
        self._validate_adapters()
        device = self.system.device
        if device not in ("auto", "cpu", "cuda", "mps") and not (device[:5] == "cuda:" and device[5:].isdigit()):
            raise self.settings()["device"].error(device, "has to be auto, cpu, cuda, cuda:N or mps")

    def check_processes(self) -> None:
        """Raise `SettingError` if a step has too few sequences for the processes.

        Only a training that starts them needs this: torchrun does not use the setting, and its runs may have any.
        """
        if self.system.processes > self.sequences:
            raise self.settings()["processes"].error(
                self.system.processes,
                f"a step has {counted(self.sequences, 'sequence')}, and each process needs one; use at most "
                f"{self.sequences}, or raise batch_size or gradient_accumulation_steps",
            )

    def _check_sharding(self) -> None:
        """Raise `SettingError` for what needs all parameters in one process, or is not exact without them."""
        values = {
            "ema_decay": (self.optimizer.ema_decay, 0),
            "max_norm": (self.optimizer.max_norm, 0),
            "noise_interval": (self.evaluation.noise_interval, 0),
            "lora_rank": (self.checkpoint.lora_rank, 0),
        }
        for name, (value, without) in values.items():
            if value != without:
                raise SettingError(
                    name, f"{name}={value:g}: not with sharding=fsdp, where no process has all weights; use {without}"
                )
        if self.system.dtype == "float16":
            raise SettingError("dtype", "dtype=float16: not with sharding=fsdp; use bfloat16 or float32")

    def _validate_adapters(self) -> None:
        rank, known = self.checkpoint.lora_rank, self.settings()
        if rank and self.checkpoint.init_from == "scratch":
            raise known["lora_rank"].error(
                rank, "adapters are trained beside given weights; name them with init_from, such as --init_from=gpt2"
            )
        for name, value in (("ema_decay", self.optimizer.ema_decay), ("max_norm", self.optimizer.max_norm)):
            if rank and value:
                raise known[name].error(value, f"it is not for LoRA adapters; use {name}=0 or lora_rank=0")

    @property
    def sequences(self) -> int:
        """Sequences that one optimizer step sees, over all its micro-batches."""
        return self.data.batch_size * self.data.gradient_accumulation_steps

    @property
    def tokens_per_iteration(self) -> int:
        """Tokens that one optimizer step sees."""
        return self.sequences * self.model.block_size

    def components(self) -> dict[str, str]:
        """Return the chosen component of each kind: `{"architecture": "gpt2", …}`."""
        return {kind.name: getattr(self, kind.section).name for kind in KINDS}

    def settings(self) -> dict[str, Setting]:
        """Return the settings in force by name: the fixed ones and those of the chosen components."""
        return settings(self.components())

    def values(self) -> dict[str, Any]:
        """Return the value of every setting in force by its (unique) name."""
        chosen = self.components()
        return {
            name: chosen[name] if name in chosen else getattr(getattr(self, known.section), name)
            for name, known in self.settings().items()
        }


def settings(chosen: Mapping[str, str] | None = None) -> dict[str, Setting]:
    """Return the settings of a training run by name, in the order of the sections.

    chosen: the components whose settings are among them, by kind; the default ones for a kind that is not named.
    Raise `SettingError` for a component that does not exist.
    """
    return dict(_settings(tuple((chosen or {}).get(kind.name, kind.default) for kind in KINDS)))


@cache
def _settings(chosen: tuple[str, ...]) -> Mapping[str, Setting]:
    of_components = {kind.section: component_settings(kind, name) for kind, name in zip(KINDS, chosen, strict=True)}
    known: dict[str, Setting] = {}
    for section, cls in get_type_hints(Config).items():
        known |= of_components.get(section) or {item.name: item for item in declared_settings(cls, section)}
    return known


def chosen_components(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the components that values of settings choose, by kind. Raise `SettingError` for one that does not exist.

    The default one is chosen where the values name none.
    """
    chosen = {kind.name: str(values.get(kind.name, kind.default)).lower() for kind in KINDS}
    for kind in KINDS:
        component(kind, chosen[kind.name])
    return chosen


def merged(values: Mapping[str, Any], layer: Mapping[str, Any]) -> dict[str, Any]:
    """Return `values` updated with those of `layer`.

    If `layer` chooses another component, the settings that only the old one has are removed.
    """
    updated = {**values, **layer}
    before, after = chosen_components(values), chosen_components(updated)
    kept = settings(after)
    changed = {kind.section for kind in KINDS if before[kind.name] != after[kind.name]}
    if not changed:
        return updated
    known = settings(before)
    return {
        name: value
        for name, value in updated.items()
        if name in layer or name in kept or name not in known or known[name].section not in changed
    }


def every_setting() -> dict[str, Setting]:
    """Return the fixed settings and those of all components; for a name that several have, the first.

    Components of installed packages that are broken are left out.
    """
    known = settings()
    for kind in KINDS:
        for name in loadable_names(kind):
            known = dict(component_settings(kind, name)) | known
    return {name: known[name] for name in (*settings(), *sorted(known.keys() - settings().keys()))}


@cache
def sampling_settings() -> dict[str, Setting]:
    """Return the numeric knobs of sampling by name."""
    return {known.name: known for known in declared_settings(SamplingConfig, "sampling")}
