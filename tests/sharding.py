"""Turns a prepared data set into one with the same tokens in shards."""

import dataclasses
import json
from pathlib import Path

import numpy as np

from nanogpt.data import store
from nanogpt.data.token_files import TokenWriter


def cut_into_shards(folder: Path, shard_tokens: int, splits: tuple[str, ...] = ("train", "val")) -> store.Meta:
    """Replace the raw token files of a data set by shards of so many tokens; the rest stays as it is."""
    meta = store.open_dataset(folder).meta
    files = {}
    for split in meta.tokens:
        if split not in splits:
            files[split] = meta.files(split)
            continue
        ids = np.fromfile(folder / f"{split}.bin", "<u2" if meta.dtype == "uint16" else "<u4")
        writer = TokenWriter(folder, split, meta.dtype, shard_tokens)
        writer.append(ids)
        files[split] = writer.finish(raw=False)
    meta = dataclasses.replace(meta, **store.file_fields(files))
    (folder / "meta.json").write_text(json.dumps(json.loads(meta.to_json())))
    return meta
