"""The data set of a run: prepared if it is not yet, and the settings that follow from it."""

import os
from collections.abc import Generator
from pathlib import Path
from typing import Any

from nanogpt import data
from nanogpt.config import Config, with_settings
from nanogpt.errors import SettingError, UserError
from nanogpt.events import Event

SEARCHED_TOKENS = 10_000_000  # for a separator of documents


def open_or_prepare(name: str, data_dir: Path | None = None) -> Generator[Event, None, data.Dataset]:
    """Yield the events of preparing a data set, if it is not prepared yet, and return it. Raise `UserError`."""
    if not data.is_prepared(name, data_dir):
        if "RANK" in os.environ:
            raise UserError(f"prepare the data set before several processes train on it: `nanogpt prepare {name}`")
        yield from data.prepare(name, data_dir=data_dir)
    return data.open_dataset(name, data_dir)


def splits(dataset: data.Dataset) -> dict[str, Any]:
    """Return the token ids of the splits train and val. Raise `UserError` if some are outside the vocabulary."""
    for split in ("train", "val"):
        dataset.check_ids(split)
    return {split: dataset.split(split) for split in ("train", "val")}


def with_dataset(config: Config, dataset: data.Dataset) -> Config:
    """Return the settings with those that follow from the data set's tokenizer.

    Raise `SettingError` if one of them does not fit the tokenizer.
    """
    tokenizer, asked = dataset.tokenizer, config.model.vocab_size
    if 0 < asked < tokenizer.vocab_size:
        raise SettingError(
            "vocab_size", f"vocab_size={asked}: the data set's tokenizer has {tokenizer.vocab_size:,} tokens"
        )
    resolved: dict[str, Any] = {"vocab_size": asked or tokenizer.vocab_size}
    if os.sep in config.data.dataset:  # a resume may have another working directory
        resolved["dataset"] = str(dataset.path.absolute())
    if config.data.document_mask:
        asked = config.data.document_separator
        separator = tokenizer.end_of_text if asked < 0 else asked
        if separator is None:
            raise SettingError(
                "document_mask",
                f"document_mask=true: the tokenizer of {dataset.name} has no end-of-text token; set document_separator "
                "to the id of the token before each document, or use false",
            )
        if separator >= tokenizer.vocab_size:
            raise SettingError(
                "document_separator",
                f"document_separator={separator}: the tokenizer's last id is {tokenizer.vocab_size - 1:,}",
            )
        resolved["document_separator"] = separator
    return with_settings(config, resolved)


def missing_documents(config: Config, dataset: data.Dataset) -> str:
    """Return a warning if the data set seems to have no documents although the settings limit attention to them."""
    separator = config.data.separator
    if separator is None or (dataset.split("train")[:SEARCHED_TOKENS] == separator).any():
        return ""
    return (
        f"document_mask has no effect: the beginning of {dataset.name} does not have the token {separator}, which "
        "separates documents"
    )


def check_sample_prompt(config: Config, dataset: data.Dataset) -> None:
    """Raise `SettingError` before training if the tokenizer cannot encode the prompt of the samples."""
    start = config.evaluation.sample_start
    try:
        dataset.tokenizer.encode(start)
    except UserError as error:
        raise SettingError("sample_start", f"sample_start={start!r}: {error}") from None
