"""A sample of the documents of a corpus, from which its tokenizer is made."""

from collections.abc import Generator, Iterator, Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from nanogpt.data.corpus.blocks import TextBlock, hash_documents
from nanogpt.data.corpus.duplicates import HashSet
from nanogpt.data.corpus.fetch import Fetcher
from nanogpt.data.corpus.processes import Processes
from nanogpt.data.corpus.reading import read_shards
from nanogpt.data.corpus.window import split_numbers
from nanogpt.data.recipes import Recipe
from nanogpt.data.sources.base import Shard
from nanogpt.data.text import Alphabet
from nanogpt.events import Downloading, Encoding, Event

CHUNK_CHARACTERS = 1 << 20


def write_sample(
    path: Path, recipe: Recipe, shards: Sequence[Shard], fetcher: Fetcher, *, training_only: bool
) -> Generator[Event, None, None]:
    """Write the first documents to a file, `tokenizer_bytes` in UTF-8, each with a line feed at its end.

    They are the first in the order of the shards, which is random by the seed. training_only: without the documents of
    the other splits. Yield progress. Raise `UserError`.
    """
    settings = recipe.documents
    assert settings is not None
    written = read = kept = 0
    known = HashSet()  # for the splits alone: the sample has duplicates too
    with path.open("wb") as file, closing(Processes(None, 1)) as processes:
        for item in read_shards(processes, fetcher, shards, recipe, 0, 0):
            if isinstance(item, Downloading):
                yield item
            if not isinstance(item, TextBlock):
                continue
            documents = item.documents
            new = known.add(hash_documents(documents)) if settings.deduplicate else np.ones(len(documents), np.bool_)
            splits = split_numbers(read, new, kept, settings.seed, recipe.val_ratio, recipe.test_ratio)
            read += len(documents)
            kept += int(new.sum())
            for document, split in zip(documents, splits, strict=True):
                if (split == 0 or not training_only) and written < settings.tokenizer_bytes:
                    written += file.write(document + b"\n")
            done = min(written, settings.tokenizer_bytes)
            yield Encoding(phase="scan", done_bytes=done, total_bytes=settings.tokenizer_bytes, tokens=0)
            if written >= settings.tokenizer_bytes:
                return


def read_sample(path: Path) -> Iterator[str]:
    """Yield the text of a sample in parts."""
    with path.open(encoding="utf-8", newline="") as file:
        while text := file.read(CHUNK_CHARACTERS):
            yield text


def sample_characters(path: Path, separator: str) -> str:
    """Return the distinct characters of a sample and of the separator, sorted."""
    alphabet = Alphabet()
    alphabet.add(separator.encode())
    for text in read_sample(path):
        alphabet.add(text.encode())
    return alphabet.characters()
