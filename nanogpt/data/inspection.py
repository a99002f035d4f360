"""A forecast of the data set that a text would give, and a preview of a prepared one."""

from collections.abc import Generator
from dataclasses import dataclass

from nanogpt import tokenizers
from nanogpt.data.corpus.forecast import forecast_corpus
from nanogpt.data.preparation import build_tokenizer, pieces, split_ends, split_texts
from nanogpt.data.recipes import Recipe
from nanogpt.data.scanning import scan_files
from nanogpt.data.store import open_dataset
from nanogpt.data.text import SEPARATOR, read
from nanogpt.errors import UserError
from nanogpt.events import Encoding, Event, Forecast

ENCODED = 1 << 24  # characters that are encoded to count tokens (of a longer text, pieces spread evenly over it), and
# those that a tokenizer is trained on
COUNTED = 1 << 20  # tokens that are counted for the most common ones
SLICES = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetPreview:
    """Tokens of a prepared data set's training split.

    `beginning` has the bytes of each of its first tokens, `common` the bytes and the share (0 to 1) of the most
    frequent ones among `counted` tokens spread over the split.
    """

    name: str
    beginning: tuple[bytes, ...]
    common: tuple[tuple[bytes, float], ...]
    counted: int


def forecast(recipe: Recipe) -> Generator[Event, None, None]:
    """Yield the events that preparing yields while it reads, and finally a `Forecast`. Write nothing.

    Raise `UserError` if the text cannot be prepared.
    """
    tokenizers.canonical(recipe.tokenizer)  # raises if a file that it names cannot be read, before the text is
    if recipe.documents is not None:
        yield from forecast_corpus(recipe)
        return
    files, text_bytes, alphabet, _ = yield from scan_files(
        (yield from recipe.source.files(recipe.encoding)), recipe.encoding, recipe.source.text_column
    )
    characters = sum(file.characters for file in files) + len(SEPARATOR) * (len(files) - 1)
    ends = split_ends(recipe, characters)
    tokenizer = yield from build_tokenizer(recipe, files, alphabet, ends, ENCODED)
    tokens, exact = dict.fromkeys(ends, 0), True
    if tokenizer.one_per_character:
        begins = [0, *ends.values()]
        tokens = {split: end - begin for (split, end), begin in zip(ends.items(), begins, strict=False)}
    else:
        counted, passed, every = dict.fromkeys(ends, 0), dict.fromkeys(ends, 0), -(-characters // ENCODED)
        for number, (split, text) in enumerate(pieces(split_texts(read(files), ends), tokenizer)):
            if number % every == 0 or not counted[split]:
                tokens[split] += len(tokenizer.encode_to_array(text))
                counted[split] += len(text)
            passed[split] += len(text)
            share = text_bytes * sum(passed.values()) // characters
            yield Encoding(phase="encode", done_bytes=share, total_bytes=text_bytes, tokens=sum(tokens.values()))
        exact = counted == passed and (tokenizer.needs != "text" or ends["train"] <= ENCODED)
        tokens = {split: round(tokens[split] * passed[split] / counted[split]) for split in ends}
    yield Forecast(
        files=len(files),
        text_bytes=text_bytes,
        characters=characters,
        vocab_size=tokenizer.vocab_size,
        tokens=tokens,
        exact=exact,
    )


def preview_dataset(name: str, first: int = 3000, most: int = 12) -> DatasetPreview:
    """Return the first `first` tokens of a prepared data set's training split, and the `most` most frequent ones.

    Raise `UserError` if it is damaged.
    """
    import numpy as np

    dataset = open_dataset(name)
    tokenizer, ids = dataset.tokenizer, dataset.split("train")
    slices, length = (SLICES, COUNTED // SLICES) if len(ids) > COUNTED else (1, len(ids))
    starts = np.linspace(0, len(ids) - length, slices).astype(int)
    sample = np.concatenate([ids[start : start + length] for start in starts])
    if int(sample.max()) >= dataset.meta.vocab_size:
        raise UserError(f"{dataset.path} has tokens that are not in its vocabulary: prepare {name} again")
    counts = np.bincount(sample, minlength=2)
    common = np.argsort(-counts, kind="stable")[:most]
    return DatasetPreview(
        name=name,
        beginning=tuple(tokenizer.token_bytes(int(token)) for token in ids[:first]),
        common=tuple((tokenizer.token_bytes(int(t)), float(counts[t] / len(sample))) for t in common if counts[t]),
        counted=len(sample),
    )
