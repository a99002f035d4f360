"""The decoding loop: tokens in, the next logits out, with a cache of keys and values. Knows nothing of text or knobs.

Learned positions tie what a cache holds to where its window begins: a window that slides by one token would change
every position and every cached value. So the window does not slide, it restarts (see `extended`), and a prompt's worth
of work is done once every block_size / 2 tokens instead of at each.

Tokens and logits are numpy arrays: whoever chooses the next token does so on the CPU. In the shapes: B samples,
W tokens in the window, V = vocab_size.
"""

from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager, nullcontext
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from nanogpt.sampling.cores import blas_threads, by_trial
from nanogpt.sampling.packing import Packed, packs

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Ids = NDArray[np.int64]

# Weight uses in a pass below which a second thread brought nothing (measured with 11M parameters and one token).
WORTH_SHARING = 32_000_000
# The same of a step that numpy makes: it comes to the memory's limit, which one core does not reach.
WORTH_SHARING_A_STEP = 3_000_000
# Weights from which a copy of them, laid out for several samples, is worth making.
WORTH_PACKING = 3_000_000


def extended(window: "Ids", tokens: "Ids", block_size: int) -> "Ids":
    """The window (B, W) with a token for each sample (B) behind it; a window that is full restarts on its last
    block_size // 2 tokens (at least one), the new one included."""
    if window.shape[1] == block_size:
        window = window[:, block_size + 1 - max(1, block_size // 2) :]
    return np.concatenate((window, tokens[:, None]), 1)


def decode(model: Any, prompt: "Ids", use_cache: bool = True) -> "Generator[Floats, Ids, None]":
    """Yields the logits (B, V) of the token that follows, then is sent that token (B), without end.

    prompt: (B, P), P >= 1; of a longer one than block_size the last part counts. Without the cache each token
    costs a forward pass over the same window: the reference that the cache has to equal. The model's weights are not to
    change meanwhile: the cache and a copy of them would not.
    """
    window = prompt[:, -model.config.block_size :]  # (B, W)
    device = next(model.parameters()).device
    cache, step, weights = None, None, model.n_parameters()
    packs_it = len(window) > 1 and weights >= WORTH_PACKING and packs(model)
    packing = Packed(rows=len(window)) if packs_it else nullcontext()
    threads = by_trial(torch.get_num_threads() if weights >= WORTH_SHARING_A_STEP else 1)
    n_threads = next(threads)
    while True:
        fresh = window
        if use_cache:
            if cache is not None and window.shape[1] == cache.length + 1:
                fresh = window[:, -1:]
                step = step or stepper(model, cache, len(window))
            else:
                cache, step = model.new_cache(len(window)), None
        if step:
            began = perf_counter()
            with blas_threads(n_threads):
                logits = step(int(fresh[0, 0]))[None]  # (1, V)
            n_threads = threads.send(perf_counter() - began)
        else:
            with evaluating(model), sized_threads(weights * fresh.size), packing:
                last, _ = model(torch.from_numpy(fresh).to(device), cache=cache)  # (B, 1, V)
            logits = last[:, -1].float().cpu().numpy()
        tokens = yield logits
        window = extended(window, tokens, model.config.block_size)


def stepper(model: Any, cache: Any, samples: int) -> "Callable[[int], Floats] | None":
    """The model's own faster way over one position more (see `LanguageModel`), where it has one for this case."""
    one = next(model.parameters())
    if samples > 1 or one.device.type != "cpu" or one.dtype != torch.float32 or not hasattr(model, "stepper"):
        return None
    return model.stepper(cache)  # type: ignore[no-any-return]


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
