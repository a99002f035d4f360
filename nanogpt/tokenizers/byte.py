"""One token a byte of UTF-8: 256 ids for any text at all. Knows nothing of characters."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from nanogpt.tokenizers import FORMAT, UNKNOWN, Errors, Tokenizer

if TYPE_CHECKING:
    from nanogpt.tokenizers import TokenArray


class ByteTokenizer(Tokenizer):
    name = "byte"
    vocab_size = 256
    end_of_text = None

    def encode_to_array(self, text: str, errors: Errors = "strict") -> "TokenArray":
        import numpy as np

        return np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.uint16)

    def token_bytes(self, id: int) -> bytes:
        return bytes([id]) if 0 <= id < 256 else UNKNOWN

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "name": self.name}


def create(text_chunks: Iterable[str] | None) -> ByteTokenizer:
    return ByteTokenizer()


def from_json(data: dict[str, Any]) -> ByteTokenizer:
    return ByteTokenizer()
