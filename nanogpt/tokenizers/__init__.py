"""Tokenizers: one module for each kind, found by `nanogpt.registry`.

Each module has a class `Tokenizer`, a subclass of the one in `base.py`. Installed packages add kinds through entry
points of the group `nanogpt.tokenizers`. A kind with its settings is written as a spec, such as `bpe:4096` (see
`_spec.py`). numpy loads when the first text is encoded, so that listing data sets does not import it.
"""

import hashlib
import json
from collections.abc import Generator, Iterable
from contextlib import closing, suppress
from dataclasses import replace
from pathlib import Path

from nanogpt.errors import UserError, nearest
from nanogpt.events import TokenizerTraining
from nanogpt.files import read_bytes, why
from nanogpt.registry import Registry
from nanogpt.tokenizers import _spec
from nanogpt.tokenizers._spec import TokenizerSpec
from nanogpt.tokenizers.base import FORMAT, UNKNOWN, Errors, TokenDtype, Tokenizer, completed, token_dtype

__all__ = [
    "FORMAT",
    "UNKNOWN",
    "Errors",
    "TokenDtype",
    "Tokenizer",
    "TokenizerSpec",
    "available_offline",
    "build",
    "canonical",
    "create",
    "fingerprint",
    "from_json",
    "known_vocab_size",
    "load",
    "loadable_names",
    "names",
    "names_without_argument",
    "parse_spec",
    "token_dtype",
    "tokenizer_class",
]

REGISTRY = Registry("tokenizer", "nanogpt.tokenizers", "nanogpt.tokenizers", "Tokenizer", frozenset({"base"}))
LARGEST = 1 << 26  # bytes of a saved tokenizer; a vocabulary of all characters takes 14 MB, cl100k_base 2 MB


def names() -> list[str]:
    """Return every kind of tokenizer, sorted. Import none of them."""
    return list(REGISTRY.names())


def loadable_names() -> list[str]:
    """Return every kind, sorted, without those of installed packages that are broken."""
    return list(REGISTRY.load_all(Tokenizer))


def names_without_argument() -> list[str]:
    """Return every kind whose name alone is a spec, sorted."""
    found = []
    for name in names():
        with suppress(UserError):
            parse_spec(name)
            found.append(name)
    return found


def parse_spec(spec: str) -> TokenizerSpec:
    """Return the kind and settings of a spec, `KIND[:ARGUMENT][,key=value]`.

    Raise `SettingError` for an unknown kind or setting and an unusable value.
    """
    return _spec.parse(spec, tokenizer_class)


def canonical(spec: str) -> str:
    """Return the one text that identifies the tokenizer of a spec; equal texts mean equal kind and settings.

    Raise `UserError` as `parse_spec` does, and if the spec names a file that cannot be read.
    """
    parsed = parse_spec(spec)
    return str(TokenizerSpec(parsed.kind, parsed.settings.resolved()))


def build(
    spec: str, text_chunks: Iterable[str] | None = None, total_bytes: int = 0
) -> Generator[TokenizerTraining, None, Tokenizer]:
    """Yield the progress of a training and return the tokenizer of a spec. Closing the iterator cancels.

    `text_chunks` is what the kind `needs`: nothing, each distinct character once, or the text of the training split, as
    consecutive parts of one text. `total_bytes`: about its size in UTF-8, for the events; 0 if it is not known. Raise
    `UserError` for an unusable spec, an empty text, and a published vocabulary that is neither on this machine nor can
    be downloaded.
    """
    parsed = parse_spec(spec)
    settings = parsed.settings.resolved()
    if (saved := parsed.kind.saved(settings)) is not None:
        return from_json(saved)
    with closing(parsed.kind.build(settings, text_chunks)) as training:
        while True:
            try:
                event = next(training)
            except StopIteration as end:
                made: Tokenizer = end.value
                return made
            done = min(event.done_bytes, total_bytes or event.done_bytes)
            yield replace(event, done_bytes=done, total_bytes=total_bytes or event.total_bytes)


def create(spec: str, text_chunks: Iterable[str] | None = None) -> Tokenizer:
    """Return the tokenizer that `build` returns."""
    return completed(build(spec, text_chunks))


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


def available_offline(spec: str) -> bool:
    """Return whether `create(spec)` works without a network here and now."""
    return parse_spec(spec).kind.available_offline()


def known_vocab_size(spec: str) -> int | None:
    """Return the size of the vocabulary that a spec gives; None if it depends on the text."""
    return parse_spec(spec).vocab_size


def tokenizer_class(name: str) -> type[Tokenizer]:
    """Return the class of a kind of tokenizer. Raise `UserError` for an unknown name."""
    if name not in names():
        raise UserError(f"no tokenizer {name[:80]!r}; known tokenizers: {', '.join(names())}.{nearest(name, names())}")
    loaded: type[Tokenizer] = REGISTRY.load(name, Tokenizer)
    return loaded
