"""Byte pair encoding with a given vocabulary, through tiktoken.

Text is always ordinary text: `<|endoftext|>` in it is encoded as thirteen characters, never as the special token.
"""

import base64
import binascii
import threading
from typing import TYPE_CHECKING, Any, Self

from nanogpt.errors import UserError
from nanogpt.tokenizers._pieces import MARK, MARKED_PATTERNS, insert_marks
from nanogpt.tokenizers.base import FORMAT, UNKNOWN, Errors, Tokenizer, token_dtype

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import tiktoken

    from nanogpt.tokenizers.base import TokenArray

END_OF_TEXT = "<|endoftext|>"
BEGIN_OF_TEXT = "<|bos|>"  # nanochat's, before each document
OWN_ENCODING_CHARACTERS = 1_000_000  # encoded by one thread before it gets an encoding of its own
MAX_ID = 2**24  # far above any published vocabulary; bounds the memory that a damaged file can take


class BpeTokenizer(Tokenizer):
    """A byte pair encoding.

    `vocabulary` has the tokens' bytes in the order of their ids, which skip the ids of the special tokens.
    """

    def __init__(self, pattern: str, vocabulary: list[bytes], special_tokens: dict[str, int]) -> None:
        self._pattern, self._vocabulary, self._special_tokens = pattern, vocabulary, special_tokens
        self._encoding = self._new_encoding(pattern)
        self._of_thread = threading.local()
        self.vocab_size = self._encoding.n_vocab
        self.end_of_text = special_tokens.get(END_OF_TEXT, special_tokens.get(BEGIN_OF_TEXT))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        """Return the tokenizer that `to_json` wrote.

        Raise `UserError` unless the vocabulary is distinct tokens, all 256 bytes among them: any text then encodes.
        """
        name = cls.name
        pattern, encoded, special = (data.get(key) for key in ("pattern", "vocabulary", "special_tokens"))
        if not isinstance(pattern, str) or not isinstance(encoded, list):
            raise UserError(f"a {name} tokenizer needs `pattern` (text) and `vocabulary` (a list)")
        try:
            vocabulary = [base64.b64decode(token, validate=True) for token in encoded]
        except (TypeError, ValueError, binascii.Error) as error:
            raise UserError(f"a token of the {name} tokenizer's vocabulary is not base64 text ({error})") from error
        distinct = set(vocabulary)
        if len(distinct) != len(vocabulary) or b"" in distinct or not distinct >= {bytes([b]) for b in range(256)}:
            raise UserError(
                f"the {name} tokenizer's vocabulary is not distinct tokens with all 256 single bytes among them"
            )
        if (
            not isinstance(special, dict)
            or not all(type(id) is int and 0 <= id < MAX_ID for id in special.values())
            or len(set(special.values())) != len(special)
            or "" in special
        ):
            raise UserError(f"the {name} tokenizer's `special_tokens` are not distinct ids from 0 to {MAX_ID - 1}")
        try:
            return cls(pattern, vocabulary, special)
        except ValueError as error:
            raise UserError(f"the {name} tokenizer's pattern is unusable: {str(error)[:120]!r}") from error

    def _new_encoding(self, pattern: str) -> "tiktoken.Encoding":
        import tiktoken

        taken = set(self._special_tokens.values())
        free_ids = (id for id in range(len(self._vocabulary) + len(taken)) if id not in taken)
        return tiktoken.Encoding(
            self.name,
            pat_str=pattern,
            mergeable_ranks=dict(zip(self._vocabulary, free_ids, strict=False)),
            special_tokens=self._special_tokens,
        )

    def _ids(self, text: str) -> "npt.NDArray[np.uint32]":
        """Return the ids, (n,). Other threads run while tiktoken encodes.

        tiktoken's pattern matcher is a third faster in the first thread that uses it than in all others. A thread that
        encodes much text therefore gets an encoding of its own (0.02 s, 20 MB), with a faster pattern if one exists.
        """
        of_thread = self._of_thread
        of_thread.characters = getattr(of_thread, "characters", 0) + len(text)
        ids: npt.NDArray[np.uint32]
        if of_thread.characters <= OWN_ENCODING_CHARACTERS:
            ids = self._encoding.encode_to_numpy(text, disallowed_special=())
        elif self._pattern in MARKED_PATTERNS and (ready := insert_marks(text, self._pattern)) is not None:
            ids = self._own_encoding(MARKED_PATTERNS[self._pattern]).encode_to_numpy(ready, disallowed_special=())
            ids = ids[ids != self._encoding.encode_single_token(MARK)]
        else:
            ids = self._own_encoding(self._pattern).encode_to_numpy(text, disallowed_special=())
        return ids

    def _own_encoding(self, pattern: str) -> "tiktoken.Encoding":
        """Return this thread's encoding with a pattern; create it at the first use."""
        made: dict[str, tiktoken.Encoding] = self._of_thread.__dict__.setdefault("encodings", {})
        if pattern not in made:
            made[pattern] = self._new_encoding(pattern)
        return made[pattern]

    def encode_to_array(self, text: str, errors: Errors = "strict") -> "TokenArray":
        try:
            ids = self._ids(text)
        except UnicodeEncodeError:  # half a surrogate pair, as a terminal or a file name can contain
            return self.encode_to_array(text.encode("utf-16", "surrogatepass").decode("utf-16", "replace"), errors)
        except ValueError:  # the pattern's matcher runs out of stack in a run of some 100,000 blanks
            half = len(text) // 2
            if half == 0:
                raise
            import numpy as np

            return np.concatenate([self.encode_to_array(text[:half]), self.encode_to_array(text[half:])])
        return ids.astype(token_dtype(self.vocab_size))

    def token_bytes(self, id: int) -> bytes:
        try:
            return self._encoding.decode_single_token_bytes(id)
        except (KeyError, OverflowError):
            return UNKNOWN

    def safe_cut(self, text: str) -> int:
        return safe_cut(text)

    @property
    def special_ids(self) -> frozenset[int]:
        return frozenset(self._special_tokens.values())

    def truncated(self, vocab_size: int) -> Self | None:
        tokens = self._vocabulary[: max(0, vocab_size - len(self._special_tokens))]
        if len(tokens) < 256 or any(len(token) > 1 for token in tokens[:256]):
            return None
        special = {token: len(tokens) + number for number, token in enumerate(self._special_tokens)}
        return type(self)(self._pattern, tokens, special)

    def to_json(self) -> dict[str, Any]:
        return {
            "format": FORMAT,
            "name": self.name,
            "pattern": self._pattern,
            "vocabulary": [base64.b64encode(token).decode("ascii") for token in self._vocabulary],
            "special_tokens": self._special_tokens,
        }


def safe_cut(text: str) -> int:
    """Return the last place before a space that follows a non-blank, or else after a line feed between two non-blanks.

    Each pattern here starts a new piece there, and none looks back. `str.isspace` is true for all that \\s matches,
    and more. 0: no such place.
    """
    return _last_cut(text, " ") or _last_cut(text, "\n")


def _last_cut(text: str, blank: str) -> int:
    line_feed = blank == "\n"
    place = text.rfind(blank)
    while place > 0:
        after = text[place + 1 : place + 2]
        # The text after the end is not known; it could start with another blank.
        if not text[place - 1].isspace() and (not line_feed or (after and not after.isspace())):
            return place + line_feed
        place = text.rfind(blank, 0, place)
    return 0
