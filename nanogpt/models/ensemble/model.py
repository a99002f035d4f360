"""An ensemble: several networks learn the same text, and their predictions are averaged (Hansen and Salamon 1990).

Each member starts from random weights of its own and drops different units, so the members make different errors, and
averaging cancels many of them, most where a small text is read many times. As in Lakshminarayanan et al. (2017), the
probabilities are averaged, not the logits.

In training the loss is the mean of the members' losses, so the gradient of each is 1/M of what it would be alone. With
an optimizer whose steps do not depend on the gradient's size (AdamW, Lion, Muon) each learns as if it were alone; with
SGD multiply the learning rate by M. `grad_clip` limits the gradient of the mean, of all members together. Otherwise the
loss is that of the averaged probabilities. In the shapes: B batch, T positions, V = vocab_size, M members.
"""

import math
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Self, cast

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanogpt.models import base
from nanogpt.models.base import (
    DecodeStep,
    Floats,
    Ids,
    LanguageModel,
    MakeLinear,
    Output,
    ParameterGroup,
    TrainingBackend,
    compute_loss,
)
from nanogpt.models.layers.cross_entropy import IGNORE_INDEX, accumulation_dtype
from nanogpt.models.layers.dropout import is_eager_cpu
from nanogpt.models.modern.model import Model as Member

if TYPE_CHECKING:
    from nanogpt.models.ensemble.config import Config
    from nanogpt.models.flat_parameters import FlatParameters

CHUNK_LOGITS = 1 << 22  # logits of a member in memory at once while a loss is evaluated


class Cache(base.Cache):
    """The caches of the members, in order."""

    def __init__(self, members: Sequence[base.Cache]) -> None:
        self.members = members

    @property
    def length(self) -> int:  # type: ignore[override]
        """The number of positions that are processed already."""
        return self.members[0].length

    def copy_from(self, single: Self) -> None:
        """Fill each of its samples with the content of `single`, the cache of one sample."""
        for mine, its in zip(self.members, single.members, strict=True):
            mine.copy_from(its)


class Model(LanguageModel):
    """An ensemble of modern GPTs."""

    config: "Config"

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.config = config
        self.members = nn.ModuleList(Member(config.member()) for _ in range(config.members))

    def synchronized_members(self) -> list[Member]:
        """Return the members, which see the documents that this model sees."""
        members = list(cast("Iterable[Member]", self.members))
        for member in members:
            member.document_separator = self.document_separator
        return members

    def forward(self, ids: Tensor, targets: Tensor | None = None, cache: base.Cache | None = None) -> Output:
        """See `LanguageModel.forward`."""
        members = self.synchronized_members()
        if targets is None:
            caches = [None] * len(members) if cache is None else Cache.check(cache).members
            lasts = [member(ids, cache=own)[0] for member, own in zip(members, caches, strict=True)]
            return averaged([last for last in lasts if last is not None]), None  # (B, 1, V)
        if self.training:
            return None, torch.stack([compute_loss(member, ids, targets) for member in members]).mean()
        return None, self.loss_of_average(members, ids, targets)

    def loss_of_average(self, members: Sequence[Member], ids: Tensor, targets: Tensor) -> Tensor:
        """Return the loss (scalar) of the averaged probabilities for ids and targets (B, T)."""
        hidden, targets = [member.hidden(ids).flatten(0, 1) for member in members], targets.flatten()
        rows = max(1, CHUNK_LOGITS // self.config.vocab_size) if is_eager_cpu(ids) else len(targets)
        total = hidden[0].new_zeros((), dtype=accumulation_dtype(hidden[0]))
        for begin in range(0, len(targets), rows):
            part = slice(begin, begin + rows)
            losses = [
                F.cross_entropy(member.head_logits(x[part]), targets[part], ignore_index=IGNORE_INDEX, reduction="none")
                for member, x in zip(members, hidden, strict=True)
            ]  # M times (rows,), 0 for targets that do not count
            total = total + (math.log(len(members)) - torch.logsumexp(-torch.stack(losses), 0)).sum()
        return total / (targets != IGNORE_INDEX).sum()

    def logits(self, ids: Tensor) -> Tensor:
        """Return the logits (B, T, V) of every position."""
        return averaged([member.logits(ids) for member in self.synchronized_members()])

    def new_cache(self, batch_size: int) -> Cache:
        """Return an empty cache for `batch_size` samples."""
        return Cache([member.new_cache(batch_size) for member in self.synchronized_members()])

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the groups of all members."""
        return [group for member in self.synchronized_members() for group in member.parameter_groups()]

    def crop_block_size(self, block_size: int) -> None:
        """Shorten the context of all members; see `LanguageModel.crop_block_size`."""
        super().crop_block_size(block_size)
        for member in self.synchronized_members():
            member.crop_block_size(block_size)

    def training_backend(
        self, device: str, dtype: torch.dtype, flat: "FlatParameters | None" = None
    ) -> TrainingBackend | None:
        """Return `CpuTraining` on a CPU."""
        from nanogpt.models.ensemble.cpu_training import CpuTraining

        return CpuTraining(self) if device == "cpu" and CpuTraining.applies(self.config) else None

    def decoding_backend(self, cache: base.Cache, make_linear: MakeLinear | None = None) -> DecodeStep:
        """Return a step of those of the members. Raise `TypeError` for another architecture's cache."""
        caches = Cache.check(cache).members
        steps = [
            member.decoding_backend(own, make_linear)
            for member, own in zip(self.synchronized_members(), caches, strict=True)
        ]

        def step(ids: Ids) -> Floats:
            odds = [np.exp(each(ids)) for each in steps]  # M times (B, V), finite because the logits are capped
            probabilities = sum(each / each.sum(-1, keepdims=True) for each in odds) / len(odds)
            together: Floats = np.log(probabilities)  # `averaged` takes a tenth of a step for calls of torch
            return together

        return step


def averaged(logits: Sequence[Tensor]) -> Tensor:
    """Return the logarithm of the mean of M distributions with logits of one shape (…, V)."""
    together = torch.stack([torch.log_softmax(each.to(accumulation_dtype(each)), -1) for each in logits])  # (M, …, V)
    return torch.logsumexp(together, 0) - math.log(len(logits))
