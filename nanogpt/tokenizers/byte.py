"""One token for each byte of UTF-8: 256 ids encode any text."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

from nanogpt.tokenizers import base
from nanogpt.tokenizers.base import FORMAT, UNKNOWN, Errors

if TYPE_CHECKING:
    from nanogpt.tokenizers.base import TokenArray


class Tokenizer(base.Tokenizer):
    """The ids are the bytes."""

    name = "byte"
    known_vocab_size = 256
    vocab_size = 256
    end_of_text = None

    @classmethod
    def create(cls, text_chunks: Iterable[str] | None) -> Self:
        return cls()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls()

    def encode_to_array(self, text: str, errors: Errors = "strict") -> "TokenArray":
        import numpy as np

        return np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.uint16)

    def token_bytes(self, id: int) -> bytes:
        return bytes([id]) if 0 <= id < 256 else UNKNOWN

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "name": self.name}
