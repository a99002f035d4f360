"""Generation as an iterator of events: each token when it is drawn, then why a sample ended."""

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from nanogpt.config import ArchitectureConfig, SamplingConfig
from nanogpt.errors import UserError
from nanogpt.events import Alternative, Stopped, Token
from nanogpt.models.base import LanguageModel
from nanogpt.sampling.decoding import decode, extend_window
from nanogpt.sampling.packed_linear import resolve_sampling_dtype
from nanogpt.sampling.sampler import sample_tokens
from nanogpt.sampling.text import TextStream
from nanogpt.tokenizers import Tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Ids = NDArray[np.int64]

DRAWS_PER_BLOCK = 64  # random numbers drawn in one call


def generate(
    model: LanguageModel,
    tokenizer: Tokenizer,
    prompt: str,
    knobs: SamplingConfig | Callable[[], SamplingConfig],
    *,
    written: Sequence[int] = (),
    num_samples: int = 1,
    use_cache: bool = True,
    alternatives: int = 5,
    dtype: str = "auto",
) -> Generator[Token | Stopped, None, None]:
    """Continue the prompt `num_samples` times in one batch. Yield each Token, and Stopped at the end of each sample.

    The prompt is not repeated. Closing the iterator stops generation.

    model: in any mode and on any device. Neither its mode nor torch's global random state changes.
    knobs: a callable is called before each token, so that they can change meanwhile. Only the first seed counts; if
        `max_new_tokens` is lowered below the number of written tokens, the sample ends with the next token.
    written: ids of tokens that were generated before after the prompt. The sample continues as if it had not been
        interrupted, with the same random draws. They count in `max_new_tokens` and are not repeated.
    use_cache: False computes the whole window for each token.
    alternatives: number of most likely tokens in each Token event.
    dtype: the number format of the factors of matrix products: "float32", "bfloat16", or "auto" for the faster one on
        this machine (see `resolve_sampling_dtype`).

    Sample i draws from its own generator with the seed seed + i. Its text does not depend on the other samples, the
    cache or the device, except for rounding, which is coarser in bfloat16. An empty prompt starts from the end-of-text
    token if the tokenizer has one, else from a line break. Only the last block_size tokens of the prompt count. Raise
    `UserError` for a character that the tokenizer does not know, and for a model whose logits are not finite.
    """
    read_knobs: Callable[[], SamplingConfig] = knobs if callable(knobs) else lambda: knobs
    current = read_knobs()
    if tokenizer.vocab_size > model.config.vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} tokens and the model only {model.config.vocab_size}: "
            "they do not belong together; use the tokenizer that the model was trained with"
        )
    if len(written) >= current.max_new_tokens:
        for row in range(num_samples):
            yield Stopped(sample=row, reason="length", tokens=len(written), tokens_per_second=0.0)
        return

    @cache
    def shown(token_id: int) -> str:
        return tokenizer.token_bytes(token_id).decode("utf-8", "replace")

    prompted = prompt_ids(tokenizer, prompt)
    known = np.array([[*prompted, *written]] * num_samples)  # (B, P) int64
    rows = np.arange(num_samples)
    seen = np.zeros((num_samples, tokenizer.vocab_size), np.bool_)  # (B, V)
    seen[:, known[0]] = True
    uniforms = uniform_draws(current.seed, num_samples)
    streams = [TextStream() for _ in range(num_samples)]
    window = initial_window(known, len(prompted), model.config)
    for token_id in written:  # replays the random draws and the text
        next(uniforms)
        for stream in streams:
            stream.feed(tokenizer.token_bytes(token_id))
    steps = decode(model, window, use_cache, resolve_sampling_dtype(dtype, model)[0])
    ids: Ids | None = None  # (B)
    running = list(range(num_samples))
    n_tokens, busy_s = len(written), 0.0
    while running:
        started = perf_counter()
        logits = next(steps) if ids is None else steps.send(ids)  # (B, V)
        current = current if ids is None else read_knobs()
        # A padded vocabulary has more logits than there are tokens: those are never drawn.
        choice = sample_tokens(logits[:, : tokenizer.vocab_size], current, seen, next(uniforms), alternatives)
        ids = choice.ids
        seen[rows, ids] = True
        n_tokens += 1
        events: list[Token | Stopped] = []
        chosen_ids = ids.tolist()
        for row in running.copy():
            chosen = chosen_ids[row]
            ended = chosen == tokenizer.end_of_text
            last = ended or n_tokens >= current.max_new_tokens
            text, stopped = streams[row].feed(b"" if ended else tokenizer.token_bytes(chosen), current.stop, last)
            ids_shares = zip(*choice.alternatives[row], strict=True)
            others = tuple([Alternative(other, shown(other), share) for other, share in ids_shares])
            events.append(
                Token(sample=row, id=chosen, text=text, probability=choice.probabilities[row], alternatives=others)
            )
            if stopped or last:
                running.remove(row)
                rate = (n_tokens - len(written)) / (busy_s + perf_counter() - started)
                reason: Literal["stop", "end", "length"] = "stop" if stopped else "end" if ended else "length"
                events.append(Stopped(sample=row, reason=reason, tokens=n_tokens, tokens_per_second=rate))
        busy_s += perf_counter() - started  # the listener's time does not count
        yield from events


def initial_window(known: "Ids", prompted: int, config: ArchitectureConfig) -> "Ids":
    """Return the window (B, W) of `decode` after the tokens `known` (B, P), the first `prompted` of them the prompt."""
    window = known[:, :prompted][:, -config.block_size :]
    for place in range(prompted, known.shape[1]):
        window = extend_window(window, known[:, place], config)
    return window


def next_logits(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str, written: Sequence[int] = ()
) -> "tuple[Floats, NDArray[np.bool_]]":
    """Return the logits (1, V) from which `generate` draws the next token after the prompt and the written tokens.

    The second array (1, V) is true for tokens that occurred already, as `distribution` needs it. Raise `UserError` as
    `generate` does.
    """
    prompted = prompt_ids(tokenizer, prompt)
    known = np.array([[*prompted, *written]])  # (1, P) int64
    seen = np.zeros((1, tokenizer.vocab_size), np.bool_)
    seen[:, known[0]] = True
    window = initial_window(known, len(prompted), model.config)
    logits = next(decode(model, window, dtype=resolve_sampling_dtype("auto", model)[0]))
    return logits[:, : tokenizer.vocab_size], seen


def uniform_draws(seed: int, num_samples: int) -> "Iterator[Floats]":
    """Yield numbers (B, 1) in [0, 1) for each token; those of sample i come from a generator with the seed seed + i."""
    generators = [torch.Generator().manual_seed(seed + row) for row in range(num_samples)]
    while True:  # a block has the same numbers as single draws
        block = torch.stack([torch.rand(DRAWS_PER_BLOCK, generator=each) for each in generators], 1).numpy()  # (n, B)
        yield from block[:, :, None]


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """Return the ids of the prompt; for an empty one, a token after which a text begins."""
    if ids := tokenizer.encode(prompt):
        return ids
    if tokenizer.end_of_text is not None:
        return [tokenizer.end_of_text]
    try:
        return tokenizer.encode("\n")[:1] or [0]
    except UserError:
        return [0]
