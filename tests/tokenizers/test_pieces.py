"""Long texts are cut without looking ahead, into the very pieces that the patterns themselves give."""

import sys
from itertools import product

import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st

from nanogpt.tokenizers._pieces import GPT2, GPT4, MARK, MARKED_PATTERNS, insert_marks

BYTES = {bytes([byte]): byte for byte in range(256)}
PAIRS = ["".join(pair) for pair in product(" \n\t\r", repeat=2)] + [" a", "aa", " 1", "11", " .", "..", ".\n", "'s"]


def encoding(pattern: str) -> tiktoken.Encoding:
    """One whose ids show where a text is cut: the pairs above are one token each inside a piece, never across two."""
    pairs = {pair.encode(): 256 + number for number, pair in enumerate(PAIRS)}
    return tiktoken.Encoding("pairs", pat_str=pattern, mergeable_ranks=BYTES | pairs, special_tokens={"<|end|>": 999})


whole = {pattern: encoding(pattern) for pattern in (GPT2, GPT4)}
of_marked = {pattern: encoding(MARKED_PATTERNS[pattern]) for pattern in (GPT2, GPT4)}
both = pytest.mark.parametrize("pattern", [GPT2, GPT4], ids=["GPT-2", "GPT-4"])


def agree(pattern: str, text: str) -> bool:
    ready = insert_marks(text, pattern)
    assert ready is not None
    ids = [id for id in of_marked[pattern].encode_ordinary(ready) if id != BYTES[MARK.encode()]]
    return ids == whole[pattern].encode_ordinary(text)


@both
@settings(max_examples=500)
@given(text=st.text(st.sampled_from(" \n\t\r a1.'sS\u3000\xa0é日🤖\x1c"), max_size=30))
def test_a_marked_text_is_cut_where_the_pattern_cuts_it(pattern: str, text: str) -> None:
    assert agree(pattern, text)


@both
@given(text=st.text(st.characters(exclude_characters=MARK, codec="utf-8")))
def test_any_text_is_cut_where_the_pattern_cuts_it(pattern: str, text: str) -> None:
    assert agree(pattern, text)


@both
def test_every_blank_of_unicode_is_known(pattern: str) -> None:
    for blank in filter(str.isspace, map(chr, range(sys.maxunicode + 1))):
        assert agree(pattern, f"a{blank}{blank}{blank}a {blank}1{blank} .")


@both
def test_marks_stand_before_the_last_of_several_blanks_before_a_word(pattern: str) -> None:
    assert insert_marks("a  b c   ", pattern) == "a \0 b c   "
    assert insert_marks("a \n b\n\nc", pattern) == ("a \n\0 b\n\0\nc" if pattern == GPT2 else "a \n b\n\nc")
    assert insert_marks("the mark \0 itself", pattern) is None
