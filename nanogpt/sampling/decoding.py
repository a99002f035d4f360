"""The decoding loop: tokens in, the next logits out, with a cache of keys and values. Knows nothing of text or knobs.

Learned positions tie what a cache holds to where its window begins: a window that slides by one token would change
every position and every cached value. So the window does not slide, it restarts (see `extended`), and a prompt's worth
of work is done once every block_size / 2 tokens instead of at each.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

# Weight uses in a pass below which a second thread brought nothing (measured with 11M parameters and one token).
WORTH_SHARING = 32_000_000


def extended(window: Tensor, token: Tensor, block_size: int) -> Tensor:
    """The window (B, W) with a token (B, 1) behind it; a window that is full restarts on its last block_size // 2
    tokens (at least one), the new one included."""
    if window.size(1) == block_size:
        window = window[:, block_size + 1 - max(1, block_size // 2) :]
    return torch.cat((window, token), 1)


def decode(model: Any, prompt: Tensor, use_cache: bool = True) -> Generator[Tensor, Tensor, None]:
    """Yields the logits (B, V) of the token that follows, then is sent that token (B, 1), without end.

    prompt: (B, P) int64, P >= 1; of a longer one than block_size the last part counts. Without the cache each token
    costs a forward pass over the same window: the reference that the cache has to equal.
    """
    window = prompt[:, -model.config.block_size :]  # (B, W)
    cache, weights = None, model.n_parameters()
    while True:
        if not use_cache:
            fresh = window
        elif cache is not None and window.size(1) == cache.length + 1:
            fresh = window[:, -1:]
        else:
            cache, fresh = model.new_cache(window.size(0)), window
        with evaluating(model), sized_threads(weights * fresh.numel()):
            logits, _ = model(fresh, cache=cache)  # (B, 1, V)
        token = yield logits[:, -1]
        window = extended(window, token, model.config.block_size)


@contextmanager
def evaluating(model: Any) -> Iterator[None]:
    """Evaluation mode (no dropout) inside, each module's own mode again after: a model in training can be asked."""
    changed = [module for module in model.modules() if module.training] if model.training else []
    if changed:
        model.eval()
    try:
        yield
    finally:
        for module in changed:
            module.training = True


@contextmanager
def sized_threads(weight_uses: int) -> Iterator[None]:
    """One CPU thread inside for a small pass. Beside other work, as a training, threads that wait for each other at
    every small product made it tens of times slower; alone, they made it no faster."""
    threads = torch.get_num_threads()
    alone = threads > 1 and weight_uses < WORTH_SHARING
    if alone:
        torch.set_num_threads(1)
    try:
        yield
    finally:
        if alone:
            torch.set_num_threads(threads)
