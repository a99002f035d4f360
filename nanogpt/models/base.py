"""The base classes of all architectures: a language model, its decoding cache, its groups of parameters."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nanogpt.config.components import ArchitectureConfig

if TYPE_CHECKING:
    from nanogpt.models.flat_parameters import FlatParameters

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Output = tuple[Tensor | None, Tensor | None]  # logits, loss
Linear = Callable[[Tensor, Tensor | None, str], Callable[[Tensor], Tensor]]
Forward = Callable[[Tensor, Tensor], Output]  # ids, targets
DecodeStep = Callable[[Ids], Floats]
Role = Literal["hidden", "embedding", "head", "vector"]


class Cache(ABC):
    """What decoding remembers of the positions that a model has seen; `length` of them are filled in."""

    length: int

    @abstractmethod
    def copy_from(self, one: Self) -> None:
        """Take over for each of its samples what `one`, a cache of a single sample, holds."""


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parameters that an optimizer treats alike.

    role: "hidden" are the matrices between hidden states, which Muon trains; the others are embeddings, the head, and
    vectors (with everything else that is no matrix product). decay: whether weight decay applies. learning_rate_scale:
    a factor on the schedule's rate.
    """

    role: Role
    parameters: list[nn.Parameter]
    decay: bool
    learning_rate_scale: float = 1.0


class TrainingBackend(ABC):
    """A faster way to a model's loss on one kind of hardware, equal to the model's own `forward`.

    `name` stands in the run's record of what was chosen.
    """

    name: str

    @abstractmethod
    def __call__(self, ids: Tensor, targets: Tensor) -> Output:
        """Return (None, the loss), as the model's `forward` does for ids and targets (B, T)."""


def loss_of(forward: Forward, ids: Tensor, targets: Tensor) -> Tensor:
    """Return the loss alone, for ids and targets (B, T)."""
    _, loss = forward(ids, targets)
    if loss is None:
        raise TypeError("a model that is given targets returns a loss")
    return loss


class LanguageModel(nn.Module):
    """What training and sampling ask of an architecture. In the shapes: B batch, T positions, V = vocab_size."""

    config: ArchitectureConfig

    if TYPE_CHECKING:

        def __call__(self, ids: Tensor, targets: Tensor | None = None, cache: Any = None) -> Output: ...

    def forward(self, ids: Tensor, targets: Tensor | None = None, cache: Any = None) -> Output:
        """Return (logits, loss) for ids and targets (B, T) int64.

        With targets: the loss is the mean cross-entropy in nats over the targets that are not -1, and logits are None.
        Without: logits (B, 1, V) of the last position. With a cache, which is the model's own kind, ids continue what
        it holds. Raise ValueError where T + cache.length exceeds block_size.
        """
        raise NotImplementedError

    def logits(self, ids: Tensor) -> Tensor:
        """Return the logits (B, T, V) of every position, where the architecture predicts at every one."""
        raise NotImplementedError

    def new_cache(self, batch_size: int) -> Cache:
        """Return an empty cache, where the architecture has one."""
        raise NotImplementedError

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return all trainable parameters, each in one group."""
        raise NotImplementedError

    def crop_block_size(self, block_size: int) -> None:
        """Shorten the context window in place, where the architecture can. Raise `SettingError` for a longer one."""
        raise NotImplementedError

    def n_parameters(self) -> int:
        """Return the number of trainable parameters; tied weights count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def training_backend(
        self, device: str, dtype: torch.dtype, flat: "FlatParameters | None" = None
    ) -> TrainingBackend | None:
        """Return the fastest backend for training there with matrix products in `dtype`; None: `forward` is.

        flat: the memory that the parameters share, if any.
        """
        return None

    def decoding_backend(self, cache: Any, linear: Linear | None = None) -> DecodeStep | None:
        """Return a faster decoding step in float32 on the CPU; None where there is none.

        It takes ids (B, T), T = 1 or the cache still empty, to the logits (B, V) of the next token, and advances the
        cache, which is the model's own kind. linear: makes of a weight (out, in), a bias and "none" or "gelu" what
        computes a layer of them over (…, in).
        """
        return None
