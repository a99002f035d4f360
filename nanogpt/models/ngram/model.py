"""Interpolated n-grams with modified Kneser-Ney smoothing (Chen & Goodman 1998, section 3).

The probability of the token w after the context h, of which h' is h without its first token, is

    p(w | h) = max(c(h w) - D(c(h w)), 0) / c(h •) + γ(h) p(w | h'),   γ(h) = Σ_w D(c(h w)) / c(h •),

and p(w | h') alone if h was not seen. Below the unigrams is the uniform distribution 1 / V. For the longest n-grams c
is the number of occurrences; for shorter ones it is the number of distinct tokens before them. D is D_1, D_2 or D_3
for the counts 1, 2 and more, a set for each length of n-grams (`discounts`). The first order - 1 tokens of a text are
context only: all n-grams end after them. The first positions of a window have shorter contexts.

The state is the counts of the longest n-grams; everything else follows from them.

In the shapes: B batch, T positions, V = vocab_size, M distinct n-grams, C distinct contexts.
"""

from dataclasses import dataclass
from itertools import islice
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nanogpt.models.base import Cache, LanguageModel, Output, ParameterGroup, TokenSequence
from nanogpt.models.ngram.counts import Counter, Counts, count_ngrams, digits, digits_per_word, is_first

if TYPE_CHECKING:
    from nanogpt.models.ngram.config import Config

FALLBACK_DISCOUNTS = (0.5, 1.0, 1.5)  # KenLM's, for too few n-grams to estimate them


def discounts(counts: NDArray[np.int64]) -> tuple[float, ...]:
    """Return D_1, D_2 and D_3 for the counts (M) of all n-grams of one length (Chen & Goodman 1998, equation 26).

    Return `FALLBACK_DISCOUNTS` if they are undefined or not positive, as for a few n-grams.
    """
    n1, n2, n3, n4 = (int((counts == count).sum()) for count in (1, 2, 3, 4))
    if not (n1 and n2 and n3):
        return FALLBACK_DISCOUNTS
    y = n1 / (n1 + 2 * n2)
    estimated = 1 - 2 * y * n2 / n1, 2 - 3 * y * n3 / n2, 3 - 4 * y * n4 / n3
    return estimated if min(estimated) > 0 else FALLBACK_DISCOUNTS


@dataclass(frozen=True, slots=True)
class Level:
    """The n-grams of one length: a context and the token after it.

    contexts (C): sorted keys (number of the context without its first token) · V + its first token. keys (M): sorted
    keys (number of the context) · V + token. discounted (M): the first term of p. backoff (C): γ.
    """

    contexts: Tensor
    keys: Tensor
    discounted: Tensor
    backoff: Tensor


class Model(LanguageModel):
    """Counts of n-grams, and the probabilities that follow from them."""

    config: "Config"
    keys: Tensor  # (K, M) int64, see `counts.py`
    counts: Tensor  # (M) int64

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.config = config
        words = -(-config.order // digits_per_word(config.vocab_size))
        self.register_buffer("keys", torch.zeros(words, 0, dtype=torch.int64))
        self.register_buffer("counts", torch.zeros(0, dtype=torch.int64))
        self._counter: Counter | None = None  # of what was counted since the buffers were set
        self._levels: list[Level] = []  # empty: to be computed from the buffers
        self.register_state_dict_pre_hook(lambda module, *_: module._compact())  # type: ignore[no-untyped-call]

    def count(self, tokens: TokenSequence, start: int, stop: int) -> None:
        """See `LanguageModel.count`."""
        if self._counter is None:
            self._counter = Counter(Counts(self.keys.cpu().numpy(), self.counts.cpu().numpy()))
        part = tokens[max(0, start - self.config.order + 1) : stop]
        self._counter.add(count_ngrams(part, self.config.order, self.config.vocab_size))
        self._levels = []

    def _finish_counting(self) -> None:
        """Put what was counted into the buffers."""
        if self._counter is not None:
            total, device = self._counter.total(), self.counts.device
            self.keys, self.counts = torch.from_numpy(total.keys).to(device), torch.from_numpy(total.counts).to(device)
            self._counter = None

    def _compact(self) -> None:
        """Keep only the buffers, so that a checkpoint's copy of them has the memory of the tables."""
        self._finish_counting()
        self._levels = []

    def _load_from_state_dict(self, state_dict: dict[str, Any], prefix: str, *args: Any) -> None:
        """Take the tensors in their own size, which depends on the text."""
        self._counter, self._levels = None, []
        for name in ("keys", "counts"):
            if prefix + name in state_dict:
                setattr(self, name, torch.empty_like(state_dict[prefix + name], device=self.counts.device))
        super()._load_from_state_dict(state_dict, prefix, *args)

    def levels(self) -> list[Level]:
        """Return the tables of all lengths, from unigrams to the longest n-grams, on the device of the counts."""
        self._finish_counting()
        if not self._levels or self._levels[0].keys.device != self.counts.device:
            self._levels = self._compute_levels()
        return self._levels

    def _compute_levels(self) -> list[Level]:
        V, order = self.config.vocab_size, self.config.order
        all_digits = digits(self.keys.cpu().numpy(), order, V)
        number = np.zeros(len(self.counts), np.int64)  # (M) of the context of each n-gram; first the empty context
        contexts = [np.zeros(1, np.int64)]
        for digit in islice(all_digits, order - 1):
            keys = number * V + digit
            first = is_first(keys)
            contexts.append(keys[first])
            number = np.cumsum(first) - 1
        keys, counts = number * V + next(all_digits), self.counts.cpu().numpy()
        levels = [self._level(contexts[-1], keys, counts)]
        for longer, shorter in zip(contexts[:0:-1], contexts[-2::-1], strict=True):
            context_number, token = np.divmod(keys, V)
            keys, counts = np.unique((longer // V * V)[context_number] + token, return_counts=True)
            levels.append(self._level(shorter, keys, counts))
        return levels[::-1]

    def _level(self, contexts: NDArray[np.int64], keys: NDArray[np.int64], counts: NDArray[np.int64]) -> Level:
        discount = np.array([0.0, *discounts(counts)])[np.minimum(counts, 3)]  # (M)
        number = keys // self.config.vocab_size  # (M) of the context
        total, removed = (np.bincount(number, part, len(contexts)).astype(float) for part in (counts, discount))  # (C)
        backoff = np.divide(removed, total, out=np.ones_like(total), where=total > 0)  # 0 if nothing was counted
        discounted = (counts - discount) / total[number]
        device = self.counts.device
        floats = torch.float32 if device.type == "mps" else torch.float64
        return Level(
            torch.from_numpy(contexts).to(device),
            torch.from_numpy(keys).to(device),
            torch.from_numpy(discounted).to(device, floats),
            torch.from_numpy(backoff).to(device, floats),
        )

    def _check_window(self, ids: Tensor) -> None:
        if ids.size(1) > self.config.block_size:
            raise ValueError(f"{ids.size(1)} positions do not fit block_size={self.config.block_size}")

    def _contexts(self, ids: Tensor) -> list[Tensor]:
        """Return for 0, 1, … tokens the number (B, T) of the context that ends at each position, -1 if not seen."""
        self._check_window(ids)
        T = ids.size(1)
        found = [torch.zeros_like(ids)]
        for length, level in enumerate(self.levels()[1:], 1):
            longer = torch.full_like(ids, -1)
            before = ids[:, : max(0, T - length + 1)]  # (B, T - length + 1) the first token of each context
            wanted = found[-1][:, length - 1 :] * self.config.vocab_size + before
            longer[:, length - 1 :] = find(level.contexts, wanted)
            found.append(longer)
        return found

    def target_log_probabilities(self, ids: Tensor, targets: Tensor) -> Tensor:
        """Return the log-probability (B, T) of each target; that of a target -1 has no meaning."""
        V = self.config.vocab_size
        p = torch.full(ids.shape, 1 / V, dtype=self.levels()[0].backoff.dtype, device=ids.device)
        for level, number in zip(self.levels(), self._contexts(ids), strict=True):
            place = find(level.keys, number * V + targets.clamp(min=0))  # -1 after a context that was not seen
            p = take(level.discounted, place, 0.0) + take(level.backoff, number, 1.0) * p
        return p.log()

    def _distribution(self, contexts: list[Tensor]) -> Tensor:
        """Return the log-probabilities (R, V) of all tokens after R contexts, each given by its numbers (R)."""
        V, levels = self.config.vocab_size, self.levels()
        rows = torch.arange(len(contexts[0]), device=contexts[0].device)  # (R)
        p = torch.full((len(rows), V), 1 / V, dtype=levels[0].backoff.dtype, device=rows.device)
        for level, number in zip(levels, contexts, strict=True):
            p *= take(level.backoff, number, 1.0)[:, None]
            start = torch.searchsorted(level.keys, number * V)  # for -1: no n-grams
            count = torch.searchsorted(level.keys, (number + 1) * V) - start  # (R) n-grams with this context
            ends = count.cumsum(0)
            places = torch.arange(int(ends[-1]), device=rows.device) + (start - ends + count).repeat_interleave(count)
            p.index_put_(
                (rows.repeat_interleave(count), level.keys[places] % V), level.discounted[places], accumulate=True
            )
        return p.log()

    def logits(self, ids: Tensor) -> Tensor:
        """Return the log-probabilities (B, T, V) of the token after every position."""
        numbers = [number.flatten() for number in self._contexts(ids)]
        return self._distribution(numbers).view(*ids.shape, -1).float()

    def forward(self, ids: Tensor, targets: Tensor | None = None, cache: Cache | None = None) -> Output:
        """See `LanguageModel.forward`. The logits are log-probabilities."""
        if targets is None:
            self._check_window(ids)
            last = [number[:, -1] for number in self._contexts(ids[:, -max(1, self.config.order - 1) :])]
            return self._distribution(last)[:, None].float(), None  # (B, 1, V)
        return None, -self.target_log_probabilities(ids, targets)[targets >= 0].mean()

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return no group: nothing is trained with gradients."""
        return []

    def n_parameters(self) -> int:
        """Return the number of stored counts: of the distinct n-grams of the longest order."""
        self._finish_counting()
        return len(self.counts)


def find(keys: Tensor, wanted: Tensor) -> Tensor:
    """Return the places of the wanted numbers in the sorted keys, -1 for those that are not among them."""
    if not len(keys):
        return torch.full_like(wanted, -1)
    place = torch.searchsorted(keys, wanted).clamp(max=len(keys) - 1)
    return torch.where(keys[place] == wanted, place, -1)


def take(values: Tensor, places: Tensor, missing: float) -> Tensor:
    """Return the values at the places, and `missing` for a place of -1."""
    if not len(values):
        return torch.full(places.shape, missing, dtype=values.dtype, device=values.device)
    return torch.where(places >= 0, values[places.clamp(min=0)], missing)
