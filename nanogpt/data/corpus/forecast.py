"""A forecast of the data set that a corpus of local files would give, from the beginnings of some of them."""

import math
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import numpy as np

from nanogpt import tokenizers
from nanogpt.data import formats
from nanogpt.data.corpus.encoding import separator_ids
from nanogpt.data.corpus.preparation import ordered
from nanogpt.data.corpus.window import split_numbers
from nanogpt.data.recipes import Recipe
from nanogpt.data.store import SPLITS
from nanogpt.data.streams import open_stream
from nanogpt.errors import UserError
from nanogpt.events import Encoding, Event, Forecast

FILES = 16  # that are read
FILE_BYTES = 1 << 21  # of text that is read of each
REPORTED_DOCUMENTS = 100


def forecast_corpus(recipe: Recipe) -> Generator[Event, None, None]:
    """Yield progress and finally a `Forecast`, exact if the files are read to their ends. Write nothing.

    With a tokenizer that is trained it is an estimate: preparing trains it on another text, with the duplicates. Raise
    `UserError` if the files are not on this machine or cannot be prepared.
    """
    settings = recipe.documents
    assert settings is not None
    if recipe.source.is_corpus:
        raise UserError("the size of a corpus that is downloaded is not known before; give a copy of it")
    shards = ordered((yield from recipe.source.shards(recipe.encoding)), recipe)
    stored_bytes = sum(shard.size or 0 for shard in shards)
    texts, new, read_bytes = list[str](), list[bool](), 0
    known: set[str] = set()
    for shard in shards[:FILES]:
        with open_stream(Path(shard.path)) as stream:
            text_bytes, is_whole = 0, True
            found = formats.find(stream.path).documents(
                stream, text_column=settings.text_column, encoding=recipe.encoding, skipped=Counter()
            )
            for text in found:
                new.append(text not in known or not settings.deduplicate)
                if new[-1]:
                    texts.append(text)
                    known.add(text)
                text_bytes += len(text.encode())
                if text_bytes >= FILE_BYTES:
                    is_whole = False
                    read_bytes += min(stream.stored.tell(), shard.size or 0)
                    break
            read_bytes += (shard.size or 0) if is_whole else 0
        yield Encoding(phase="scan", done_bytes=read_bytes, total_bytes=stored_bytes, tokens=0)
    kept = np.array(new, np.bool_)
    every_split = split_numbers(0, kept, 0, settings.seed, recipe.val_ratio, recipe.test_ratio)
    splits = every_split[kept].tolist()  # duplicates have numbers too
    training = (text for text, split in zip(texts, splits, strict=True) if split == 0)
    needs = tokenizers.parse_spec(recipe.tokenizer).kind.needs
    characters = "".join(sorted({"\n", *settings.separator}.union(*texts)))  # a line feed after each, as in the sample
    tokenizer = yield from tokenizers.build(recipe.tokenizer, training if needs == "text" else [characters])
    separator = len(separator_ids(tokenizer, settings.separator))
    tokens = dict.fromkeys(SPLITS[: 3 if recipe.test_ratio else 2], 0)
    for number, (text, split) in enumerate(zip(texts, splits, strict=True)):
        tokens[SPLITS[split]] += len(tokenizer.encode_to_array(text)) + separator
        if number % REPORTED_DOCUMENTS == 0:
            total = sum(tokens.values())
            yield Encoding(phase="encode", done_bytes=number, total_bytes=len(texts), tokens=total)
    total, documents = sum(tokens.values()), len(texts)
    if not documents:
        raise UserError(f"the corpus of {recipe.name} has no documents; give other files")
    scale = stored_bytes / max(1, read_bytes)
    bounds = (scale, (settings.max_docs or math.inf) / documents, (settings.max_tokens or math.inf) / total)
    is_whole = read_bytes == stored_bytes and min(bounds) == scale
    if not is_whole:
        held_out = {"val": recipe.val_ratio, "test": recipe.test_ratio}
        held_out["train"] = 1 - sum(held_out.values())
        tokens = {split: round(total * min(bounds) * held_out[split]) for split in tokens}
    yield Forecast(
        files=len(shards),
        documents=round(documents * min(bounds)),
        text_bytes=round(sum(len(text.encode()) for text in texts) * min(bounds)),
        characters=round(sum(map(len, texts)) * min(bounds)),
        vocab_size=tokenizer.vocab_size,
        tokens=tokens,
        exact=is_whole and needs != "text",
    )
