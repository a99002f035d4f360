"""The character tokenizer: nanoGPT's ids, and what it says of characters it does not know."""

import numpy as np
import pytest

from nanogpt import tokenizers
from nanogpt.errors import UserError


def test_ids_are_places_among_the_sorted_characters_of_all_chunks() -> None:
    tokenizer = tokenizers.create("char", ["hello", " wörld"])
    characters = sorted(set("hello wörld"))
    assert tokenizer.vocab_size == len(characters)
    assert tokenizer.encode("wörld hello") == [characters.index(character) for character in "wörld hello"]


def test_ascii_and_other_texts_get_the_same_ids() -> None:
    tokenizer = tokenizers.create("char", [bytes(range(128)).decode() + "é😀"])
    plain = bytes(range(128)).decode()
    assert tokenizer.encode(plain) == tokenizer.encode(plain + "é")[:-1] == list(range(128))


def test_an_unknown_character_is_named_with_what_to_do() -> None:
    tokenizer = tokenizers.create("char", ["abc"])
    with pytest.raises(UserError, match=r"'é' \(U\+00E9\).*3 .*remove it"):
        tokenizer.encode("abécé")
    with pytest.raises(UserError, match=r"'\\x1b' \(U\+001B\)"):
        tokenizer.encode("a\x1b")
    with pytest.raises(UserError, match=r"'d' \(U\+0064\), .* and 4 more"):
        tokenizer.encode("defghijkl")


@pytest.mark.parametrize(("vocabulary", "expected"), [("ab ?", "a?b"), ("ab ", "a b"), ("ab", "aab")])
def test_an_unknown_character_is_replaced_on_request(vocabulary: str, expected: str) -> None:
    tokenizer = tokenizers.create("char", [vocabulary])
    for unknown in ("x", "é", "\U0010ffff"):
        assert tokenizer.decode(tokenizer.encode(f"a{unknown}b", errors="replace")) == expected


def test_a_vocabulary_beyond_uint16_is_kept_in_uint32() -> None:
    many = "".join(chr(code) for code in range(0x20000, 0x20000 + 70000))
    ids = tokenizers.create("char", [many]).encode_to_array(many)
    assert (ids.dtype, ids[-1]) == (np.dtype(np.uint32), 69999)


def test_without_text_there_is_no_vocabulary() -> None:
    for chunks in (None, [], [""]):
        with pytest.raises(UserError, match="text"):
            tokenizers.create("char", chunks)


@pytest.mark.parametrize("characters", ["", "ba", "aa", None, ["a"], 3])
def test_a_damaged_vocabulary_is_refused(characters: object) -> None:
    with pytest.raises(UserError, match="distinct sorted"):
        tokenizers.from_json({"format": 1, "name": "char", "characters": characters})
