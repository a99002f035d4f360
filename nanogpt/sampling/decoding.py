"""The decoding loop: token ids in, next logits out, with a key-value cache if the model has one.

With learned positions, the cached values depend on where the window begins: sliding it by one token would invalidate
all of them. Therefore a full window does not slide but restarts (see `extend_window`), which costs one prefill every
block_size / 2 tokens. Where a model has no cache, which is read from its capabilities alone, the window slides.

Ids and logits are numpy arrays, because the sampler runs on the CPU. In the shapes: B samples, W tokens in the window,
V = vocab_size.

Which token is drawn: `sampler.py`.
"""

from collections.abc import Generator, Iterator
from contextlib import contextmanager, nullcontext
from time import perf_counter
from typing import TYPE_CHECKING

import numpy as np
import torch

from nanogpt.heap import retain_freed_memory
from nanogpt.models.base import Cache, DecodeStep, LanguageModel, evaluation_mode
from nanogpt.sampling.packed_linear import PackedLinears, can_pack
from nanogpt.sampling.threads import threads, trial_thread_counts

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from nanogpt.config import ArchitectureConfig

    Floats = NDArray[np.float32]
    Ids = NDArray[np.int64]

# Multiplications in a pass over many positions, from which more threads are faster.
MIN_WORK_FOR_THREADS = 24_000_000
# Multiplications in a step over one position of each sample, from which more threads are tried.
MIN_WORK_FOR_TRIAL = 3_000_000
# Weights from which a packed copy of them is faster for several samples if the model has no decoding backend: each
# linear layer then costs some microseconds more.
MIN_WEIGHTS_FOR_PACKING = 3_000_000


def extend_window(window: "Ids", tokens: "Ids", config: "ArchitectureConfig") -> "Ids":
    """Return the window (B, W) with the next token of each sample (B) appended.

    A full window restarts with its last block_size // 2 tokens (at least one), the new one included; without a cache it
    keeps the last block_size.
    """
    if window.shape[1] == config.block_size:
        kept = max(1, config.block_size // 2) if config.capabilities.cache else config.block_size
        window = window[:, config.block_size + 1 - kept :]
    return np.concatenate((window, tokens[:, None]), 1)


@torch.inference_mode()  # torch leaves it at each yield and enters it again afterwards
def decode(
    model: LanguageModel, prompt: "Ids", use_cache: bool = True, dtype: str = "float32"
) -> "Generator[Floats, Ids, None]":
    """Yield the logits (B, V) of the next token and receive that token (B), without end.

    prompt: (B, P), P >= 1; only its last block_size tokens count. use_cache: False costs a forward pass over the whole
    window for each token, and gives the same logits. dtype: "float32", "bfloat16" or "int8", of the factors of matrix
    products. The weights of the model must not change meanwhile.
    """
    window = prompt[:, -model.config.block_size :]  # (B, W)
    use_cache = use_cache and model.config.capabilities.cache
    samples, weights = len(window), multiplied_weights(model)
    large = weights * samples >= MIN_WORK_FOR_TRIAL
    packed = choose_packing(model, samples, dtype)
    trial = trial_thread_counts(torch.get_num_threads() if large else 1)
    n_threads = next(trial)
    cache: Cache | None = None
    step: DecodeStep | None = None
    with retain_freed_memory() if large else nullcontext():
        while True:
            if cache is not None and step is not None and window.shape[1] == cache.length + 1:
                started = perf_counter()
                with threads(n_threads):
                    logits = step(window[:, -1:])  # (B, V)
                n_threads = trial.send(perf_counter() - started)
            elif cache is not None and step is not None:
                cache.copy_from(model.new_cache(1))  # empties it
                with threads_for(weights * window.size):
                    logits = step(window)
            elif use_cache:
                logits, cache, step = prefill(model, packed, window)
            else:
                with threads_for(weights * window.size):
                    logits = forward_pass(model, packed, None, window)
            tokens = yield logits
            window = extend_window(window, tokens, model.config)


def prefill(model: LanguageModel, packed: PackedLinears | None, window: "Ids") -> tuple["Floats", Cache, DecodeStep]:
    """Return the logits (B, V) after the window (B, W), its cache, and the decode step that continues it.

    Equal rows, as after a prompt, share one forward pass.
    """
    samples = len(window)
    is_shared = samples > 1 and (window == window[0]).all()
    ids = window[:1] if is_shared else window
    cache = model.new_cache(len(ids))
    step = make_decode_step(model, packed, cache)
    with threads_for(multiplied_weights(model) * ids.size):
        logits = step(ids)
    if is_shared:
        single, cache = cache, model.new_cache(samples)
        cache.copy_from(single)
        logits, step = logits.repeat(samples, 0), make_decode_step(model, packed, cache)
    return logits, cache, step


def multiplied_weights(model: LanguageModel) -> int:
    """Return the multiplications for each token, attention included; rows that are only looked up do not count."""
    return model.config.flops_per_token() // 6


def choose_packing(model: LanguageModel, samples: int, dtype: str) -> PackedLinears | None:
    """Return packed copies of the weights if `dtype` asks for them or they are faster, else None."""
    if dtype != "float32":
        return PackedLinears(samples, getattr(torch, dtype), use_onednn=can_pack(model, dtype))
    has_backend = model.config.capabilities.decoding_backend
    if samples > 1 and (has_backend or model.n_parameters() >= MIN_WEIGHTS_FOR_PACKING) and can_pack(model, dtype):
        return PackedLinears(samples, torch.float32, use_onednn=True)
    return None


def forward_pass(model: LanguageModel, packed: PackedLinears | None, cache: Cache | None, ids: "Ids") -> "Floats":
    """Return the logits (B, V) of the token after ids (B, T), from the model's `forward`."""
    with evaluation_mode(model), packed or nullcontext():
        last, _ = model(torch.from_numpy(ids).to(model.device), cache=cache)  # (B, 1, V)
    if last is None:
        raise TypeError("a model without targets returns logits")
    return last[:, -1].float().cpu().numpy()


def make_decode_step(model: LanguageModel, packed: PackedLinears | None, cache: Cache) -> DecodeStep:
    """Return the function from ids (B, T), which continue the cache, to the logits (B, V) of the next token.

    It uses the model's decoding backend, if there is one for this device and dtype, else its `forward`.
    """
    first = next(model.parameters())
    if first.device.type == "cpu" and first.dtype == torch.float32:
        with threads(1):  # even sines of a few positions would wait for another thread
            step = model.decoding_backend(cache, packed.linear if packed else None)
        if step is not None:
            return step
    return lambda ids: forward_pass(model, packed, cache, ids)


@contextmanager
def threads_for(work: int) -> Iterator[None]:
    """Use one CPU thread inside this context for a small forward pass. `work`: multiplications.

    During a training, several threads that wait for each other after every small product made it tens of times slower;
    on an idle machine they made it no faster.
    """
    with threads(1 if work < MIN_WORK_FOR_THREADS else torch.get_num_threads()):
        yield
