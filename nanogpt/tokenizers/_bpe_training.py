"""Training of a byte pair encoding by Hugging Face's `tokenizers`.

The candidates, on 100 MB of source code and manuals to 9,157 entries (seconds of CPU, peak memory), in November 2026:

    gigabpe 0.1     3 s    91 MB  reads files line by line, so that no token spans a line end; GPT-2's pattern alone
    rustbpe 0.1    14 s   244 MB  any pattern; among pairs of equal count it merges another one first than tokenizers
    bpeasy 0.1.6   2.5 times rustbpe; the same order as rustbpe
    tokenizers     46 s   279 MB  any pattern (567 MB in chunks of 1 MB); 1.1 GB of text takes 890 s and 2.1 GB

`tokenizers` is the slowest and the one that is well kept: a hundred releases since 2019, wheels for every platform and
Python, the reference for the order of the merges. The others had one release, or none for a year. Counting the pieces,
most of the work, runs on all cores. It brings `huggingface_hub` with its dependencies, so it is an extra; only training
needs it. `benchmarks/bpe.py` measures it.
"""

import json
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from typing import Any

from nanogpt import extras
from nanogpt.events import TokenizerTraining
from nanogpt.formatting import token_text
from nanogpt.tokenizers import _training
from nanogpt.tokenizers._pieces import oniguruma
from nanogpt.tokenizers._published import byte_characters
from nanogpt.tokenizers.base import safe_chunks

LONGEST_SHOWN = 48  # characters of a token in a merge
CHUNK_CHARACTERS = 1 << 14  # of a text that the child counts at a time; larger ones take more memory, not less time


def train(
    pattern: str, size: int, texts: Iterable[str], safe_cut: Callable[[str], int]
) -> Generator[TokenizerTraining, None, list[bytes]]:
    """Yield the progress and return the tokens in the order of their ids: 256 bytes, then one for each merge.

    There are `size` tokens, or fewer if the text has no more pairs to merge. Merges do not cross the pieces of
    `pattern`; among pairs of equal count, that of the lower ids comes first. `safe_cut` is `Tokenizer.safe_cut`. Raise
    `UserError` if `tokenizers` is not installed, the text is empty, or the training fails.
    """
    extras.load("tokenizers", "tokenizers", "the training of a tokenizer")
    chunks = safe_chunks(texts, safe_cut, CHUNK_CHARACTERS)
    arguments = [str(size), pattern]
    learned: dict[str, Any] = yield from _training.run("_bpe_training", arguments, chunks, size, 256)
    byte_of = {character: byte for byte, character in byte_characters().items()}

    def in_bytes(token: str) -> bytes:
        return bytes(map(byte_of.__getitem__, token))

    parts = {left + right: (left, right) for left, right in reversed(learned["merges"])}  # the first one of each token
    merges = (merge_text(*map(in_bytes, parts[token])) for token in learned["tokens"][256:])
    yield from _training.show(merges, 256, size)
    return [in_bytes(token) for token in learned["tokens"]]


def merge_text(left: bytes, right: bytes) -> str:
    """Return a merge in one line: “th” + “e” → “the”; long tokens are cut."""
    shown = [token_text(token, LONGEST_SHOWN) for token in (left, right, left + right)]
    return "“{}” + “{}” → “{}”".format(*shown)


def learn(arguments: Sequence[str], texts: Iterator[str]) -> dict[str, Any]:
    """Return `tokens` in the order of their ids, and `merges`, pairs of tokens, in characters that stand for bytes."""
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    size, pattern = int(arguments[0]), arguments[1]
    tokenizer: Any = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(oniguruma(pattern)), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    alphabet = list(byte_characters().values())
    trainer = trainers.BpeTrainer(vocab_size=size, show_progress=False, initial_alphabet=alphabet)
    tokenizer.train_from_iterator(texts, trainer)
    vocabulary: dict[str, int] = tokenizer.get_vocab()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    return {"tokens": tokens, "merges": json.loads(tokenizer.to_str())["model"]["merges"]}
