"""The base class of all tokenizers, which convert text to token ids and back."""

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, ClassVar, Literal, Self

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    TokenArray = npt.NDArray[np.uint16] | npt.NDArray[np.uint32]

FORMAT = 1  # of a saved tokenizer's JSON
UNKNOWN = "\N{REPLACEMENT CHARACTER}".encode()  # the text of an id outside the vocabulary
Errors = Literal["strict", "replace"]
TokenDtype = Literal["uint16", "uint32"]


class Tokenizer(ABC):
    """A tokenizer. A subclass is one kind; `name` is the kind's.

    `known_vocab_size` is the size of every vocabulary of this kind; None if it depends on the text. `end_of_text` is
    the id that separates documents; None if the kind has no such token.
    """

    name: ClassVar[str]
    known_vocab_size: ClassVar[int | None] = None

    vocab_size: int
    end_of_text: int | None

    @classmethod
    @abstractmethod
    def create(cls, text_chunks: Iterable[str] | None) -> Self:
        """Return a tokenizer of this kind for a text.

        Raise `UserError` if it needs a text that is missing or empty, or a network that cannot be reached.
        """

    @classmethod
    @abstractmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the tokenizer that `to_json` wrote. Raise `UserError` for anything else."""

    @classmethod
    def available_offline(cls) -> bool:
        """Return whether `create` works without a network here and now."""
        return True

    @abstractmethod
    def encode_to_array(self, text: str, errors: Errors = "strict") -> "TokenArray":
        """Return the ids of a text, (n,), uint16 if the vocabulary fits and uint32 otherwise.

        Raise `UserError` for a character outside the vocabulary; `errors="replace"` replaces it by a known one.
        """

    @abstractmethod
    def token_bytes(self, id: int) -> bytes:
        """Return the UTF-8 bytes of one token, which may be part of a character; for an unknown id those of U+FFFD."""

    @abstractmethod
    def to_json(self) -> dict[str, Any]:
        """Return the whole tokenizer as plain values, so that loading it needs nothing else."""

    def encode(self, text: str, errors: Errors = "strict") -> list[int]:
        """Return `encode_to_array` as a list."""
        ids: list[int] = self.encode_to_array(text, errors).tolist()
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """Return the text of the ids; bytes that are not UTF-8 become U+FFFD."""
        return b"".join(map(self.token_bytes, ids)).decode("utf-8", "replace")

    def safe_cut(self, text: str) -> int:
        """Return the last position where the text can be cut so that its parts encode to the tokens of the whole.

        0: it cannot be cut.
        """
        return len(text)


def token_dtype(vocab_size: int) -> TokenDtype:
    """Return the smallest type in which token ids are stored."""
    return "uint16" if vocab_size <= 2**16 else "uint32"
