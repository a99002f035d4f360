"""SentencePiece: its options, what it learns from, and any text back from its tokens."""

import sys
from functools import cache

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt import tokenizers
from nanogpt.errors import UserError
from nanogpt.tokenizers import sentencepiece
from tests.tokenizer_specs import SAMPLE

both = pytest.mark.parametrize("model", ["bpe", "unigram"])


@cache
def trained(spec: str) -> tokenizers.Tokenizer:
    return tokenizers.create(spec, [SAMPLE * 9])


def pieces(tokenizer: tokenizers.Tokenizer) -> set[bytes]:
    return {tokenizer.token_bytes(id) for id in range(tokenizer.vocab_size)}


@both
@given(text=st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("▁ \n\t\r\0to be12"))))
def test_any_text_comes_back(model: str, text: str) -> None:
    tokenizer = trained(f"sentencepiece:400,model={model}")
    assert tokenizer.decode(tokenizer.encode(text)) == text


@both
@given(left=st.text(st.sampled_from("to be\n▁é1"), max_size=20), right=st.text(st.sampled_from("be \n"), max_size=20))
def test_parts_encode_to_the_tokens_of_the_whole(model: str, left: str, right: str) -> None:
    tokenizer, text = trained(f"sentencepiece:400,model={model}"), left + right
    cut = tokenizer.safe_cut(text)
    assert tokenizer.encode(text[:cut]) + tokenizer.encode(text[cut:]) == tokenizer.encode(text)
    assert bool(cut) == ("\n" in text)


@both
def test_the_same_text_gives_the_same_model_however_it_is_divided(model: str, text: str) -> None:
    whole = text[:6000]
    parts = [whole[begin : begin + 17] for begin in range(0, len(whole), 17)]
    spec = f"sentencepiece:380,model={model}"
    assert tokenizers.create(spec, parts).to_json() == tokenizers.create(spec, [whole]).to_json()


def test_the_options_are_those_of_the_library(text: str) -> None:
    numbers = text + " 1234 1234 1234 " * 99
    assert b"1234" not in {piece.strip() for piece in pieces(tokenizers.create("sentencepiece:500", [numbers]))}
    together = tokenizers.create("sentencepiece:500,split_digits=false", [numbers])
    assert b"1234" in {piece.strip() for piece in pieces(together)}
    short = tokenizers.create("sentencepiece:500,max_piece_length=4", [text])
    assert max(len(piece) for piece in pieces(short) - {b"<|endoftext|>"}) <= 4
    rare = [text + "Ω"]  # one character in 40,000
    assert len(tokenizers.create("sentencepiece:400", rare).encode("Ω")) == 1
    assert len(tokenizers.create("sentencepiece:400,character_coverage=0.999", rare).encode("Ω")) == 2  # bytes


def test_without_bytes_an_unknown_character_is_named() -> None:
    tokenizer = trained("sentencepiece:400,byte_fallback=false")
    with pytest.raises(UserError, match=r"'Ω' \(U\+03A9\).*byte_fallback=true"):
        tokenizer.encode("to Ω be")
    assert tokenizer.decode(tokenizer.encode("to Ω be", errors="replace")) == "to \ufffd be"


def test_a_vocabulary_too_small_for_the_characters_says_what_is_needed() -> None:
    with pytest.raises(UserError, match=r"vocab_size=100 is too small .* give at least \d+, or"):
        tokenizers.create("sentencepiece:100", [SAMPLE])


def test_texts_that_nothing_can_be_learnt_from_are_refused() -> None:
    for texts, reason in ((["\n\t\n"], "nothing but"), ([], "empty")):
        with pytest.raises(UserError, match=reason):
            tokenizers.create("sentencepiece:400", texts)


@pytest.mark.parametrize("model", [None, 3, "no base64!", "QUJD", ""])
def test_a_damaged_model_is_refused(model: object) -> None:
    with pytest.raises(UserError, match="sentencepiece"):
        tokenizers.from_json({"format": 1, "name": "sentencepiece", "model": model})


def test_long_lines_are_learned_from_in_parts() -> None:
    assert list(sentencepiece.sentences(["ab\tc\n" + "d" * 2500])) == ["ab", "c", "d" * 1000, "d" * 1000, "d" * 500]


def test_a_text_of_more_lines_than_are_learned_from_is_read_to_its_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentencepiece, "MOST_SENTENCES", 200)
    texts = iter(["a\n" * 150] * 9)
    assert list(sentencepiece.sentences(texts)) == ["a"] * 199
    assert not list(texts)


def test_a_missing_library_is_named_with_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "sentencepiece", None)
    with pytest.raises(UserError, match=r"needs sentencepiece: pip install 'nanogpt-tui\[sentencepiece\]'"):
        tokenizers.create("sentencepiece:400", ["abc"])
