"""The files of a Hugging Face tokenizer: `tokenizer.json`, or GPT-2's older pair `vocab.json` and `merges.txt`."""

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from nanogpt.errors import UserError
from nanogpt.files import read_json, read_text
from nanogpt.tokenizers._bpe import END_OF_TEXT

LARGEST = 1 << 26  # bytes
VOCABULARY, MERGES = "vocab.json", "merges.txt"
END_TOKENS = (END_OF_TEXT, "<|end_of_text|>", "</s>", "<eos>", "[SEP]")  # if no configuration names one
# What splits text as GPT-2 does. Other programs that write this pair of files split it in other ways.
GPT2_CLASSES = ("GPT2Tokenizer", "GPT2TokenizerFast")
_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": True, "use_regex": True}


def tokenizer_path(path: Path) -> Path:
    """Return the file of the tokenizer: `path`, or the one in this folder."""
    if not os.path.isdir(path):  # noqa: PTH112 (pathlib's raises without permission, as the next ones)
        return path
    whole, vocabulary = path / "tokenizer.json", path / VOCABULARY
    return vocabulary if os.path.lexists(vocabulary) and not os.path.lexists(whole) else whole


def read_content(path: Path) -> Any:
    """Return the content of a `tokenizer.json`; that of `vocab.json` and the `merges.txt` beside it is made into one.

    Raise OSError or ValueError, and `UserError` for a pair of files that is not GPT-2's.
    """
    if path.name != VOCABULARY:
        return read_json(path, LARGEST)
    ids = read_json(path, LARGEST)
    if not isinstance(ids, dict) or not all(isinstance(id, int) and id >= 0 for id in ids.values()):
        raise ValueError("it is not a table of tokens and their ids")
    merges = [line.split(" ") for line in read_text(path.with_name(MERGES), LARGEST).split("\n")]
    merges = [pair for pair in merges if len(pair) == 2 and pair[0] != "#version:"]
    settings = _settings(path.parent)
    kind = settings.get("tokenizer_class")
    if kind not in (None, *GPT2_CLASSES):
        raise UserError(
            f"{path} is the vocabulary of a {str(kind)[:40]}, which splits text in its own way: save it as "
            "tokenizer.json with transformers"
        )
    special = {token: ids[token] for token in (*_named(settings), *END_TOKENS) if token in ids}
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [{"id": id, "content": token, **flags, "special": True} for token, id in special.items()],
        "normalizer": None,
        "pre_tokenizer": _BYTES,
        "post_processor": None,
        "decoder": _BYTES,
        "model": {"type": "BPE", "vocab": ids, "merges": merges},
    }


def _settings(folder: Path) -> dict[str, Any]:
    """Return what the folder's configurations of the tokenizer say, if there are any."""
    settings: dict[str, Any] = {}
    for name in ("special_tokens_map.json", "tokenizer_config.json"):
        with suppress(OSError, ValueError):
            content = read_json(folder / name)
            settings |= content if isinstance(content, dict) else {}
    return settings


def _named(settings: dict[str, Any]) -> Iterator[str]:
    """Yield the special tokens that a configuration names."""
    for role in ("eos_token", "bos_token", "unk_token", "pad_token"):
        token = settings.get(role)
        token = token.get("content") if isinstance(token, dict) else token
        if isinstance(token, str):
            yield token
