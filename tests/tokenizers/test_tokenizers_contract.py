"""What every registered kind of tokenizer promises."""

import json
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanogpt import tokenizers
from nanogpt.errors import UserError
from nanogpt.tokenizers._bpe import BpeTokenizer
from tests.tokenizer_specs import SAMPLE, SPECS, kind_of, made

every_kind = pytest.mark.parametrize("spec", SPECS)
bpe_specs = [spec for spec in SPECS if issubclass(kind_of(spec), BpeTokenizer)]


def test_the_kinds_are_found_by_looking_and_shared_parts_are_none() -> None:
    assert {"char", "byte", "gpt2", "p50k_base", "cl100k_base", "bpe"} <= set(tokenizers.names())
    assert not [name for name in tokenizers.names() if name.startswith("_")]


@every_kind
def test_text_survives_the_round_trip(spec: str) -> None:
    tokenizer = made(spec)
    assert tokenizer.name == kind_of(spec).name
    assert tokenizer.decode(tokenizer.encode(SAMPLE)) == SAMPLE
    assert tokenizer.encode("") == []
    assert tokenizer.decode([]) == ""


@every_kind
def test_array_and_list_agree_in_the_smallest_format_that_fits(spec: str) -> None:
    tokenizer = made(spec)
    array = tokenizer.encode_to_array(SAMPLE)
    assert array.tolist() == tokenizer.encode(SAMPLE)
    assert array.dtype == np.dtype("uint16" if tokenizer.vocab_size <= 65536 else "uint32")
    assert array.max() < tokenizer.vocab_size


@every_kind
def test_it_is_saved_whole_as_json(spec: str) -> None:
    tokenizer = made(spec)
    again = tokenizers.from_json(json.loads(json.dumps(tokenizer.to_json())))
    assert again.encode(SAMPLE) == tokenizer.encode(SAMPLE)
    assert (again.name, again.vocab_size, again.end_of_text) == (
        tokenizer.name,
        tokenizer.vocab_size,
        tokenizer.end_of_text,
    )
    assert again.to_json() == tokenizer.to_json()
    assert tokenizers.fingerprint(again) == tokenizers.fingerprint(tokenizer)


@every_kind
def test_ids_outside_the_vocabulary_are_harmless(spec: str) -> None:
    tokenizer = made(spec)
    for id in (-1, tokenizer.vocab_size, 50304, 2**31, 2**70):
        if not 0 <= id < tokenizer.vocab_size:
            assert tokenizer.token_bytes(id) in (b"", "\ufffd".encode())
            assert isinstance(tokenizer.decode([id, 0]), str)
    for id in range(max(0, tokenizer.vocab_size - 300), tokenizer.vocab_size):
        assert isinstance(tokenizer.token_bytes(id), bytes)


@every_kind
def test_the_bytes_of_tokens_join_to_the_text(spec: str) -> None:
    tokenizer = made(spec)
    assert b"".join(map(tokenizer.token_bytes, tokenizer.encode(SAMPLE))) == SAMPLE.encode()


@every_kind
def test_the_end_of_text_in_a_text_is_ordinary_text(spec: str) -> None:
    tokenizer = made(spec)
    ids = tokenizer.encode("<|endoftext|>")
    assert tokenizer.end_of_text not in ids
    assert tokenizer.decode(ids) == "<|endoftext|>"


@every_kind
def test_half_a_surrogate_pair_is_replaced_on_request(spec: str) -> None:
    ids = made(spec).encode("a\ud800b", errors="replace")
    text = made(spec).decode(ids)
    assert (text[0], text[-1]) == ("a", "b")
    assert "\ud800" not in text


@every_kind
def test_another_format_is_refused(spec: str) -> None:
    with pytest.raises(UserError, match="format 2"):
        tokenizers.from_json(made(spec).to_json() | {"format": 2})


nasty = st.text(st.sampled_from(list("  \n\n\r\tab1'sS.,!\x0b\x1c\u00a0\u2028\u3000é日")), max_size=40)


@every_kind
@settings(deadline=None, max_examples=100)
@given(left=nasty, right=nasty)
def test_cutting_at_a_safe_place_changes_no_token(spec: str, left: str, right: str) -> None:
    tokenizer, text = made(spec), left + right
    cut, encode = tokenizer.safe_cut(text), partial(tokenizer.encode, errors="replace")
    assert 0 <= cut <= len(text)
    if cut:
        assert encode(text[:cut]) + encode(text[cut:]) == encode(text)
        # A cut in what has been read so far stays right whatever is read after it.
        more = text + right
        assert encode(more[:cut]) + encode(more[cut:]) == encode(more)


@pytest.mark.parametrize("data", [None, [], {}, {"name": 3}, {"name": "chat", "format": 1}, {"name": "../x"}, "char"])
def test_nonsense_is_no_tokenizer(data: object) -> None:
    with pytest.raises(UserError):
        tokenizers.from_json(data)


def test_an_unknown_name_gets_a_suggestion() -> None:
    with pytest.raises(UserError, match="Did you mean gpt2"):
        tokenizers.create("gtp2")
