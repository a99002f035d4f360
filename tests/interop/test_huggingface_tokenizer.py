"""What is written for Hugging Face's `tokenizers` encodes and decodes as our own tokenizers do."""

import json
from functools import cache

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from nanogpt import tokenizers
from nanogpt.errors import UserError
from nanogpt.interop.huggingface_tokenizer import (
    read_tokenizer,
    read_vocabulary,
    tokenizer_files,
    tokenizer_kind,
    vocabulary,
)
from nanogpt.tokenizers import bpe
from nanogpt.tokenizers._pieces import GPT2, GPT4
from tests.lazy import transformers
from tests.tokenizer_specs import SAMPLE, SPECS, kind_of, made

TEXT = SAMPLE
BYTES = [bytes([byte]) for byte in range(256)]

EXPORTABLE = [spec for spec in SPECS if kind_of(spec).name != "sentencepiece"]
every_kind = pytest.mark.parametrize("name", EXPORTABLE)


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """The folder that a kind is written to, once for all tests."""

    @cache
    def write(name):
        folder = tmp_path_factory.mktemp("written")
        for file, content in tokenizer_files(made(name), 64).items():
            (folder / file).write_text(json.dumps(content))
        (folder / "config.json").write_text(json.dumps({"model_type": "gpt2"}))
        return folder

    return write


@pytest.fixture(scope="module")
def theirs(written):
    @cache
    def read(name):
        tokenizer = Tokenizer.from_file(str(written(name) / "tokenizer.json"))
        tokenizer.encode_special_tokens = True  # as tokenizer_config.json has it
        return tokenizer

    return read


@pytest.fixture(scope="module")
def of_transformers(written):
    return cache(lambda name: transformers.AutoTokenizer.from_pretrained(written(name)))


@every_kind
def test_transformers_encode_and_decode_as_we_do(name, of_transformers):
    loaded = of_transformers(name)
    ids = loaded(TEXT)["input_ids"]
    assert ids == made(name).encode(TEXT)
    assert loaded.decode(ids) == loaded.decode(ids, skip_special_tokens=True) == TEXT
    assert loaded.eos_token_id == made(name).end_of_text
    assert loaded.model_max_length == 64


@every_kind
def test_the_end_of_text_is_read_as_such_and_left_out_where_that_is_asked_for(name, of_transformers):
    end = made(name).end_of_text
    if end is None:
        return
    loaded = of_transformers(name)
    assert loaded.decode([end]) == made(name).token_bytes(end).decode()
    assert loaded.decode([end], skip_special_tokens=True) == ""


PIECES = [
    " ",
    "  ",
    "\n",
    "\r\n",
    "\t",
    "\xa0",
    "'LL",
    "isn't",
    "the",
    " light",
    "1234567",
    "½",
    "Ⅷ",
    "日本語",
    "🤖",
    "é",
]
PIECES += [
    "e\u0301",
    "\u200b",
    "...",
    "_",
    "=" * 7,
    " " * 30,
    "<|endoftext|>",
    "ſ",
    "\0",
    "def f(x):\n        return x",
]


@pytest.mark.parametrize(
    "name", [name for name in EXPORTABLE if kind_of(name).name != "char" and "characters" not in name]
)
@settings(max_examples=60, deadline=None)
@given(parts=st.lists(st.one_of(st.sampled_from(PIECES), st.text(max_size=4)), max_size=30))
def test_any_text_gives_the_same_ids(theirs, name, parts):
    text = "".join(parts)
    ids = theirs(name).encode(text).ids
    assert ids == made(name).encode(text)
    assert theirs(name).decode(ids, skip_special_tokens=False) == text


@pytest.mark.parametrize("pattern", [GPT2, GPT4])
def test_a_special_token_is_not_made_from_a_piece_with_its_text(pattern, tmp_path):
    special = {"USER": 257, "<|endoftext|>": 258, "###": 259}
    own = bpe.Tokenizer(pattern, [*BYTES, b"US"], special)
    for file, content in tokenizer_files(own, None).items():
        (tmp_path / file).write_text(json.dumps(content))
    theirs = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    theirs.encode_special_tokens = True
    text = "USER ### <|endoftext|> USERS\n###"
    assert theirs.encode(text).ids == own.encode(text)
    assert {token: theirs.token_to_id(token) for token in special} == special
    assert read_tokenizer(tmp_path, own.vocab_size).encode(text) == own.encode(text)


@pytest.mark.parametrize("token", ["a", "US"])
def test_a_special_token_with_the_text_of_another_token_is_refused(token):
    with pytest.raises(UserError, match=f"'{token}' is both a special token and a token of text"):
        tokenizer_files(bpe.Tokenizer(GPT2, [*BYTES, b"US"], {token: 257}), None)


def test_bytes_that_are_no_text_read_alike(theirs):
    ids = [0xFF, 0x61, 0xE2, 0x82]
    assert theirs("byte").decode(ids) == made("byte").decode(ids)


def test_a_character_that_the_vocabulary_lacks_is_refused_there_too(theirs):
    with pytest.raises(Exception, match="Missing"):
        theirs("char").encode("Ω")


@every_kind
def test_a_vocabulary_that_was_written_is_known_again(name, written):
    assert read_vocabulary(written(name)) == vocabulary(made(name))
    if tokenizers.available_offline(name):
        published = {"hf:characters": "char"}.get(name, "") if name.startswith("hf:") else name
        assert tokenizer_kind(vocabulary(made(name))) == ("" if kind_of(name).needs == "text" else published)


def test_saved_by_transformers_it_is_known_again(tmp_path, of_transformers):
    of_transformers("gpt2").save_pretrained(tmp_path / "again")
    assert read_vocabulary(tmp_path / "again") == vocabulary(made("gpt2"))


def test_a_vocabulary_with_an_id_twice_is_refused(tmp_path):
    files = tokenizer_files(made("char"), 64)
    words = files["tokenizer.json"]["model"]["vocab"]
    words[next(iter(words))] = max(words.values())
    (tmp_path / "tokenizer.json").write_text(json.dumps(files["tokenizer.json"]))
    with pytest.raises(UserError, match=r"tokenizer.json: several tokens have the same id"):
        read_tokenizer(tmp_path, 1000)


def test_tokens_that_were_added_to_a_known_vocabulary_are_read(tmp_path):
    files = tokenizer_files(made("gpt2"), 64)
    added = files["tokenizer.json"]["added_tokens"]
    added.append({**added[0], "id": 50_257, "content": "<|user|>"})
    for name, content in files.items():
        (tmp_path / name).write_text(json.dumps(content))
    assert read_tokenizer(tmp_path, 50_257).name == "gpt2", "the model has no embedding for it"
    read = read_tokenizer(tmp_path, 50_258)
    assert (read.name, read.vocab_size) == ("hf", 50_258)


@pytest.mark.parametrize("size", [50_256, 50_258, 151_936])
def test_a_model_without_a_tokenizer_is_only_taken_for_gpt2_with_its_number_of_tokens(tmp_path, size):
    with pytest.raises(UserError, match=r"has no tokenizer\.json"):
        read_tokenizer(tmp_path, size)
    assert read_tokenizer(tmp_path, 50_304).name == "gpt2"
