"""Training a tokenizer and measuring tokenizers on a text: the work of threads."""

import json
from collections.abc import Generator
from dataclasses import dataclass, replace
from pathlib import Path

from nanogpt import tokenizers
from nanogpt.data.catalog import DatasetInfo
from nanogpt.data.preparation import build_tokenizer, split_ends, split_texts
from nanogpt.data.recipes import Recipe, load_recipe, textfile_recipe
from nanogpt.data.scanning import scan_files
from nanogpt.data.split_text import split_text
from nanogpt.data.store import Dataset, is_prepared, open_dataset
from nanogpt.data.text import SEPARATOR, first_characters, read
from nanogpt.errors import UserError
from nanogpt.events import Event, VocabularyPoint
from nanogpt.files import why, write_atomically
from nanogpt.inspection.tokenization import vocabulary_curve
from nanogpt.tokenizers import Tokenizer
from nanogpt_tui.screens.tokenizers.choices import NEEDS_NETWORK, Tokenizers

DATASET, FILE = "dataset", "file"  # the first word of the key of a text
TRAINED_CHARACTERS = 1 << 25  # of the training split of a longer text, its beginning
MEASURED_CHARACTERS = 1 << 18  # of the validation split


@dataclass(frozen=True, slots=True)
class Mark:
    """What a tokenizer makes of a text."""

    label: str
    point: VocabularyPoint


@dataclass(frozen=True, slots=True)
class Trained:
    """A training has ended."""

    spec: str
    tokenizer: Tokenizer


def text_options(infos: list[DatasetInfo]) -> list[tuple[str, str]]:
    """Return (key, label) of the texts that are on this machine: those of data sets, and any file."""
    here = [info.name for info in infos if not info.problem and (info.prepared or info.offline)]
    return [*((f"{DATASET} {name}", name) for name in here), (FILE, "a file or a folder")]


def train(key: str, spec: str) -> Generator[Event | Trained, None, None]:
    """Train the tokenizer of a spec on the training split of a text, then measure it at growing sizes.

    Raise `UserError`.
    """
    kind, _, name = key.partition(" ")
    if kind == DATASET and is_prepared(name):
        made = yield from _train_on(open_dataset(name), spec)
    else:
        recipe = replace(_recipe(kind, name), tokenizer=spec)
        found = yield from recipe.source.files(recipe.encoding)
        files, _, alphabet, _ = yield from scan_files(found, recipe.encoding, recipe.source.text_column)
        ends = split_ends(recipe, sum(file.characters for file in files) + len(SEPARATOR) * (len(files) - 1))
        made = yield from build_tokenizer(recipe, files, alphabet, ends, TRAINED_CHARACTERS)
    yield Trained(spec, made)
    yield from vocabulary_curve(made, (yield from held_out(key)))


def _train_on(dataset: Dataset, spec: str) -> Generator[Event, None, Tokenizer]:
    """Train on the text of a data set's tokens, with its size in the progress."""
    total = min(dataset.meta.split_bytes.get("train", 0), TRAINED_CHARACTERS)
    text = first_characters(split_text(dataset, "train"), TRAINED_CHARACTERS)
    return (yield from tokenizers.build(spec, text, total))


def write_tokenizer(tokenizer: Tokenizer, path: Path) -> None:
    """Write a tokenizer as JSON, which the tokenizer `hf:PATH` reads. Raise `UserError`."""
    try:
        write_atomically(path, json.dumps(tokenizer.to_json()) + "\n")
    except OSError as error:
        raise UserError(f"cannot write {path}: {why(error)}; choose another place") from None


def held_out(key: str) -> Generator[Event, None, str]:
    """Yield progress and return the beginning of the validation split of a text. Raise `UserError`."""
    kind, _, name = key.partition(" ")
    if kind == DATASET and is_prepared(name):
        return "".join(first_characters(split_text(open_dataset(name), "val"), MEASURED_CHARACTERS))
    recipe = _recipe(kind, name)
    found = yield from recipe.source.files(recipe.encoding)
    files, _, _, _ = yield from scan_files(found, recipe.encoding, recipe.source.text_column)
    ends = split_ends(recipe, sum(file.characters for file in files) + len(SEPARATOR) * (len(files) - 1))
    texts = (text for split, text in split_texts(read(files), ends) if split == "val")
    return "".join(first_characters(texts, MEASURED_CHARACTERS))


def marks(known: Tokenizers, options: list[tuple[str, str]], key: str) -> Generator[Event | Mark, None, None]:
    """Yield progress, then what each tokenizer that is on this machine makes of a text.

    Raise `UserError` if it cannot be read.
    """
    text = yield from held_out(key)
    for name, label in options:
        if not label.endswith(NEEDS_NETWORK):
            try:
                yield Mark(name.partition(" ")[2], measured(known.load(name), text))
            except UserError:
                continue  # its side of the comparison says why


def measured(tokenizer: Tokenizer, text: str) -> VocabularyPoint:
    """Return a tokenizer's size and the bytes per token of a text; unknown characters are replaced."""
    tokens = len(tokenizer.encode_to_array(text, errors="replace"))
    text_bytes = len(text.encode("utf-8", "replace"))
    return VocabularyPoint(vocab_size=tokenizer.vocab_size, bytes_per_token=text_bytes / max(1, tokens))


def _recipe(kind: str, name: str) -> Recipe:
    return load_recipe(name) if kind == DATASET else textfile_recipe([name])
