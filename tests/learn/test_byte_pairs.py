"""Byte pairs: the most frequent pair is merged, and every text comes back."""

from hypothesis import given
from hypothesis import strategies as st

from nanogpt.learn.byte_pairs import BytePairs


def trained(text: str, merges: int) -> BytePairs:
    made = BytePairs()
    for _ in made.train(text, merges):
        pass
    return made


def test_the_most_frequent_pair_is_merged_first_of_equals_the_lowest() -> None:
    # pairs in "ab ab abc": ab three times, " a" twice, bc once; then " " + "ab" twice
    made = trained("ab ab abc", 10)
    assert made.tokens[256:] == [b"ab", b" ab"]


def test_no_token_crosses_the_border_of_a_word() -> None:
    made = trained("one, two, one, two, one, two, 12, 12, 12", 200)
    assert b" one" in made.tokens
    assert not [token for token in made.tokens if b"," in token and token.strip(b" ,")]


@given(st.text())
def test_every_text_comes_back(text: str) -> None:
    made = BYTE_PAIRS
    ids = made.encode(text)
    assert b"".join(made.tokens[id] for id in ids).decode() == text
    assert len(ids) <= len(text.encode())


BYTE_PAIRS = trained("the cat and the hat and the bat, über über " * 5, 30)
