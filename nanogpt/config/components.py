"""The components that a run chooses by name, each with settings of its own: architecture, optimizer and schedule.

A component is one module or one package with everything about it. Its `Config`, a subclass of one of the bases below,
should be importable without torch, so that listings are fast. Components are found in their kind's package and through
entry points (see `nanogpt.registry`); nothing else names them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cache
from typing import TYPE_CHECKING, Any, ClassVar

from nanogpt.config.setting import Setting, declared_settings, setting
from nanogpt.errors import SettingError, nearest
from nanogpt.registry import Registry

if TYPE_CHECKING:
    import torch

    from nanogpt.config.settings import Config
    from nanogpt.models.base import LanguageModel
    from nanogpt.models.flat_parameters import FlatParameters


@dataclass(frozen=True, slots=True, kw_only=True)
class ComponentConfig:
    """The settings of one component. `name` is the value of the setting that chooses it."""

    name: ClassVar[str]

    def __post_init__(self) -> None:
        self.validate()

    def validate(self) -> None:
        """Raise `SettingError` for settings of this component that do not fit each other."""

    def validate_within(self, config: "Config") -> None:
        """Raise `SettingError` for settings of this component that do not fit the rest of the configuration."""


@dataclass(frozen=True, slots=True)
class Capabilities:
    """What an architecture can do. Code that depends on one of these reads it here, never the architecture's name.

    cache: it decodes with a cache, so that a token costs the work of one position. every_position: `logits` predicts
    the next token at every position of a window. crop: its context can be shortened after training. decoding_backend:
    it has a faster decoding step for a CPU. label_smoothing: its training loss can have label smoothing.
    document_mask: its positions can see their own document only. attention: each token attends to itself and those
    before it, through `causal_attention`, with one position for each token. logit_lens: `blocks` and `readout` show
    what each layer would predict. embeddings: it has one vector for each token.
    counted: `count` goes through the training split once; there are no gradients, and the settings of optimizer and
    schedule have no effect.
    """

    cache: bool = True
    every_position: bool = True
    crop: bool = True
    decoding_backend: bool = False
    label_smoothing: bool = False
    document_mask: bool = False
    attention: bool = False
    logit_lens: bool = False
    embeddings: bool = False
    counted: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchitectureConfig(ComponentConfig):
    """The settings of an architecture, and the figures that follow from them without building it."""

    capabilities: ClassVar[Capabilities] = Capabilities()

    block_size: int = setting(64, "context window in tokens", low=1, high=10_000_000, common=True)
    vocab_size: int = setting(0, "rows of the embedding; 0 takes the tokenizer's size", low=0, high=100_000_000)

    def validate_within(self, config: "Config") -> None:
        """Raise `SettingError` for a document mask with an architecture that does not have it."""
        if config.data.document_mask and not self.capabilities.document_mask:
            raise SettingError(
                "document_mask",
                f"document_mask=true: the architecture {self.name} cannot limit what a position sees to its document; "
                "use false",
            )

    def build(self) -> "LanguageModel":
        """Return a freshly initialised model, float32, on the CPU, from torch's global random state.

        `vocab_size` is set.
        """
        raise NotImplementedError

    def n_parameters(self) -> int:
        """Return the number of trainable parameters; tied weights count once. `vocab_size` is set."""
        raise NotImplementedError

    def flops_per_token(self) -> int:
        """Return the floating-point operations of one training step (forward and backward) for each token."""
        raise NotImplementedError

    def activation_bytes(self, batch_size: int, dtype: str, device: str) -> int:
        """Return the bytes that one micro-batch keeps for its backward pass, at the fullest moment (an estimate)."""
        raise NotImplementedError

    @property
    def width(self) -> int:
        """The size of a hidden state, which decides whether a 16-bit format pays on a CPU."""
        raise NotImplementedError

    def compile_estimate(self, dtype: str) -> tuple[float, float]:
        """Return the time that torch.compile saves on a CPU (ns of one core per token) and its own time (s)."""
        return 0.0, 0.0

    def shape(self) -> dict[str, Any]:
        """Return the settings that trained weights determine, by name: the architecture and its shape."""
        decided = (item.name for item in declared_settings(type(self), "model") if item.weights)
        return {"architecture": self.name} | {name: getattr(self, name) for name in decided}

    def to_dict(self) -> dict[str, Any]:
        """Return all settings by name, with the architecture's own."""
        return {"architecture": self.name} | {item.name: getattr(self, item.name) for item in fields(self)}


@dataclass(frozen=True, slots=True, kw_only=True)
class OptimizerConfig(ComponentConfig):
    """The settings that every optimizer has."""

    learning_rate: float = setting(1e-3, "highest learning rate", above=0, high=1000, common=True)
    weight_decay: float = setting(0.1, "decay of the matrices; vectors are not decayed", low=0, high=1000)
    grad_clip: float = setting(1.0, "largest norm of the gradient; 0: no clipping", low=0)
    max_norm: float = setting(
        0.0, "largest norm of a unit's incoming weights (hidden layers and head); 0: no limit", low=0
    )
    label_smoothing: float = setting(
        0.0, "share of each target that is spread over all tokens in the training loss; 0: none", low=0, high=1
    )
    ema_decay: float = setting(
        0.0, "decay per step of the averaged weights that are evaluated and saved too; 0: none", low=0, below=1
    )

    def validate_within(self, config: "Config") -> None:
        """Raise `SettingError` for label smoothing with an architecture that does not have it."""
        if self.label_smoothing and not config.model.capabilities.label_smoothing:
            raise SettingError(
                "label_smoothing",
                f"label_smoothing={self.label_smoothing:g}: the architecture {config.model.name} has no label "
                "smoothing; use 0",
            )

    def build(
        self, model: "LanguageModel", dtype: "torch.dtype", flat: "FlatParameters | None" = None
    ) -> "torch.optim.Optimizer":
        """Return the optimizer over the model's parameters as they are now.

        dtype: the number format of the training's matrix products. flat: the memory that the parameters share, if any.
        Each parameter group of the result has a `learning_rate_scale`, by which the schedule's rate is multiplied.
        Raise `SettingError` if the model has no parameter that this optimizer can train.
        """
        raise NotImplementedError

    def state_bytes(self, n_parameters: int) -> int:
        """Return an upper estimate of the bytes of the optimizer's state for `n_parameters` parameters."""
        raise NotImplementedError


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduleConfig(ComponentConfig):
    """The settings that every learning-rate schedule has."""

    max_iters: int = setting(2000, "number of iterations (optimizer steps)", low=0, high=10**12, common=True)

    def learning_rate(self, step: int, highest: float, max_iters: int) -> float:
        """Return the rate for the step after `step` complete ones.

        highest: the setting learning_rate. max_iters: the run's length now, which may have been changed since it began.
        """
        raise NotImplementedError


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of component. `name` is the setting that chooses one, `section` has its settings in run.toml."""

    name: str
    section: str
    registry: Registry
    base: type[ComponentConfig]
    default: str
    help: str

    def setting(self) -> Setting:
        """Return the setting that chooses a component of this kind."""
        return Setting(self.name, self.section, str, False, self.default, self.help, choices=names(self), common=True)


ARCHITECTURE = Kind(
    "architecture",
    "model",
    Registry(
        "architecture",
        "nanogpt.models",
        "nanogpt.architectures",
        "Config",
        frozenset({"attention_recorder", "base", "flat_parameters", "layers", "lora", "meta_device"}),
    ),
    ArchitectureConfig,
    "gpt2",
    "kind of model",
)
OPTIMIZER = Kind(
    "optimizer",
    "optimizer",
    Registry("optimizer", "nanogpt.optimizers", "nanogpt.optimizers", "Config", frozenset({"base"})),
    OptimizerConfig,
    "adamw",
    "how gradients become updates of the weights",
)
SCHEDULE = Kind(
    "schedule",
    "schedule",
    Registry("schedule", "nanogpt.schedules", "nanogpt.schedules", "Config"),
    ScheduleConfig,
    "cosine",
    "how the learning rate changes over the run",
)
KINDS = (ARCHITECTURE, OPTIMIZER, SCHEDULE)


def names(kind: Kind) -> tuple[str, ...]:
    """Return the names of the components of a kind, sorted. Imports none of them."""
    return kind.registry.names()


@cache
def loadable_names(kind: Kind) -> tuple[str, ...]:
    """Return the names of the components of a kind, sorted, without those of installed packages that are broken."""
    return tuple(kind.registry.load_all(kind.base))


@cache
def component(kind: Kind, name: str) -> type[Any]:
    """Return the configuration class of a component, a subclass of `kind.base`.

    Raise `SettingError` for an unknown name, and `UserError` for an installed package whose component cannot be loaded.
    """
    known = names(kind)
    if name not in known:
        shown = name[:80] if name.isprintable() else repr(name[:80])
        raise SettingError(
            kind.name, f"{kind.name}={shown}: has to be one of {', '.join(known)}.{nearest(name, known)}"
        )
    return kind.registry.load(name, kind.base)  # type: ignore[no-any-return]


@cache
def component_settings(kind: Kind, name: str) -> Mapping[str, Setting]:
    """Return the settings of a component by name, after the one that chooses it."""
    return {kind.name: kind.setting()} | {
        item.name: item for item in declared_settings(component(kind, name), kind.section)
    }


def owners(name: str) -> Sequence[tuple[Kind, str]]:
    """Return the components that have a setting of this name: (kind, component)."""
    return [(kind, one) for kind in KINDS for one in loadable_names(kind) if name in component_settings(kind, one)]
