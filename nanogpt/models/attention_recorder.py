"""A recorder of attention weights, for what looks inside a model. `layers/attention.py` asks for it at each call."""

import math
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor


def attention_weights(q: Tensor, k: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return softmax(q·kᵀ / √hs + mask) (B, nh, T, S), in float32; for the arguments see `causal_attention`."""
    T, S = q.size(2), k.size(2)
    scores = q.float() @ k.float().transpose(2, 3) * q.size(3) ** -0.5  # (B, nh, T, S)
    if mask is not None:
        scores = scores + mask
    elif T > 1:
        scores = scores.masked_fill(torch.ones(T, S, dtype=torch.bool, device=q.device).triu(S - T + 1), -math.inf)
    return torch.softmax(scores, -1)


current: tuple[int, Callable[[Tensor], None]] | None = None  # thread, function


@contextmanager
def recorded_attention(take: Callable[[Tensor], None]) -> Iterator[None]:
    """Call `take` with the attention weights (B, nh, T, S) of each `causal_attention` of this thread.

    One thread at a time can do so.
    """
    global current
    with _recording:
        current = threading.get_ident(), take
        try:
            yield
        finally:
            current = None


_recording = threading.Lock()


def record(q: Tensor, k: Tensor, mask: Tensor | None) -> None:
    if current is not None and current[0] == threading.get_ident():
        current[1](attention_weights(q.detach(), k.detach(), mask))
