"""Two tokens a byte: its upper and its lower four bits."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

from nanogpt.tokenizers import base
from nanogpt.tokenizers.base import FORMAT, Errors

if TYPE_CHECKING:
    from nanogpt.tokenizers.base import TokenArray


class Tokenizer(base.Tokenizer):
    """A token is a half of a byte; it is shown as its hexadecimal digit."""

    name = "nibble"
    known_vocab_size = 16
    vocab_size = 16
    end_of_text = None

    @classmethod
    def create(cls, text_chunks: Iterable[str] | None) -> Self:
        return cls()

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        return cls()

    def encode_to_array(self, text: str, errors: Errors = "strict") -> "TokenArray":
        import numpy as np

        octets = np.frombuffer(text.encode("utf-8", "replace"), np.uint8)
        return np.stack([octets >> 4, octets & 15], 1).reshape(-1).astype(np.uint16)

    def token_bytes(self, id: int) -> bytes:
        return b"%x" % id

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "name": self.name}
