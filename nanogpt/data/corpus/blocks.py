"""Blocks of documents, as texts and as tokens: what the processes of a preparation exchange."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from nanogpt.errors import UserError

if TYPE_CHECKING:
    from nanogpt.tokenizers import Tokenizer

BLOCK_BYTES = 1 << 19  # of text; a longer document is a block of its own
HASH_BYTES = 16


@dataclass(frozen=True, slots=True)
class TextBlock:
    """Consecutive documents of a shard: their UTF-8 bytes one after another, and the number of bytes of each.

    `position` is how far the shard's file was read, in bytes.
    """

    sizes: list[int]
    content: bytes
    position: int

    @property
    def documents(self) -> list[bytes]:
        """The documents in UTF-8."""
        ends = accumulate(self.sizes, initial=0)
        return [self.content[start:end] for start, end in pairwise(ends)]

    def to_message(self) -> tuple[dict[str, Any], tuple[bytes, ...]]:
        """Return the block as a message and its buffers."""
        return {"documents": self.sizes, "position": self.position}, (self.content,)

    @classmethod
    def from_message(cls, message: dict[str, Any], buffers: Sequence[bytes]) -> "TextBlock":
        """Return the block that `to_message` described."""
        return cls(message["documents"], buffers[0], message["position"])


@dataclass(frozen=True, slots=True)
class ShardEnd:
    """All documents of a shard were read.

    `skipped` counts by reason those that were left out. The others say how its text was decoded: see
    `nanogpt.data.encodings.Decoder`.
    """

    skipped: dict[str, int]
    codec: str = "utf-8"
    excerpt: str = ""
    detected: bool = False


@dataclass(frozen=True, slots=True)
class TokenBlock:
    """The same documents encoded: all tokens, and for each document some numbers.

    tokens (n,), characters (n,) and utf8_bytes (n,) are its sizes, hashes (n, 2) 128 bits of its text. `position` is
    that of the `TextBlock`.
    """

    ids: NDArray[np.unsignedinteger]
    tokens: NDArray[np.int64]
    characters: NDArray[np.int64]
    utf8_bytes: NDArray[np.int64]
    hashes: NDArray[np.uint64]
    position: int

    def to_message(self) -> tuple[dict[str, Any], tuple[memoryview, ...]]:
        """Return the block as a message and its buffers."""
        arrays = (self.ids, self.tokens, self.characters, self.utf8_bytes, self.hashes)
        return {"dtype": self.ids.dtype.str, "position": self.position}, tuple(each.data.cast("B") for each in arrays)

    @classmethod
    def from_message(cls, message: dict[str, Any], buffers: Sequence[bytes]) -> "TokenBlock":
        """Return the block that `to_message` described."""
        tokens, characters, utf8_bytes = (np.frombuffer(buffer, np.int64) for buffer in buffers[1:4])
        hashes = np.frombuffer(buffers[4], np.uint64).reshape(-1, 2)
        return cls(
            np.frombuffer(buffers[0], message["dtype"]), tokens, characters, utf8_bytes, hashes, message["position"]
        )

    @property
    def documents(self) -> list[NDArray[np.unsignedinteger]]:
        """The tokens of each document, as views."""
        return [self.ids[start:end] for start, end in pairwise([0, *np.cumsum(self.tokens).tolist()])]

    def since(self, start: int) -> "TokenBlock":
        """Return the block without its first `start` documents."""
        return TokenBlock(
            self.ids[int(self.tokens[:start].sum()) :],
            self.tokens[start:],
            self.characters[start:],
            self.utf8_bytes[start:],
            self.hashes[start:],
            self.position,
        )


def encode(block: TextBlock, tokenizer: "Tokenizer") -> TokenBlock:
    """Return the tokens of a block. Raise `UserError` for a character outside the vocabulary."""
    documents = block.documents
    texts = [document.decode() for document in documents]
    try:
        ids = [tokenizer.encode_to_array(text) for text in texts]
    except UserError as error:
        raise UserError(
            f"{error}; or use a tokenizer that encodes any text, such as byte or bpe:4096, or raise tokenizer_bytes"
        ) from error
    return TokenBlock(
        ids=np.concatenate(ids),
        tokens=np.array([len(each) for each in ids], np.int64),
        characters=np.array([len(text) for text in texts], np.int64),
        utf8_bytes=np.array(block.sizes, np.int64),
        hashes=hash_documents(documents),
        position=block.position,
    )


def hash_documents(documents: Sequence[bytes]) -> NDArray[np.uint64]:
    """Return 128 bits of each document, (n, 2)."""
    hashes = b"".join(hashlib.blake2b(document, digest_size=HASH_BYTES).digest() for document in documents)
    return np.frombuffer(hashes, np.uint64).reshape(-1, 2)
