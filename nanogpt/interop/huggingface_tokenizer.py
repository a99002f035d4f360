r"""Tokenizers as Hugging Face's `tokenizers` reads them: `tokenizer.json` and its configuration. Imports no torch.

The format is plain JSON and is written here without that library. What is written encodes and decodes as ours does:
text is not normalised, spaces are kept, and `<|endoftext|>` in a text is thirteen characters like any other.

`char` is a `WordLevel` model over single characters, which refuses an unknown one as ours does. `byte` and the byte
pair encodings are `BPE` models over GPT-2's way of writing bytes as printable characters. tiktoken merges any two
neighbours whose bytes together are a token, that of the lowest rank first. The merges of a token are therefore all its
cuts into two tokens, as in transformers' `TikTokenConverter`; and a piece that is a token as a whole is not merged
(`ignore_merges`). A special token is none of them: those that follow the vocabulary are left out of the model's.
"""

import base64
from pathlib import Path
from typing import Any

from nanogpt import tokenizers
from nanogpt.errors import UserError
from nanogpt.files import why
from nanogpt.tokenizers import Tokenizer, hf
from nanogpt.tokenizers._bpe import END_OF_TEXT
from nanogpt.tokenizers._hf_files import read_content, tokenizer_path
from nanogpt.tokenizers._pieces import oniguruma
from nanogpt.tokenizers._published import byte_characters
from nanogpt.tokenizers.base import completed

GPT2_SIZES = (50_257, 50_304)  # of GPT-2's vocabulary, and rounded up as nanoGPT does

_BYTES = {"type": "ByteLevel", "add_prefix_space": False, "trim_offsets": False, "use_regex": False}


def tokenizer_files(tokenizer: Tokenizer, block_size: int | None) -> dict[str, dict[str, Any]]:
    """Return what belongs into `tokenizer.json` and `tokenizer_config.json`, by file name.

    `block_size`: the model's context in tokens; None if it is not known. Raise `UserError` for a kind of tokenizer that
    has no such form, or that has a special token with the text of another token.
    """
    saved = tokenizer.to_json()
    if "tokenizer" in saved:  # it came from such a file
        return {
            "tokenizer.json": saved["tokenizer"],
            "tokenizer_config.json": _config(saved["end_of_text"], block_size),
        }
    special: dict[str, int] = saved.get("special_tokens", {})
    if "characters" in saved:
        pieces: dict[str, Any] = _split(r"[\s\S]")
        decoder: dict[str, Any] = {"type": "Fuse"}
        model: dict[str, Any] = {"type": "WordLevel", "vocab": vocabulary(tokenizer), "unk_token": ""}
    elif "vocabulary" in saved or tokenizer.name == "byte":
        by_pattern = [_split(oniguruma(saved["pattern"]))] if "pattern" in saved else []
        pieces = {"type": "Sequence", "pretokenizers": [*by_pattern, _BYTES]}
        decoder = _BYTES
        ids = _model_vocabulary(tokenizer, special)
        model = {"type": "BPE", "vocab": ids, "merges": _merges(_ranks(saved)), "ignore_merges": True}
    else:
        raise UserError(f"the tokenizer {tokenizer.name} cannot be written for transformers")
    end = next((token for token, id in special.items() if id == tokenizer.end_of_text), None)
    return {
        "tokenizer.json": {
            "version": "1.0",
            "truncation": None,
            "padding": None,
            "added_tokens": [_special(token, id) for token, id in special.items()],
            "normalizer": None,
            "pre_tokenizer": pieces,
            "post_processor": None,
            "decoder": decoder,
            "model": model,
        },
        "tokenizer_config.json": _config(end, block_size),
    }


def _model_vocabulary(tokenizer: Tokenizer, special: dict[str, int]) -> dict[str, int]:
    """Return the ids of the model in `tokenizer.json`, which makes a piece with the text of one of them that token.

    Special tokens that follow the vocabulary get the same ids without being in it. GPT-2's own one is in it, as in
    GPT-2's files: each pattern cuts its text. Raise `UserError` if a special token has the text of another token.
    """
    ids = vocabulary(tokenizer)
    if same := sorted(ids.keys() & special.keys()):
        raise UserError(
            f"the tokenizer {tokenizer.name} cannot be written for transformers: {same[0]!r} is both a special token "
            "and a token of text"
        )
    are_last = list(special.values()) == list(range(len(ids), len(ids) + len(special)))
    return ids if are_last and special.keys() != {END_OF_TEXT} else ids | special


def _config(end: str | None, block_size: int | None) -> dict[str, Any]:
    """Return `tokenizer_config.json`."""
    return {
        "tokenizer_class": "PreTrainedTokenizerFast",
        **({"model_max_length": block_size} if block_size else {}),
        "clean_up_tokenization_spaces": False,
        "split_special_tokens": True,  # in a text they are ordinary characters
        **({"bos_token": end, "eos_token": end} if end else {}),
    }


def vocabulary(tokenizer: Tokenizer) -> dict[str, int]:
    """Return the ids of the tokens as `tokenizer.json` writes them, special ones left out."""
    saved = tokenizer.to_json()
    if "characters" in saved:
        return {character: id for id, character in enumerate(saved["characters"])}
    if "tokenizer" in saved:
        return _vocabulary_in(saved["tokenizer"])
    if "vocabulary" not in saved and tokenizer.name != "byte":
        return {}  # it has no such form
    return {_written(token): id for token, id in _ranks(saved).items()}


def read_vocabulary(folder: Path) -> dict[str, int] | None:
    """Return the same of the tokenizer in a folder; None where there is none. Raise `UserError`."""
    path = tokenizer_path(folder)
    try:
        return _vocabulary_in(read_content(path))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"cannot read the tokenizer {path}: {why(error)}") from None
    except (KeyError, TypeError, AttributeError):
        raise UserError(
            f"{path} is not a tokenizer of Hugging Face's: it has no model.vocab and added_tokens"
        ) from None


def read_tokenizer(folder: Path, vocab_size: int) -> Tokenizer:
    """Return the tokenizer in a folder: one of our own kinds, if it is that, as data sets have it.

    vocab_size: of the model; without a file it has to be that of GPT-2. Raise `UserError`.
    """
    ids = read_vocabulary(folder)
    if ids is None:
        if vocab_size not in GPT2_SIZES:
            raise UserError(f"{folder} has no tokenizer.json: save its tokenizer into the folder with transformers")
        return tokenizers.create("gpt2")
    kind = tokenizer_kind(ids)
    if kind and tokenizers.available_offline(kind):
        own = tokenizers.create(kind, ["".join(ids)] if kind == "char" else None)
        special = own.to_json().get("special_tokens", {})
        if vocabulary(own) == ids and _added_tokens(folder, vocab_size).items() <= special.items():
            return own
    read = completed(hf.Tokenizer.build(hf.Settings(path=str(folder)), None))
    if len(set(ids.values())) < len(ids):
        raise UserError(f"{tokenizer_path(folder)}: several tokens have the same id; fetch the folder again")
    return read


def _added_tokens(folder: Path, vocab_size: int) -> dict[str, int]:
    """Return the ids of the special and other added tokens in a folder, as far as a model has an embedding for them."""
    added = read_content(tokenizer_path(folder))["added_tokens"]
    return {token["content"]: token["id"] for token in added if token.get("id") in range(vocab_size)}


def _vocabulary_in(content: dict[str, Any]) -> dict[str, int]:
    special = {token["content"] for token in content["added_tokens"]}
    entries = content["model"]["vocab"]
    if isinstance(entries, list):  # of a unigram model: tokens with their scores
        entries = {token: id for id, (token, _) in enumerate(entries)}
    return {token: id for token, id in entries.items() if token not in special}


def tokenizer_kind(ids: dict[str, int]) -> str:
    """Return the name of our tokenizer with these tokens, by their number and length; empty if there is none."""
    known = {256: "byte", 50_256: "gpt2", 50_280: "p50k_base", 100_256: "cl100k_base"}
    return known.get(len(ids)) or ("char" if all(len(token) == 1 for token in ids) else "")


def _merges(ranks: dict[bytes, int]) -> list[tuple[str, str]]:
    """The pairs of tokens that are one token together, that of the lowest rank first."""
    cuts = [
        (id, ranks[token[:at]], ranks[token[at:]], token, at)
        for token, id in ranks.items()
        for at in range(1, len(token))
        if token[:at] in ranks and token[at:] in ranks
    ]
    return [(_written(token[:at]), _written(token[at:])) for *_, token, at in sorted(cuts)]


def _ranks(saved: dict[str, Any]) -> dict[bytes, int]:
    """The ids of the tokens by their bytes, special ones left out."""
    if "vocabulary" not in saved:
        return {bytes([byte]): byte for byte in range(256)}
    taken = set(saved["special_tokens"].values())
    free = (id for id in range(len(saved["vocabulary"]) + len(taken)) if id not in taken)
    return dict(zip(map(base64.b64decode, saved["vocabulary"]), free, strict=False))


def _written(token: bytes) -> str:
    return "".join(map(byte_characters().__getitem__, token))


def _split(pattern: str) -> dict[str, Any]:
    return {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": False}


def _special(token: str, id: int) -> dict[str, Any]:
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    return {"id": id, "content": token, **flags, "special": True}
