"""Which positions in the context and which tokens cost most."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F

from nanogpt.errors import UserError
from nanogpt.inspection.layers import check_finite
from nanogpt.models.base import Ids, LanguageModel, evaluation_mode


@dataclass(frozen=True, slots=True)
class TokenLosses:
    """Losses in nats: `by_position` (T,) is the mean at each position, NaN where nothing was predicted.

    `by_token` (V,) is the sum for each token as a target, and `counts` (V,) how often it was one.
    """

    by_position: NDArray[np.float64]
    by_token: NDArray[np.float64]
    counts: NDArray[np.int64]

    def costliest(self, k: int = 10) -> list[tuple[int, float, int]]:
        """Return for the k tokens with the largest share of all loss: id, mean loss, count."""
        order = np.argsort(-self.by_token)[:k]
        return [
            (int(i), float(self.by_token[i] / self.counts[i]), int(self.counts[i])) for i in order if self.counts[i]
        ]


@torch.no_grad()
def token_losses(model: LanguageModel, batches: Iterable[tuple[Ids, Ids]]) -> TokenLosses:
    """Return the losses over (inputs, targets), each (B, T); targets of -1 do not count.

    Raise `UserError` for an architecture that predicts only the last position of a window, and for weights that are not
    finite.
    """
    if not model.config.capabilities.every_position:
        raise UserError(f"the architecture {model.config.name} predicts the last position of a window only")
    T, V = model.config.block_size, model.config.vocab_size
    sums, n = np.zeros(T), np.zeros(T, np.int64)
    by_token, counts = np.zeros(V), np.zeros(V, np.int64)
    with evaluation_mode(model):
        for inputs, targets in batches:
            logits = model.logits(torch.from_numpy(inputs).to(model.device)).float().cpu()
            check_finite([logits])
            wanted = torch.from_numpy(targets).flatten()
            losses = F.cross_entropy(logits.flatten(0, 1), wanted, ignore_index=-1, reduction="none").double().numpy()
            sums[: targets.shape[1]] += losses.reshape(targets.shape).sum(0)
            n[: targets.shape[1]] += (targets >= 0).sum(0)
            counted = targets.ravel() >= 0
            by_token += np.bincount(targets.ravel()[counted], losses[counted], V)
            counts += np.bincount(targets.ravel()[counted], minlength=V)
    return TokenLosses(np.divide(sums, n, out=np.full(T, np.nan), where=n > 0), by_token, counts)
