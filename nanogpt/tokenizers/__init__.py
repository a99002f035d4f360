"""Tokenizers: one module for each kind, found by `nanogpt.registry`.

Each module has a class `Tokenizer`, a subclass of the one in `base.py`. Installed packages add kinds through entry
points of the group `nanogpt.tokenizers`. numpy loads when the first text is encoded, so that listing data sets does not
import it.
"""

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path

from nanogpt.errors import UserError, nearest
from nanogpt.files import read_bytes, why
from nanogpt.registry import Registry
from nanogpt.tokenizers.base import FORMAT, UNKNOWN, Errors, TokenDtype, Tokenizer, token_dtype

__all__ = [
    "FORMAT",
    "UNKNOWN",
    "Errors",
    "TokenDtype",
    "Tokenizer",
    "available_offline",
    "create",
    "fingerprint",
    "from_json",
    "known_vocab_size",
    "load",
    "names",
    "token_dtype",
    "tokenizer_class",
]

REGISTRY = Registry("tokenizer", "nanogpt.tokenizers", "nanogpt.tokenizers", "Tokenizer", frozenset({"base"}))
LARGEST = 1 << 26  # bytes of a saved tokenizer; a vocabulary of all characters takes 14 MB, cl100k_base 2 MB


def names() -> list[str]:
    """Return every kind of tokenizer, sorted. Import none of them."""
    return list(REGISTRY.names())


def create(name: str, text_chunks: Iterable[str] | None = None) -> Tokenizer:
    """Return a tokenizer of the named kind. `char` takes its vocabulary from the text; the other kinds need no text.

    Raise `UserError` for an unknown name, an empty text, and a published vocabulary that is neither on this machine nor
    can be downloaded.
    """
    return tokenizer_class(name).create(text_chunks)


def from_json(data: object) -> Tokenizer:
    """Return the tokenizer that `to_json` wrote. Raise `UserError` for anything else."""
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        raise UserError(f"not a tokenizer: {str(data)[:80]!r} has no name; expected the content of `tokenizer.json`")
    if data.get("format") != FORMAT:
        raise UserError(f"tokenizer format {data.get('format')!r} is not {FORMAT}: written by another version?")
    return tokenizer_class(data["name"]).from_json(data)


def load(path: Path) -> Tokenizer:
    """Return the tokenizer in a file `tokenizer.json`. Raise `UserError` if it cannot be read or is not a tokenizer."""
    try:
        data = json.loads(read_bytes(path, LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read the tokenizer {path}: {why(error)}") from None
    try:
        return from_json(data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def fingerprint(tokenizer: Tokenizer) -> str:
    """Return the SHA-256 of the tokenizer's canonical JSON; equal if two tokenizers encode and decode alike."""
    canonical = json.dumps(tokenizer.to_json(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def available_offline(name: str) -> bool:
    """Return whether `create(name)` works without a network here and now."""
    return tokenizer_class(name).available_offline()


def known_vocab_size(name: str) -> int | None:
    """Return the size that every vocabulary of this kind has; None if it depends on the text."""
    return tokenizer_class(name).known_vocab_size


def tokenizer_class(name: str) -> type[Tokenizer]:
    """Return the class of a kind of tokenizer. Raise `UserError` for an unknown name."""
    if name not in names():
        raise UserError(f"no tokenizer {name!r}; known tokenizers: {', '.join(names())}.{nearest(name, names())}")
    loaded: type[Tokenizer] = REGISTRY.load(name, Tokenizer)
    return loaded
