"""Data sets of token files that nanoGPT, llm.c or modded-nanogpt wrote.

The files are made here from the formats' documentation; `benchmarks/token_files.py` has the programs write them.
"""

import errno
import os
import pickle
import struct
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nanogpt.data import delete_dataset, open_dataset
from nanogpt.data.nanogpt_meta import read_characters
from nanogpt.data.ready_tokens import prepare_tokens
from nanogpt.data.text_size import known_text_size
from nanogpt.errors import UserError
from nanogpt.events import Encoding, Event, Notice, Prepared
from nanogpt.loss_units import TextSize
from tests.data.test_token_files import llm_c_bytes

LETTERS = "\n abcdé"


def prepared(*args: Any, **options: Any) -> tuple[Prepared, list[Event]]:
    *events, last = prepare_tokens(*args, **options)
    assert isinstance(last, Prepared)
    return last, events


def said(events: list[Event]) -> list[str]:
    return [event.text for event in events if isinstance(event, Notice)]


def characters_pickled(letters: str) -> bytes:
    """Return nanoGPT's meta.pkl, as its prepare.py dumps it."""
    stoi, itos = {ch: i for i, ch in enumerate(letters)}, dict(enumerate(letters))
    return pickle.dumps({"vocab_size": len(letters), "itos": itos, "stoi": stoi})


@pytest.fixture
def nanogpt_folder(tmp_path: Path) -> Path:
    folder = tmp_path / "shakespeare_char"
    folder.mkdir()
    (folder / "train.bin").write_bytes(struct.pack("<6H", 2, 3, 4, 1, 6, 0))
    (folder / "val.bin").write_bytes(struct.pack("<3H", 5, 2, 6))
    (folder / "meta.pkl").write_bytes(characters_pickled(LETTERS))
    (folder / "prepare.py").write_text("")
    return folder


@pytest.fixture
def llm_c_folder(tmp_path: Path) -> Path:
    """Three shards for training and one for validation of ids of the tokenizer `byte`."""
    folder = tmp_path / "fineweb10B"
    folder.mkdir()
    (folder / "fineweb_val_000000.bin").write_bytes(llm_c_bytes([0, 97, 98], "uint16"))
    for number in (1, 2, 10):
        ids = [0, 100 + number, 100 + number]
        (folder / f"fineweb_train_{number:06}.bin").write_bytes(llm_c_bytes(ids, "uint16"))
    return folder


def test_nanogpts_files_and_characters_are_a_data_set(nanogpt_folder: Path) -> None:
    done, _ = prepared([nanogpt_folder])
    assert (done.name, done.tokenizer, done.tokens) == ("shakespeare_char", "char", {"train": 6, "val": 3})
    dataset = open_dataset("shakespeare_char", verify=True)
    assert dataset.tokenizer.decode(dataset.split("train")) == "abc é\n"
    assert dataset.tokenizer.decode(dataset.split("val")) == "daé"
    assert dataset.meta.split_characters == {"train": 6, "val": 3}
    assert dataset.meta.split_bytes == {"train": 7, "val": 4}  # é has two
    for name in ("train.bin", "val.bin"):
        assert (dataset.path / name).samefile(nanogpt_folder / name)


def test_shards_are_a_data_set_in_the_order_of_their_numbers(llm_c_folder: Path) -> None:
    done, _ = prepared([llm_c_folder], tokenizer="byte")
    dataset = open_dataset("fineweb10B", verify=True)
    assert done.tokens == dataset.meta.tokens == {"train": 9, "val": 3}
    assert list(dataset.split("train")) == [0, 101, 101, 0, 102, 102, 0, 110, 110]
    assert list(dataset.split("val")) == [0, 97, 98]
    assert (dataset.path / "train-00002.bin").samefile(llm_c_folder / "fineweb_train_000010.bin")
    assert (dataset.meta.val_ratio, dataset.meta.source["kind"]) == (0.25, "tokens")


def test_end_of_text_tokens_are_no_text(tmp_path: Path) -> None:
    end, text = 50256, [15496, 995]  # <|endoftext|>, "Hello world"
    (tmp_path / "train.bin").write_bytes(struct.pack("<4H", end, *text, end))
    (tmp_path / "val.bin").write_bytes(struct.pack("<3H", end, *text))
    prepared([tmp_path], tokenizer="gpt2", output="hello")
    dataset = open_dataset("hello")
    assert dataset.meta.split_characters == dataset.meta.split_bytes == {"train": 11, "val": 11}
    assert known_text_size(replace(dataset, meta=replace(dataset.meta, split_bytes={})), "val") == TextSize(3, 11, 11)

    (tmp_path / "val.bin").write_bytes(struct.pack("<H", end))
    with pytest.raises(UserError, match="the val split has no text"):
        prepared([tmp_path], tokenizer="gpt2", output="silent")


def test_a_larger_vocabulary_has_ids_of_four_bytes(tmp_path: Path) -> None:
    for split in ("train", "val"):
        (tmp_path / f"tiny_{split}.bin").write_bytes(llm_c_bytes([1, 2, 3], "uint32"))
    prepared([tmp_path / "tiny_train.bin", tmp_path / "tiny_val.bin"], tokenizer="byte", output="tiny")
    dataset = open_dataset("tiny", verify=True)
    assert (dataset.meta.dtype, list(dataset.split("train"))) == ("uint32", [1, 2, 3])


def test_files_on_another_disk_are_copied_with_progress(llm_c_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def other_disk(source: Path, target: Path) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(os, "link", other_disk)
    _, events = prepared([llm_c_folder], tokenizer="byte")
    assert [event.done_bytes for event in events if isinstance(event, Encoding) and event.phase == "encode"] == [
        1030
    ] * 4
    dataset = open_dataset("fineweb10B", verify=True)
    copy = dataset.path / "train-00000.bin"
    assert not copy.samefile(llm_c_folder / "fineweb_train_000001.bin")
    assert copy.stat().st_mtime_ns == dataset.meta.shards["train"][0].modified_ns  # so that it is not read again


def test_a_link_to_a_file_stands_for_the_file(llm_c_folder: Path, tmp_path: Path) -> None:
    for name in ("fineweb_train_000001.bin", "fineweb_val_000000.bin"):
        (tmp_path / name).symlink_to(llm_c_folder / name)
    prepared([tmp_path], tokenizer="byte", output="linked")
    copy = open_dataset("linked", verify=True).path / "train-00000.bin"
    assert not copy.is_symlink()
    assert copy.samefile(llm_c_folder / "fineweb_train_000001.bin")


def test_the_same_files_are_prepared_once_and_others_are_refused(llm_c_folder: Path) -> None:
    prepared([llm_c_folder], tokenizer="byte")
    _, events = prepared([llm_c_folder], tokenizer="byte")
    assert said(events) == ["data set fineweb10B is already prepared from these files"]
    (llm_c_folder / "fineweb_train_000010.bin").unlink()
    with pytest.raises(UserError, match="data set fineweb10B exists and has other tokens; choose another name"):
        prepared([llm_c_folder], tokenizer="byte")
    done, _ = prepared([llm_c_folder], tokenizer="byte", force=True)
    assert done.tokens["train"] == 6


def test_deleting_the_data_set_leaves_the_files(llm_c_folder: Path) -> None:
    before = {path.name: path.read_bytes() for path in llm_c_folder.iterdir()}
    prepared([llm_c_folder], tokenizer="byte")
    delete_dataset("fineweb10B")
    assert {path.name: path.read_bytes() for path in llm_c_folder.iterdir()} == before


def test_files_of_no_split_are_skipped_and_named(llm_c_folder: Path) -> None:
    (llm_c_folder / "hellaswag.bin").write_bytes(b"1")
    _, events = prepared([llm_c_folder], tokenizer="byte")
    assert said(events) == ["skipped hellaswag.bin: the name has neither train nor val"]


def test_tokens_that_change_afterwards_are_found(llm_c_folder: Path) -> None:
    prepared([llm_c_folder], tokenizer="byte")
    path = llm_c_folder / "fineweb_train_000002.bin"
    before = path.stat().st_mtime_ns
    with path.open("r+b") as file:  # in place: the data set has the same file
        file.seek(1024)
        file.write(struct.pack("<H", 999))
    os.utime(path, ns=(before, before + 1))
    with pytest.raises(UserError, match=r"train-00001\.bin has the token id 999"):
        open_dataset("fineweb10B").check_ids("train")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        (
            "fineweb_train_000002.bin",
            llm_c_bytes([0, 97], "uint16")[:-1],
            "it has 1,027 bytes, and with the 2 tokens",
        ),
        ("fineweb_train_000002.bin", llm_c_bytes([], "uint16"), "with the 0 tokens"),
        ("fineweb_train_000002.bin", llm_c_bytes([300], "uint16"), r"has the id 300 at token 0, but the last of byte"),
        ("fineweb_train_000002.bin", llm_c_bytes([1], "uint32"), "ids of type uint16 and .* of type uint32"),
        ("fineweb_train_000002.bin", b"", "has 0 bytes, which are not ids"),
        ("fineweb_train_000002.bin", b"abc", "has 3 bytes, which are not ids of 2 bytes"),
        ("fineweb_train_000002.bin", b"ab", "has no header, so it has to be the only file of the train split"),
        (
            "hellaswag_val.bin",  # llm.c's multiple-choice questions
            struct.pack("<256i", 20240522, 1, 3, *[0] * 253) + b"abcd",
            r"not of token ids: its magic and version are \(20240522, 1\)",
        ),
        ("fineweb_train_000002.bin", struct.pack("<256i", 20240520, 2, *[0] * 254), "magic and version"),
    ],
)
def test_a_file_that_cannot_be_is_refused_in_one_line(
    llm_c_folder: Path, name: str, content: bytes, complaint: str
) -> None:
    (llm_c_folder / name).unlink(missing_ok=True)
    (llm_c_folder / name).write_bytes(content)
    with pytest.raises(UserError, match=complaint) as caught:
        prepared([llm_c_folder], tokenizer="byte")
    assert "\n" not in str(caught.value)
    assert name in str(caught.value)


@pytest.mark.parametrize(
    ("change", "options", "complaint"),
    [
        (lambda folder: None, {}, "say which tokenizer made the ids of .*--tokenizer=gpt2"),
        (lambda folder: None, {"tokenizer": "char"}, "the tokenizer char is made from a text"),
        (
            lambda folder: (folder / "fineweb_val_000000.bin").unlink(),
            {"tokenizer": "byte"},
            "no file for the val split",
        ),
        (lambda folder: [path.unlink() for path in folder.iterdir()], {"tokenizer": "byte"}, "has no token files"),
    ],
)
def test_what_is_missing_is_said_in_one_line(
    llm_c_folder: Path, change: Callable[[Path], object], options: dict[str, str], complaint: str
) -> None:
    change(llm_c_folder)
    with pytest.raises(UserError, match=complaint) as caught:
        prepared([llm_c_folder], **options)
    assert "\n" not in str(caught.value)


def test_named_files_have_to_exist_and_say_their_split(llm_c_folder: Path) -> None:
    with pytest.raises(UserError, match="no token files given"):
        prepared([])
    with pytest.raises(UserError, match=r"missing\.bin does not exist"):
        prepared([llm_c_folder / "missing.bin"])
    (llm_c_folder / "tokens.bin").write_bytes(b"ab")
    with pytest.raises(UserError, match=r"the name of .*tokens\.bin does not say which split it is"):
        prepared([llm_c_folder / "tokens.bin"])


class Opened:
    """Unpickling it would write a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_a_pickle_that_would_run_code_is_refused_and_does_not_run(tmp_path: Path) -> None:
    path = tmp_path / "meta.pkl"
    path.write_bytes(pickle.dumps({"itos": {0: "a"}, "more": Opened(tmp_path / "ran")}))
    with pytest.raises(UserError, match=r"meta\.pkl does not have the characters .*: it asks for (posix|nt)\.mkdir"):
        read_characters(path)
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize("protocol", [3, 4, 5])
def test_the_characters_are_read_from_any_version_of_a_pickle(tmp_path: Path, protocol: int) -> None:
    letters = "".join(map(chr, range(32, 1000)))
    values = {
        "vocab_size": len(letters),
        "itos": dict(enumerate(letters)),
        "stoi": {c: i for i, c in enumerate(letters)},
    }
    (tmp_path / "meta.pkl").write_bytes(pickle.dumps(values, protocol))
    assert read_characters(tmp_path / "meta.pkl") == letters


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"not a pickle",
        pickle.dumps({}),
        pickle.dumps([]),
        pickle.dumps({"itos": {1: "a"}}),
        pickle.dumps({"itos": {0: "ab"}}),
        pickle.dumps({"itos": 5}),
        characters_pickled(LETTERS)[:-5],
        b"\x80\x04h\x05.",
        b"\x80\x04u.",
    ],
)
def test_a_pickle_without_the_characters_is_refused_in_one_line(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "meta.pkl").write_bytes(content)
    with pytest.raises(UserError, match=r"meta\.pkl does not have the characters of a nanoGPT data set: ") as caught:
        read_characters(tmp_path / "meta.pkl")
    assert "\n" not in str(caught.value)
