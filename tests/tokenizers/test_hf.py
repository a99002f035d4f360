"""Tokenizers from a `tokenizer.json`: what each kind of file gives, where a text can be cut, and unusable files."""

import base64
import json
import struct
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers

from nanogpt import tokenizers
from nanogpt.data import open_dataset, prepare, textfile_recipe
from nanogpt.errors import UserError
from nanogpt.tokenizers import hf

TEXT = "To be, or not to be: that  is the question.\nWhether 'tis nobler in 1600 " * 3


def unigram(**options: Any) -> Any:
    made: Any = Tokenizer(models.Unigram())
    made.pre_tokenizer = pre_tokenizers.Metaspace(**options)
    made.decoder = decoders.Metaspace(**options)
    made.train_from_iterator(
        [TEXT], trainers.UnigramTrainer(vocab_size=60, show_progress=False, special_tokens=["</s>"], unk_token="<unk>")
    )
    return made


def wordpiece() -> Any:
    made: Any = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    made.normalizer = normalizers.Lowercase()
    made.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    made.decoder = decoders.WordPiece(cleanup=False)
    made.train_from_iterator(
        [TEXT], trainers.WordPieceTrainer(vocab_size=80, show_progress=False, special_tokens=["[UNK]", "[SEP]"])
    )
    return made


def without_pieces() -> Any:
    """As Llama's file: the whole text is one word."""
    made: Any = Tokenizer(models.BPE(byte_fallback=True, unk_token="<unk>"))
    made.normalizer = normalizers.Sequence([normalizers.Prepend("▁"), normalizers.Replace(" ", "▁")])
    made.decoder = decoders.Sequence([decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse()])
    bytes_ = [f"<0x{byte:02X}>" for byte in range(256)]
    made.train_from_iterator(
        [TEXT], trainers.BpeTrainer(vocab_size=300, show_progress=False, special_tokens=["<unk>", "</s>", *bytes_])
    )
    return made


def byte_level(**options: Any) -> Any:
    made: Any = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(**options)
    made.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        [TEXT], trainers.BpeTrainer(vocab_size=290, show_progress=False, initial_alphabet=alphabet)
    )
    return made


MAKERS: dict[str, Callable[[], Any]] = {
    "unigram": unigram,
    "unigram without a first space": lambda: unigram(prepend_scheme="never"),
    "wordpiece": wordpiece,
    "without pieces": without_pieces,
    "byte level": lambda: byte_level(add_prefix_space=False),
    "byte level with a first space": lambda: byte_level(add_prefix_space=True),
}


@cache
def library(name: str) -> Any:
    return MAKERS[name]()


@cache
def loaded(name: str) -> tokenizers.Tokenizer:
    return hf.Tokenizer.from_json({"tokenizer": json.loads(library(name).to_str()), "end_of_text": "</s>"})


every_file = pytest.mark.parametrize("name", MAKERS)


def written(folder: Path, content: Any) -> Path:
    path = folder / "tokenizer.json"
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


@every_file
def test_the_ids_and_the_text_are_those_of_the_library(name: str) -> None:
    ours, theirs = loaded(name), library(name)
    ids = ours.encode(TEXT)
    assert ids == theirs.encode(TEXT, add_special_tokens=False).ids
    # A space that the file puts before the first word is part of the text here, and not shown by the library.
    assert ours.decode(ids).removeprefix(" ") == theirs.decode(ids, skip_special_tokens=False).removeprefix(" ")


@every_file
@given(left=st.text(st.sampled_from("tobe '1.\n\tIS"), max_size=12), right=st.text("to be", max_size=9))
def test_parts_encode_to_the_tokens_of_the_whole(name: str, left: str, right: str) -> None:
    def encode(text: str) -> list[int]:
        return loaded(name).encode(text, errors="replace")

    text = left + right
    cut = loaded(name).safe_cut(text)
    assert encode(text[:cut]) + encode(text[cut:]) == encode(text)


def test_where_nothing_is_known_of_the_pieces_there_is_no_cut() -> None:
    assert loaded("without pieces").safe_cut("to be") == 0
    assert loaded("byte level with a first space").safe_cut("to be") == 0
    assert loaded("byte level").safe_cut("to be") == loaded("unigram").safe_cut("to be") == 2


def test_the_bytes_of_all_tokens_take_one_table_of_characters() -> None:
    assert hf._byte_of_character() is hf._byte_of_character()


def test_bytes_that_are_part_of_a_character_are_given_alone() -> None:
    ids = loaded("without pieces").encode("é")
    assert [loaded("without pieces").token_bytes(id) for id in ids] == [b" ", b"\xc3", b"\xa9"]


def test_a_special_token_in_a_text_is_ordinary_text() -> None:
    tokenizer = loaded("without pieces")
    assert tokenizer.end_of_text == 1
    assert 1 not in tokenizer.encode("a</s>b")
    assert tokenizer.token_bytes(1) == b"</s>"


def test_unknown_characters_are_named_or_replaced() -> None:
    with pytest.raises(UserError, match=r"'é' \(U\+00E9\)"):
        loaded("unigram").encode("to bé")
    assert loaded("unigram").decode(loaded("unigram").encode("to bé", errors="replace")).startswith(" to b")


def test_a_model_of_whole_words_names_the_unknown_words() -> None:
    with pytest.raises(UserError, match=r"^unknown word 'bé', 'ü': not in the vocabulary"):
        loaded("wordpiece").encode("to bé or ü not bé")
    for pre_tokenizer, named in ((pre_tokenizers.Whitespace(), "'sat'"), (None, "'the cat'")):
        made: Any = Tokenizer(models.WordLevel({"the": 0, "cat": 1, "?": 2}, unk_token="?"))
        if pre_tokenizer:
            made.pre_tokenizer = pre_tokenizer
        words = hf.Tokenizer.from_json({"tokenizer": json.loads(made.to_str()), "end_of_text": None})
        with pytest.raises(UserError, match=rf"^unknown word {named}: not in the vocabulary"):
            words.encode("the cat sat" if pre_tokenizer else "the cat")


def test_the_end_of_a_text_is_named_by_the_configuration_beside_the_file(tmp_path: Path) -> None:
    content = json.loads(library("without pieces").to_str())
    path = written(tmp_path, content)
    assert tokenizers.create(f"hf:{path}").end_of_text == 1  # by its usual name
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": {"content": "<unk>"}}))
    assert tokenizers.create(f"hf:{tmp_path}").end_of_text == 0
    (tmp_path / "tokenizer_config.json").write_text(json.dumps({"eos_token": ["<unk>"]}))
    assert tokenizers.create(f"hf:{tmp_path}").end_of_text == 1


def test_a_data_set_holds_the_whole_tokenizer(tmp_path: Path) -> None:
    path, story = written(tmp_path, library("byte level").to_str()), tmp_path / "story.txt"
    story.write_text(TEXT * 5)
    list(prepare(textfile_recipe([story], tokenizer=f"hf:{path}")))
    meta = open_dataset("story").meta
    assert meta.tokenizer.startswith(f"hf:{path},sha256=")
    path.unlink()
    dataset = open_dataset("story")
    assert dataset.tokenizer.decode(dataset.split("train")) == (TEXT * 5)[: int(len(TEXT * 5) * 0.9)]


def test_another_file_in_the_same_place_is_another_tokenizer(tmp_path: Path) -> None:
    path = written(tmp_path, library("byte level").to_str())
    before = tokenizers.canonical(f"hf:{path}")
    written(tmp_path, library("unigram").to_str())
    assert tokenizers.canonical(f"hf:{path}") != before
    with pytest.raises(UserError, match="another file than before"):
        tokenizers.create(before)


def test_a_file_of_this_program_gives_the_tokenizer_in_it(tmp_path: Path) -> None:
    saved = tokenizers.create("bpe:300", [TEXT])
    again = tokenizers.create(f"hf:{written(tmp_path, saved.to_json())}")
    assert (again.name, tokenizers.fingerprint(again)) == ("bpe", tokenizers.fingerprint(saved))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "cannot read"),
        ("{", "cannot read"),
        ("[" * 100_000, "nested"),
        ("[]", "hf tokenizer needs"),
        ("{}", "no `model`"),
        ('{"model": 5}', "no `model`"),
        ('{"model": {"type": "BPE"}}', "not a tokenizer.json"),
        ('{"model": {"type": "WordLevel", "vocab": {}, "unk_token": "?"}}', "ids"),
        ('{"added_tokens": [3], "model": {"type": "WordLevel", "vocab": {"a": 0}, "unk_token": "?"}}', "added_tokens"),
        ('{"model": {"type": "WordLevel", "vocab": {"a": 999999999}, "unk_token": "?"}}', "ids"),
        ('{"format": 7, "name": "bpe"}', "another version"),
    ],
)
def test_an_unusable_file_is_refused_in_one_line(tmp_path: Path, content: str, reason: str) -> None:
    path = written(tmp_path, content)
    with pytest.raises(UserError, match=reason) as refused:
        tokenizers.create(f"hf:{path}")
    assert str(refused.value).isprintable()


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="cannot read the tokenizer /no/such"):
        tokenizers.canonical("hf:/no/such/tokenizer.json")
    (tmp_path / "vocab.json").write_text('{"a": 0}')
    with pytest.raises(UserError, match=r"cannot read the tokenizer .*/merges\.txt: No such file"):
        tokenizers.canonical(f"hf:{tmp_path}")
    with pytest.raises(UserError, match="hf:/path"):
        tokenizers.parse_spec("hf")


@pytest.mark.parametrize("errors", ["strict", "replace"])
def test_a_file_on_which_the_library_panics_is_refused_in_one_line(errors: Any) -> None:
    content = json.loads(byte_level().to_str())
    content["pre_tokenizer"] = {"type": "FixedLength", "length": 0}
    made = tokenizers.from_json({"format": 1, "name": "hf", "tokenizer": content, "end_of_text": None})
    with pytest.raises(UserError, match=r"^the tokenizer\.json cannot encode this text \([^\n]+\): use another$"):
        made.encode_to_array("a text", errors=errors)


def charsmap(units: dict[int, int], texts: bytes = b"a\0", size: int = 4 * 256) -> str:
    """Return the table of a `Precompiled` normalizer: a trie of 256 units, the others 0, and the replacing texts."""
    trie = struct.pack("<256I", *(units.get(place, 0) for place in range(256)))
    return base64.b64encode(struct.pack("<I", size) + trie + texts).decode()


# "A" becomes "a": the root leads to 1; 1 ^ "A" is unit 0x40, which has a value and leads to 0x40 ^ 0x42 = 2
A_TO_A = {0: 1 << 10, 1 ^ 0x41: 0x42 << 10 | 0x100 | 0x41, 2: 1 << 31}


def with_charsmap(table: object) -> dict[str, Any]:
    content = json.loads(unigram().to_str())
    step = {"type": "Precompiled", "precompiled_charsmap": table}
    content["normalizer"] = {"type": "Sequence", "normalizers": [step]}
    return {"format": 1, "name": "hf", "tokenizer": content, "end_of_text": None}


def test_a_table_of_a_normalizer_is_used() -> None:
    made = tokenizers.from_json(with_charsmap(charsmap(A_TO_A)))
    assert made.encode_to_array("A").tolist() == made.encode_to_array("a").tolist()


@pytest.mark.parametrize(
    "table",
    [
        None,
        "A",
        "",
        charsmap(A_TO_A)[:400],
        charsmap(A_TO_A, size=0),
        charsmap(A_TO_A, size=4 * 512),
        charsmap({0: 300 << 10}),  # "A" leads out of the trie
        charsmap(A_TO_A | {1 ^ 0x41: 300 << 10 | 0x100 | 0x41}),  # and here its value is outside
        charsmap(A_TO_A | {2: 1 << 31 | 3}),  # the replacement begins after the texts
        charsmap(A_TO_A | {2: 1 << 31 | 1}, "é\0".encode()),  # or inside a character
        charsmap(A_TO_A, b"\xff\0"),
    ],
)
def test_a_damaged_table_of_a_normalizer_is_refused_in_one_line_and_nothing_is_printed(
    table: object, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(UserError, match=r"^the table of its normalizer Precompiled is damaged \([^\n]+\): [^\n]*$"):
        tokenizers.from_json(with_charsmap(table)).encode_to_array("A")
    assert capfd.readouterr() == ("", "")  # the library's panic would be on the terminal


@pytest.mark.parametrize("by_bytes", [True, False])
def test_a_character_that_the_library_would_leave_out_is_refused(by_bytes: bool) -> None:
    made: Any = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False) if by_bytes else pre_tokenizers.Whitespace()
    made.train_from_iterator(["abc abd ac"], trainers.BpeTrainer(vocab_size=20, show_progress=False))
    content = json.loads(made.to_str())
    tokenizer = tokenizers.from_json({"format": 1, "name": "hf", "tokenizer": content, "end_of_text": None})
    assert tokenizer.encode("abc ad") == made.encode("abc ad").ids
    for unknown in ("é", "z"):
        with pytest.raises(UserError, match=rf"unknown character '{unknown}' \(U\+00"):
            tokenizer.encode(f"ab{unknown}c")
    assert tokenizer.encode("abzc", "replace") == made.encode("abzc").ids
