"""Generation as an iterator of events: each token as it is chosen, then why a sample ended.

Knows nothing of runs, files or who listens.
"""

from collections.abc import Callable, Generator, Iterator, Sequence
from functools import cache
from time import perf_counter
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from nanogpt.config import SamplingConfig
from nanogpt.errors import UserError
from nanogpt.events import Alternative, Stopped, Token
from nanogpt.models.base import LanguageModel
from nanogpt.sampling.decoding import decode, extended
from nanogpt.sampling.packed_linear import number_format
from nanogpt.sampling.sampler import sample_tokens
from nanogpt.sampling.text import TextStream
from nanogpt.tokenizers import Tokenizer

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float32]
    Ids = NDArray[np.int64]

THROWS = 64  # random numbers made at once


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
    """Continues the prompt, which is not repeated, `num_samples` times at once; closing the iterator stops.

    model: in any mode and on any device; neither its mode nor torch's global random
    state changes. knobs: a callable is asked before each token, so that they can be turned meanwhile; the seed counts
    at the start only, and `max_new_tokens` lowered below what is written ends the sample with the next token.

    written: ids of tokens that are there already behind the prompt: the sample goes on as if it had written them itself
    and not stopped, with the draws that come then; they count in `max_new_tokens`, and are not repeated.

    dtype: the format of the factors of matrix products, "float32", "bfloat16", or "auto" for the faster one of this
    machine and model (see `number_format`). All else is in float32.

    Sample number i draws from its own generator seeded with seed + i, so its text does not depend on the others, on the
    cache or on the device, up to rounding, of which bfloat16 has more. An empty prompt starts from the end-of-text
    token where the tokenizer has one, else from a line break. Of a prompt longer than block_size the last part counts.
    Raises `UserError` for a character that the tokenizer does not know and for a model that is broken.
    """
    read: Callable[[], SamplingConfig] = knobs if callable(knobs) else lambda: knobs
    turned = read()
    if tokenizer.vocab_size > model.config.vocab_size:
        raise UserError(
            f"the tokenizer has {tokenizer.vocab_size} tokens and the model only {model.config.vocab_size}: "
            "they do not belong together; take the tokenizer that the model was trained with"
        )
    if len(written) >= turned.max_new_tokens:
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
    uniforms = throws(turned.seed, num_samples)
    streams = [TextStream() for _ in range(num_samples)]
    window = windowed(known, len(prompted), model.config.block_size)
    for token_id in written:  # what the dice and the text went through
        next(uniforms)
        for stream in streams:
            stream.feed(tokenizer.token_bytes(token_id))
    steps = decode(model, window, use_cache, number_format(dtype, model)[0])
    ids: Ids | None = None  # (B)
    running = list(range(num_samples))
    n_tokens, busy_s = len(written), 0.0
    while running:
        began = perf_counter()
        logits = next(steps) if ids is None else steps.send(ids)  # (B, V)
        turned = turned if ids is None else read()
        # A padded vocabulary has more logits than there are tokens: those are never drawn.
        choice = sample_tokens(logits[:, : tokenizer.vocab_size], turned, seen, next(uniforms), alternatives)
        ids = choice.ids
        seen[rows, ids] = True
        n_tokens += 1
        events: list[Token | Stopped] = []
        chosen_ids = ids.tolist()
        for row in running.copy():
            chosen = chosen_ids[row]
            ended = chosen == tokenizer.end_of_text
            last = ended or n_tokens >= turned.max_new_tokens
            text, stopped = streams[row].feed(b"" if ended else tokenizer.token_bytes(chosen), turned.stop, last)
            ids_shares = zip(*choice.alternatives[row], strict=True)
            others = tuple([Alternative(other, shown(other), share) for other, share in ids_shares])
            events.append(
                Token(sample=row, id=chosen, text=text, probability=choice.probabilities[row], alternatives=others)
            )
            if stopped or last:
                running.remove(row)
                rate = (n_tokens - len(written)) / (busy_s + perf_counter() - began)
                reason: Literal["stop", "end", "length"] = "stop" if stopped else "end" if ended else "length"
                events.append(Stopped(sample=row, reason=reason, tokens=n_tokens, tokens_per_second=rate))
        busy_s += perf_counter() - began  # the listener's time does not count
        yield from events


def windowed(known: "Ids", prompted: int, block_size: int) -> "Ids":
    """The window (B, W) that `decode` has behind the tokens known (B, P), the first `prompted` of them the prompt's."""
    window = known[:, :prompted][:, -block_size:]
    for place in range(prompted, known.shape[1]):
        window = extended(window, known[:, place], block_size)
    return window


def next_logits(
    model: LanguageModel, tokenizer: Tokenizer, prompt: str, written: Sequence[int] = ()
) -> "tuple[Floats, NDArray[np.bool_]]":
    """What `generate` chooses the next token from behind the prompt and the tokens written: logits (1, V), and which
    tokens are there already (1, V), for `distribution`. Raises `UserError` as `generate` does."""
    prompted = prompt_ids(tokenizer, prompt)
    known = np.array([[*prompted, *written]])  # (1, P) int64
    seen = np.zeros((1, tokenizer.vocab_size), np.bool_)
    seen[:, known[0]] = True
    window = windowed(known, len(prompted), model.config.block_size)
    logits = next(decode(model, window, dtype=number_format("auto", model)[0]))
    return logits[:, : tokenizer.vocab_size], seen


def throws(seed: int, num_samples: int) -> "Iterator[Floats]":
    """For each token (B, 1) numbers in [0, 1): sample number i's are those of a generator seeded with seed + i."""
    dice = [torch.Generator().manual_seed(seed + row) for row in range(num_samples)]
    while True:  # many at a time, which are the same as one by one
        block = torch.stack([torch.rand(THROWS, generator=die) for die in dice], 1).numpy()  # (THROWS, B)
        yield from block[:, :, None]


def prompt_ids(tokenizer: Tokenizer, prompt: str) -> list[int]:
    """At least one id: of the prompt, or where it is empty of what a text begins after."""
    if ids := tokenizer.encode(prompt):
        return ids
    if tokenizer.end_of_text is not None:
        return [tokenizer.end_of_text]
    try:
        return tokenizer.encode("\n")[:1]
    except UserError:
        return [0]
