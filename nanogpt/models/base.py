"""The base classes of all architectures: a language model, its decoding cache, its parameter groups, its backends."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import chain
from typing import TYPE_CHECKING, Any, Literal, Protocol, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nanogpt.config.components import ArchitectureConfig
from nanogpt.errors import SettingError

if TYPE_CHECKING:
    from nanogpt.models.flat_parameters import FlatParameters
    from nanogpt.models.lora import LowRankLinear

Floats = NDArray[np.float32]
Ids = NDArray[np.int64]
Output = tuple[Tensor | None, Tensor | None]  # logits, loss
Forward = Callable[[Tensor, Tensor], Output]  # ids, targets
DecodeStep = Callable[[Ids], Floats]  # ids (B, T) → logits (B, V)
# (weight (out, in), bias, "none" or "gelu") → the function x (…, in) → (…, out) of that linear layer
MakeLinear = Callable[[Tensor, Tensor | None, str], Callable[[Tensor], Tensor]]
Role = Literal["hidden", "embedding", "head", "vector"]


class TokenSequence(Protocol):
    """Token ids of which a slice is an array (n,): an array, or the files of a data set."""

    def __getitem__(self, places: slice, /) -> NDArray[np.integer[Any]]: ...


class Cache(ABC):
    """The state that decoding keeps of the positions already processed, of which there are `length`."""

    length: int

    @abstractmethod
    def copy_from(self, single: Self) -> None:
        """Fill each of its samples with the content of `single`, the cache of one sample."""

    @classmethod
    def check(cls, cache: "Cache") -> Self:
        """Return `cache`, which has to be of this class. Raise `TypeError` for another architecture's cache."""
        if isinstance(cache, cls):
            return cache
        raise TypeError(f"this model decodes with a {cls.__name__}, not with a {type(cache).__name__}")


@dataclass(frozen=True, slots=True)
class ParameterGroup:
    """Parameters that an optimizer treats alike.

    role: "hidden" for the matrices between hidden states, which Muon trains; "embedding" and "head"; "vector" for
    everything that is not a factor of a matrix product. decay: whether weight decay applies. learning_rate_scale: a
    factor on the learning rate of the schedule.
    """

    role: Role
    parameters: list[nn.Parameter]
    decay: bool
    learning_rate_scale: float = 1.0


class TrainingBackend(ABC):
    """A faster computation of a model's loss on one kind of hardware, with the same result as the model's `forward`.

    `name` is recorded in the run. fills_flat: whether a backward pass returns all gradients in the memory of the
    `FlatParameters` that it was made with.
    """

    name: str
    fills_flat: bool = False

    @abstractmethod
    def __call__(self, ids: Tensor, targets: Tensor) -> Output:
        """Return (None, loss), as the model's `forward` does for ids and targets (B, T)."""


def compute_loss(forward: Forward, ids: Tensor, targets: Tensor) -> Tensor:
    """Return only the loss (scalar, nats per token) for ids and targets (B, T)."""
    _, loss = forward(ids, targets)
    if loss is None:
        raise TypeError("a model that is given targets returns a loss")
    return loss


def document_starts(ids: Tensor, separator: int) -> Tensor | None:
    """Return the position at which the document of each position begins, (B, T) int64; 0 for the first document.

    A document begins with the separator. None on a CPU if each row of the ids (B, T) is in one document: on another
    device the answer would have to wait for it.
    """
    is_start = ids == separator  # (B, T)
    if ids.device.type == "cpu" and not torch.compiler.is_compiling() and not is_start[:, 1:].any():
        return None
    positions = torch.arange(ids.size(1), device=ids.device)
    if torch.compiler.is_exporting():  # ONNX has no cummax
        starts = is_start[:, None] & (positions <= positions[:, None])  # (B, T, T): those up to each position
        return torch.where(starts, positions, 0).amax(-1)
    return torch.cummax(torch.where(is_start, positions, 0), dim=1).values


@contextmanager
def evaluation_mode(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode (no dropout) inside this context, and restore the mode of each module afterwards."""
    changed = [module for module in model.modules() if module.training] if model.training else []
    if changed:
        model.eval()
    try:
        yield
    finally:
        for module in changed:
            module.training = True


class LanguageModel(nn.Module):
    """The interface of an architecture to training and sampling. In the shapes: B batch, T positions, V = vocab_size.

    Its `config.capabilities` declare which of the optional methods it has.
    """

    config: ArchitectureConfig
    label_smoothing: float = 0.0  # of the training loss, for architectures with that capability
    document_separator: int | None = None  # the id before each document, with the setting and capability document_mask
    adapters: "Sequence[LowRankLinear]" = ()  # the trained ones; all else is then frozen. See `lora.py`

    if TYPE_CHECKING:

        def __call__(self, ids: Tensor, targets: Tensor | None = None, cache: Cache | None = None) -> Output: ...

    def forward(self, ids: Tensor, targets: Tensor | None = None, cache: Cache | None = None) -> Output:
        """Return (logits, loss) for ids and targets (B, T) int64.

        With targets: the loss is the mean cross-entropy in nats over the targets that are not -1, with
        `active_label_smoothing`, and logits are None.
        Without: logits (B, 1, V) of the last position. With a cache, which `new_cache` of this model made, ids continue
        the positions in it. Raise ValueError if T + cache.length exceeds block_size.
        """
        raise NotImplementedError

    def logits(self, ids: Tensor) -> Tensor:
        """Return the logits (B, T, V) of every position. For architectures with the capability `every_position`."""
        raise NotImplementedError

    def blocks(self) -> list[nn.Module]:
        """Return the modules whose outputs are the residual stream (B, T, C), in order. With `logit_lens`."""
        raise NotImplementedError

    def readout(self, x: Tensor) -> Tensor:
        """Return the logits (B, T, V) that follow from a residual stream (B, T, C). With `logit_lens`.

        For the output of the last of the `blocks` they are those of `logits`.
        """
        raise NotImplementedError

    def token_embeddings(self) -> Tensor:
        """Return the vector of each token (V, C). With the capability `embeddings`."""
        raise NotImplementedError

    def new_cache(self, batch_size: int) -> Cache:
        """Return an empty cache for `batch_size` samples. For architectures with the capability `cache`."""
        raise NotImplementedError

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return all parameters that the architecture trains, each in one group."""
        raise NotImplementedError

    def trained_groups(self) -> list[ParameterGroup]:
        """Return the parameters that training changes: those of the `adapters`, or all `parameter_groups`."""
        if not self.adapters:
            return self.parameter_groups()
        return [ParameterGroup("hidden", [p for each in self.adapters for p in (each.lora_A, each.lora_B)], decay=True)]

    def count(self, tokens: TokenSequence, start: int, stop: int) -> None:
        """Count `tokens[start:stop]` (the tokens before `start` are context). With the capability `counted`."""
        raise NotImplementedError

    def crop_block_size(self, block_size: int) -> None:
        """Shorten the context window in place to its first `block_size` positions.

        An architecture with parameters for each position extends this. Raise `SettingError` for a longer window, and
        for a shorter one if the architecture lacks the capability `crop`.
        """
        available = self.config.block_size
        if block_size > available:
            raise SettingError("block_size", f"block_size={block_size}: these weights have only {available} positions")
        if block_size < available and not self.config.capabilities.crop:
            raise SettingError(
                "block_size",
                f"block_size={block_size}: the architecture {self.config.name} cannot shorten its context; "
                f"use block_size={available}",
            )
        self.config = replace(self.config, block_size=block_size)

    def document_starts(self, ids: Tensor, cache: Cache | None = None) -> Tensor | None:
        """Return where the document of each position begins (B, T); None if every position may see all before it.

        Decoding with a cache continues one text, whatever its tokens are.
        """
        if self.document_separator is None or cache is not None:
            return None
        return document_starts(ids, self.document_separator)

    @property
    def active_label_smoothing(self) -> float:
        """The label smoothing of the loss: that of the training, 0 in evaluation mode."""
        return self.label_smoothing if self.training else 0.0

    @property
    def device(self) -> torch.device:
        """The device of its tensors."""
        return next(chain(self.parameters(), self.buffers())).device

    def copy_with(self, weights: Mapping[str, Tensor]) -> "LanguageModel":
        """Return a model of the same configuration with copies of these weights, all on one device, by name.

        It is in evaluation mode and has no adapters. torch's random state stays as it is.
        """
        with torch.random.fork_rng(devices=[]):
            copied = self.config.build()
        copied.to(next(iter(weights.values())).device).load_state_dict(weights)
        copied.document_separator = self.document_separator
        return copied.eval()

    def n_parameters(self) -> int:
        """Return the number of trainable parameters, or of stored counts; tied weights count once."""
        return sum(parameter.numel() for parameter in self.parameters())

    def training_backend(
        self, device: str, dtype: torch.dtype, flat: "FlatParameters | None" = None
    ) -> TrainingBackend | None:
        """Return the fastest backend for training on `device` with matrix products in `dtype`; None for `forward`.

        flat: the memory that the parameters share, if any.
        """
        return None

    def decoding_backend(self, cache: Cache, make_linear: MakeLinear | None = None) -> DecodeStep | None:
        """Return a faster decoding step in float32 on the CPU, or None.

        The step maps ids (B, T), T = 1 unless the cache is empty, to the logits (B, V) of the next token, and advances
        the cache, which `new_cache` of this model made. make_linear: builds the linear layers; None for plain ones.
        For architectures with the capability `decoding_backend`.
        """
        return None
