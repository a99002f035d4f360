"""The decoding loop: tokens in, the next logits out, with a cache of keys and values. Knows nothing of text or knobs.

Learned positions tie what a cache holds to where its window begins: a window that slides by one token would change
every position and every cached value. So the window does not slide, it restarts (see `extended`), and a prompt's worth
of work is done once every block_size / 2 tokens instead of at each.

Tokens and logits are numpy arrays: whoever chooses the next token does so on the CPU. In the shapes: B samples,
W tokens in the window, V = vocab_size.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch

from nanogpt.hardware import kept_memory
from nanogpt.models.base import Cache, DecodeStep, LanguageModel
from nanogpt.sampling.packed_linear import Packed, packs
from nanogpt.sampling.threads import by_trial, threads

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Ids = NDArray[np.int64]

# Weight uses in a pass over many positions below which a second thread brings nothing.
WORTH_SHARING = 24_000_000
# Weight uses in a step, over one position of each sample, from which it is tried whether a second thread helps.
WORTH_TRYING = 3_000_000
# Weights from which a copy of them, laid out for several samples, is worth making where the model itself steps: each
# call of torch's then costs some microseconds more.
WORTH_PACKING = 3_000_000


def extended(window: "Ids", tokens: "Ids", block_size: int) -> "Ids":
    """The window (B, W) with a token for each sample (B) behind it; a window that is full restarts on its last
    block_size // 2 tokens (at least one), the new one included."""
    if window.shape[1] == block_size:
        window = window[:, block_size + 1 - max(1, block_size // 2) :]
    return np.concatenate((window, tokens[:, None]), 1)


@torch.inference_mode()  # torch enters it for each step of a generator, and leaves it while the listener works
def decode(
    model: LanguageModel, prompt: "Ids", use_cache: bool = True, dtype: str = "float32"
) -> "Generator[Floats, Ids, None]":
    """Yields the logits (B, V) of the token that follows, then is sent that token (B), without end.

    prompt: (B, P), P >= 1; of a longer one than block_size the last part counts. Without the cache each token
    costs a forward pass over the same window: the reference that the cache has to equal. The model's weights are not to
    change meanwhile: the cache and a copy of them would not. dtype: "float32" or "bfloat16", of the factors of matrix
    products alone.
    """
    window = prompt[:, -model.config.block_size :]  # (B, W)
    use_cache = use_cache and model.config.capabilities.cache
    samples, weights = len(window), model.n_parameters()
    large = weights * samples >= WORTH_TRYING
    packed = packing(model, samples, dtype)
    trial = by_trial(torch.get_num_threads() if large else 1)
    n_threads = next(trial)
    cache: Cache | None = None
    step: DecodeStep | None = None
    with kept_memory() if large else nullcontext():
        while True:
            if cache is not None and step is not None and window.shape[1] == cache.length + 1:
                began = perf_counter()
                with threads(n_threads):
                    logits = step(window[:, -1:])  # (B, V)
                n_threads = trial.send(perf_counter() - began)
            elif use_cache:
                cache = step = None  # so that there are not two at once
                logits, cache, step = begun(model, packed, window)
            else:
                with sized_threads(weights * window.size):
                    logits = passed(model, packed, None, window)
            tokens = yield logits
            window = extended(window, tokens, model.config.block_size)


def begun(model: LanguageModel, packed: Packed | None, window: "Ids") -> tuple["Floats", Cache, DecodeStep]:
    """The logits (B, V) behind the window (B, W), a cache of it, and what continues that. Samples that are still alike,
    as behind a prompt, share one pass."""
    samples = len(window)
    alike = samples > 1 and (window == window[0]).all()
    ids = window[:1] if alike else window
    cache = model.new_cache(len(ids))
    step = decode_step(model, packed, cache)
    with sized_threads(model.n_parameters() * ids.size):
        logits = step(ids)
    if alike:
        one, cache = cache, model.new_cache(samples)
        cache.copy_from(one)
        logits, step = logits.repeat(samples, 0), decode_step(model, packed, cache)
    return logits, cache, step


def packing(model: LanguageModel, samples: int, dtype: str) -> Packed | None:
    """What multiplies instead of the model's own weights, where that is asked for or faster."""
    if dtype != "float32":
        return Packed(samples, getattr(torch, dtype), layout=packs(model, dtype))
    has_backend = model.config.capabilities.decoding_backend
    if samples > 1 and (has_backend or model.n_parameters() >= WORTH_PACKING) and packs(model, dtype):
        return Packed(samples, torch.float32, layout=True)
    return None


def passed(model: LanguageModel, packed: Packed | None, cache: Cache | None, ids: "Ids") -> "Floats":
    """The logits (B, V) of the token behind ids (B, T), by the model itself."""
    device = next(model.parameters()).device
    with evaluating(model), packed or nullcontext():
        last, _ = model(torch.from_numpy(ids).to(device), cache=cache)  # (B, 1, V)
    if last is None:
        raise TypeError("a model without targets returns logits")
    return last[:, -1].float().cpu().numpy()


def decode_step(model: LanguageModel, packed: Packed | None, cache: Cache) -> DecodeStep:
    """Return the function from ids (B, T), which continue the cache, to the logits (B, V) of the next token.

    It is the model's decoding backend where there is one, else the model itself.
    """
    one = next(model.parameters())
    if one.device.type == "cpu" and one.dtype == torch.float32:
        step = model.decoding_backend(cache, packed.linear if packed else None)
        if step is not None:
            return step
    return lambda ids: passed(model, packed, cache, ids)


@contextmanager
def evaluating(model: LanguageModel) -> Iterator[None]:
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
    with threads(1 if weight_uses < WORTH_SHARING else torch.get_num_threads()):
        yield
