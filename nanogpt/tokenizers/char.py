"""One token for each character: the sorted distinct characters of a text."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

from nanogpt.errors import UserError
from nanogpt.tokenizers import base
from nanogpt.tokenizers.base import FORMAT, UNKNOWN, Errors, token_dtype

if TYPE_CHECKING:
    from nanogpt.tokenizers.base import TokenArray

NO_BYTE = 255  # above the id of every ASCII character, so it can mark unknown ones


class Tokenizer(base.Tokenizer):
    """The ids are positions in `characters`, which is strictly sorted, so that ASCII characters have ids below 128."""

    name = "char"
    needs = "characters"
    one_per_character = True
    end_of_text = None

    def __init__(self, characters: str) -> None:
        import numpy as np

        self.characters = characters
        self.vocab_size = len(characters)
        codes = np.array([ord(character) for character in characters], np.uint32)  # (vocab_size,)
        self._missing = len(characters)  # an id after the last one, only in the look-up table
        self._table = np.full(int(codes[-1]) + 2, self._missing, token_dtype(self._missing + 1))  # code point → id
        self._table[codes] = np.arange(len(characters))
        ascii_ids = dict(zip(characters, range(128), strict=False))
        self._ascii_table = bytes(ascii_ids.get(chr(code), NO_BYTE) for code in range(256))

    @classmethod
    def create(cls, text_chunks: Iterable[str] | None) -> Self:
        """Return the tokenizer of all characters in the text. Raise `UserError` if it has none."""
        characters: set[str] = set()
        for chunk in text_chunks or ():
            characters.update(chunk)
        if not characters:
            raise UserError("the char tokenizer takes its vocabulary from a text, and the text is missing or empty")
        return cls("".join(sorted(characters)))

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Self:
        characters = data.get("characters")
        if not isinstance(characters, str) or not characters or characters != "".join(sorted(set(characters))):
            raise UserError("a char tokenizer needs `characters`, a text of distinct sorted characters")
        return cls(characters)

    def encode_to_array(self, text: str, errors: Errors = "strict") -> "TokenArray":
        import numpy as np

        dtype = token_dtype(self.vocab_size)
        if text.isascii():  # byte → id by a table look-up in C, about ten times faster than the general case
            ids = text.encode("ascii").translate(self._ascii_table)
            if bytes([NO_BYTE]) not in ids:
                return np.frombuffer(ids, np.uint8).astype(dtype)
        codes = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), "<u4")  # (n,)
        found = self._table.take(codes, mode="clip")  # (n,); past the table's end its last id, `_missing`
        unknown = found == self._missing
        if unknown.any():
            if errors == "strict":
                raise UserError(self._unknown_characters(sorted(set(codes[unknown].tolist()))))
            found[unknown] = self._table[ord(self._substitute())]
        encoded: TokenArray = found.astype(dtype, copy=False)
        return encoded

    def token_bytes(self, id: int) -> bytes:
        return self.characters[id].encode("utf-8", "replace") if 0 <= id < self.vocab_size else UNKNOWN

    def to_json(self) -> dict[str, Any]:
        return {"format": FORMAT, "name": self.name, "characters": self.characters}

    def _substitute(self) -> str:
        return next((character for character in "? " if character in self.characters), self.characters[0])

    def _unknown_characters(self, codes: list[int]) -> str:
        shown = ", ".join(f"{chr(code)!r} (U+{code:04X})" for code in codes[:5])
        more = f" and {len(codes) - 5} more" if len(codes) > 5 else ""
        return (
            f"unknown character {shown}{more}: not among the {self.vocab_size} characters of this tokenizer; remove it"
        )
