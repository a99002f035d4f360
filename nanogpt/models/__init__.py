"""Architectures: one file each, and what they all promise. Knows nothing of training, sampling or files.

A new architecture is one new file here, named as the setting `architecture` names it, whose class `Model` keeps the
promise below. What several of them are built of is in `parts`.
"""

import pkgutil
from importlib import import_module
from typing import TYPE_CHECKING, Any, Protocol

from nanogpt.errors import SettingError, nearest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from torch import Tensor
    from torch.nn import Parameter

    from nanogpt.config import ModelConfig


class Cache(Protocol):
    """Keys and values of the positions that a model has seen; `length` of them are filled in."""

    length: int

    def copy_from(self, one: Any) -> None:
        """Takes over for each of its samples what `one`, a cache of a single sample, holds."""
        ...


class LanguageModel(Protocol):
    """What training and sampling ask of an architecture (a `torch.nn.Module` that also has these).

    It may also have `stepper(cache, linear)`, in float32 on the CPU: a function from ids (B, T), T = 1 or the cache
    still empty, to the logits (B, V) of the token behind them, as numpy arrays, which advances the cache: what a
    forward pass gives, faster. `linear(weight, bias, "none" or "gelu")` gives what computes a layer of them; None:
    torch or numpy do.
    """

    config: "ModelConfig"

    def __call__(
        self, ids: "Tensor", targets: "Tensor | None" = None, cache: Any = None
    ) -> "tuple[Tensor | None, Tensor | None]":
        """(logits, loss). ids, targets: (B, T) int64. With targets: loss is the mean cross-entropy in nats over the
        targets that are not -1, and logits are None. Without: logits (B, 1, V) of the last position.
        With a cache, ids continue what it holds; T + cache.length must not exceed block_size."""
        ...

    def logits(self, ids: "Tensor") -> "Tensor":
        """(B, T, V) logits of every position."""
        ...

    def new_cache(self, batch_size: int) -> Cache: ...

    def parameter_groups(self, weight_decay: float) -> "list[dict[str, Any]]":
        """For the optimizer: matrices with decay, vectors without."""
        ...

    def n_parameters(self) -> int:
        """All trainable parameters; tied weights count once."""
        ...

    def flops_per_token(self) -> int:
        """Floating-point operations of one training step (forward and backward) for each token, at full context."""
        ...

    def crop_block_size(self, block_size: int) -> None:
        """Shortens the context window in place."""
        ...

    def named_parameters(self) -> "Iterator[tuple[str, Parameter]]":
        """The names of what belongs to a block begin with "h.": their matrices are what Muon trains."""
        ...


def names() -> list[str]:
    """The architectures that there are."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.ispkg)


def create(config: "ModelConfig") -> Any:
    """A freshly initialised model (float32, on the CPU, from torch's global random state). `config.vocab_size` is set.

    Raises `SettingError` for an unknown architecture.
    """
    if config.architecture not in names():
        hint = nearest(config.architecture, names())
        raise SettingError("architecture", f"architecture={config.architecture}: there are {', '.join(names())}.{hint}")
    if config.vocab_size < 1:
        raise ValueError("vocab_size is to be taken from the tokenizer before a model is made")
    return import_module(f"nanogpt.models.{config.architecture}").Model(config)
