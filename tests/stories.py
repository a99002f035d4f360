"""A data set of three documents, the last of them longer than a page: for tests to prepare."""

import json
from pathlib import Path

import numpy as np

from nanogpt.data import open_dataset, prepare, textfile_recipe
from nanogpt.data.store import Dataset

STORIES = ["One fish.", "Two fish, red fish.", "Blue fish. " * 4000]


def prepare_stories(folder: Path) -> Dataset:
    """Prepare the data set "stories" of GPT-2's tokens, with an end-of-text token after each document."""
    text = folder / "stories.txt"
    text.write_text("x" * 100)
    list(prepare(textfile_recipe([text], tokenizer="gpt2")))
    dataset = open_dataset("stories")
    ids = [id for story in STORIES for id in [*dataset.tokenizer.encode(story), dataset.tokenizer.end_of_text]]
    np.array(ids, "<u2").tofile(dataset.path / "train.bin")
    meta = json.loads((dataset.path / "meta.json").read_text())
    meta["tokens"]["train"] = len(ids)
    (dataset.path / "meta.json").write_text(json.dumps(meta))
    return open_dataset("stories")
