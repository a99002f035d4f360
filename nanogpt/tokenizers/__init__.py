"""Text to token ids and back: one protocol, one file a kind, found by looking. Knows nothing of data sets or models.

A new kind is one new module here (its name is the kind's name) with `create(text_chunks) -> Tokenizer` and
`from_json(data) -> Tokenizer`; `available_offline() -> bool` too where making it may need the network.
Modules whose names begin with an underscore are shared parts, not kinds. numpy loads with the first text that is
encoded: a list of data sets does without.
"""

import hashlib
import json
import pkgutil
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, Literal, Protocol

from nanogpt.errors import UserError, nearest
from nanogpt.files import read_bytes, why

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    TokenArray = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]

FORMAT = 1  # of the JSON that a tokenizer is saved as
LARGEST = 1 << 26  # bytes of such a file: a vocabulary of all characters has 14 MB, cl100k_base 2 MB
UNKNOWN = "\N{REPLACEMENT CHARACTER}".encode()  # what an id outside the vocabulary reads as
Errors = Literal["strict", "replace"]
TokenDtype = Literal["uint16", "uint32"]


class Tokenizer(Protocol):
    """`end_of_text` is the id that separates documents, None where the kind has no such token."""

    name: str
    vocab_size: int
    end_of_text: int | None

    def encode_to_array(self, text: str, errors: Errors = "strict") -> "TokenArray":
        """The ids of a text, (n,), uint16 where the vocabulary fits and uint32 otherwise.

        Raises UserError for a character that the vocabulary lacks; with `errors="replace"` a fixed known one stands in.
        """
        ...

    def token_bytes(self, id: int) -> bytes:
        """The UTF-8 bytes of one token, perhaps a part of a character; U+FFFD for an id outside the vocabulary."""
        ...

    def to_json(self) -> dict[str, Any]:
        """The whole tokenizer as plain values, so that loading it needs nothing else."""
        ...

    def encode(self, text: str, errors: Errors = "strict") -> list[int]:
        """`encode_to_array` as a list."""
        ids: list[int] = self.encode_to_array(text, errors).tolist()
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of the ids; bytes that are no UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def safe_cut(self, text: str) -> int:
        """The last place where the text can be cut so that its parts encode to the tokens of the whole; 0: nowhere."""
        return len(text)


def names() -> list[str]:
    """Every kind of tokenizer, sorted. Imports none of them."""
    return sorted(module.name for module in pkgutil.iter_modules(__path__) if not module.name.startswith("_"))


def create(name: str, text_chunks: Iterable[str] | None = None) -> Tokenizer:
    """A tokenizer of the named kind. `char` takes its vocabulary from the text, the other kinds need none.

    Raises UserError for an unknown name, an empty text, and a published vocabulary that is neither here nor reachable.
    """
    made: Tokenizer = _kind(name).create(text_chunks)
    return made


def from_json(data: object) -> Tokenizer:
    """The tokenizer that `to_json` wrote. Raises UserError for anything else."""
    if not isinstance(data, dict) or not isinstance(data.get("name"), str):
        raise UserError(f"not a tokenizer: {str(data)[:80]!r} has no name; expected what `tokenizer.json` holds")
    if data.get("format") != FORMAT:
        raise UserError(f"tokenizer format {data.get('format')!r} is not {FORMAT}: written by another version?")
    loaded: Tokenizer = _kind(data["name"]).from_json(data)
    return loaded


def load(path: Path) -> Tokenizer:
    """The tokenizer in a file `tokenizer.json`. Raises UserError where it cannot be read or is none."""
    try:
        data = json.loads(read_bytes(path, LARGEST))
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"cannot read the tokenizer {path}: {why(error)}") from None
    try:
        return from_json(data)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def fingerprint(tokenizer: Tokenizer) -> str:
    """sha256 of the tokenizer's canonical JSON: equal exactly when two tokenizers encode and decode alike."""
    canonical = json.dumps(tokenizer.to_json(), sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode("ascii")).hexdigest()


def available_offline(name: str) -> bool:
    """Whether `create(name)` works without a network here and now."""
    check = getattr(_kind(name), "available_offline", None)
    return check is None or bool(check())


def token_dtype(vocab_size: int) -> TokenDtype:
    """The smallest format that token ids are kept in."""
    return "uint16" if vocab_size <= 2**16 else "uint32"


def _kind(name: str) -> ModuleType:
    if name not in names():
        raise UserError(f"no tokenizer {name!r}; there are {', '.join(names())}.{nearest(name, names())}")
    return import_module(f"{__name__}.{name}")
