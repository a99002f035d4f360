"""Preparing: the tokens on disk are those of the text, whatever its size, and nothing is ever left half written."""

import errno
import gzip
import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import tracemalloc
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nanogpt import tokenizers
from nanogpt.data import preparation, scanning, shards, sources, text
from nanogpt.data.encodings import ADVICE
from nanogpt.data.names import prepared_names
from nanogpt.data.preparation import prepare
from nanogpt.data.recipes import Recipe, textfile_recipe
from nanogpt.data.store import open_dataset
from nanogpt.errors import SettingError, UserError
from nanogpt.events import Encoding, Notice, Prepared, TokenizerTraining
from nanogpt.tokenizers import _bpe


def nasty_text(characters: int, seed: int = 1) -> str:
    """Words, numbers and all sorts of blanks, in lumps."""
    chance = random.Random(seed)
    parts = ["the", "Zürich", " ", "  ", "\n", "\n\n", "\t", "12345", "don't", "...", "日本語", "\r\n", " \n ", "é"]
    return "".join(chance.choice(parts) * chance.choice((1, 1, 1, 2, 7)) for _ in range(characters))[:characters]


def written(folder: Path, content: str | bytes, name: str = "story.txt") -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def prepared(recipe: Recipe | str, **options: Any) -> Prepared:
    *_, last = prepare(recipe, **options)
    assert isinstance(last, Prepared)
    return last


@pytest.fixture
def data_dir(tmp_path: Path) -> Path:
    return tmp_path / "prepared" / "here"


@pytest.fixture
def every_event(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small blocks, each reported, so that a small text has many places to stop at."""
    monkeypatch.setattr(preparation, "REPORT_INTERVAL_S", 0)
    monkeypatch.setattr(scanning, "REPORT_INTERVAL_S", 0)
    monkeypatch.setattr(text, "BLOCK_BYTES", 1000)


@pytest.mark.parametrize("kind", ["char", "byte", "gpt2", "p50k_base", "bpe:400,pattern=gpt4"])
@pytest.mark.parametrize("block_bytes", [777, 1 << 20])
@pytest.mark.parametrize("much", [0, 10**12], ids=["fast", "plain"])
def test_tokens_are_those_of_each_split_encoded_as_a_whole(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch, kind: str, block_bytes: int, much: int
) -> None:
    whole = nasty_text(20_000)
    parts = {"train": whole[:14_000], "val": whole[14_000:18_000], "test": whole[18_000:]}
    needs_text = tokenizers.tokenizer_class(kind.partition(":")[0]).needs == "text"
    tokenizer = tokenizers.create(kind, [parts["train"] if needs_text else whole])
    monkeypatch.setattr(_bpe, "OWN_ENCODING_CHARACTERS", 10**12)
    expected = {split: tokenizer.encode(part) for split, part in parts.items()}
    monkeypatch.setattr(_bpe, "OWN_ENCODING_CHARACTERS", much)
    monkeypatch.setattr(text, "BLOCK_BYTES", block_bytes)
    recipe = textfile_recipe([written(tmp_path, whole)], tokenizer=kind, val_ratio=0.2, test_ratio=0.1)
    tokens = prepared(recipe, data_dir=data_dir).tokens
    dataset = open_dataset("story", data_dir, verify=True)
    assert list(tokens) == ["train", "val", "test"]
    for split, part in parts.items():
        ids = dataset.split(split)
        assert list(ids) == expected[split]
        assert len(ids) == tokens[split] == dataset.meta.tokens[split]
        assert dataset.tokenizer.decode(ids) == part


def test_a_tokenizer_is_trained_on_the_training_split_alone(tmp_path: Path, data_dir: Path) -> None:
    train, val = "to be or not to be\n" * 90, "xyzxyzxyz\n" * 19
    file = written(tmp_path, gzip.compress((train + val).encode()), "story.txt.gz")
    recipe = textfile_recipe([file], tokenizer="bpe:1000", val_ratio=len(val) / len(train + val))
    *events, last = prepare(recipe, data_dir=data_dir)
    training = [event for event in events if isinstance(event, TokenizerTraining)]
    assert {event.phase for event in training} == {"read", "merge"}
    assert all(event.done_bytes <= event.total_bytes == len(train) for event in training)
    assert isinstance(last, Prepared)
    dataset = open_dataset("story", data_dir)
    made = dataset.tokenizer
    assert tokenizers.fingerprint(made) == tokenizers.fingerprint(tokenizers.create("bpe:1000", [train]))
    assert b"xy" not in map(made.token_bytes, range(made.vocab_size))
    assert (last.tokenizer, dataset.meta.tokenizer, last.vocab_size) == ("bpe:1000", "bpe:1000", made.vocab_size)
    # 1,000 entries would need more text
    assert [event.text for event in events if isinstance(event, Notice)] == [
        f"the text is too short for 1,000 entries: the vocabulary has {made.vocab_size}"
    ]


def test_data_sets_with_other_settings_are_never_taken_for_the_same(tmp_path: Path, data_dir: Path) -> None:
    file = written(tmp_path, nasty_text(5000))
    prepared(textfile_recipe([file], tokenizer="bpe:300"), data_dir=data_dir)
    again = list(prepare(textfile_recipe([file], tokenizer="bpe,vocab_size=300,pattern=gpt2"), data_dir=data_dir))
    assert any(isinstance(event, Notice) and "already prepared" in event.text for event in again)
    for other in ("bpe:301", "bpe:300,pattern=gpt4", "bpe:300,special_tokens=", "char"):
        with pytest.raises(UserError, match=r"exists with tokenizer=bpe:300, not .*--output.*--force"):
            list(prepare(textfile_recipe([file], tokenizer=other), data_dir=data_dir))


def test_tiny_shakespeare_is_split_where_nanogpt_splits_it() -> None:
    recipe = Recipe(name="x", source=sources.create("stdlib"))
    assert preparation.split_ends(recipe, 1_115_394) == {"train": 1_003_854, "val": 1_115_394}  # 111,540 for validation


def test_token_files_are_raw_little_endian(tmp_path: Path, data_dir: Path) -> None:
    prepared(textfile_recipe([written(tmp_path, "abcab" * 4)]), data_dir=data_dir)
    assert (data_dir / "story" / "val.bin").read_bytes() == bytes([0, 0, 1, 0])  # "ab", the last tenth of 20
    many = "".join(chr(0x20000 + code) for code in range(70_000))
    prepared(textfile_recipe([written(tmp_path, many, "many.txt")]), data_dir=data_dir)
    assert open_dataset("many", data_dir).split("val")[-1] == 69_999
    assert (data_dir / "many" / "val.bin").stat().st_size == 7_000 * 4


def test_a_text_without_a_safe_place_to_cut_is_cut_anyway(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(text, "BLOCK_BYTES", 1000)
    monkeypatch.setattr(preparation, "MAX_CARRY", 5000)
    whole = "日本" * 10_000
    prepared(textfile_recipe([written(tmp_path, whole)], tokenizer="gpt2"), data_dir=data_dir)
    dataset = open_dataset("story", data_dir)
    assert dataset.tokenizer.decode(dataset.split("train")) == whole[:18_000]


def test_encodings_are_detected_and_said(tmp_path: Path, data_dir: Path) -> None:
    recipe = textfile_recipe([written(tmp_path, ("café " * 20).encode("cp1252"))])
    events = list(prepare(recipe, data_dir=data_dir))
    assert [event.text for event in events if isinstance(event, Notice)] == [
        f"{tmp_path / 'story.txt'} is not UTF-8 and is read as Windows-1252: "
        f"“café café café café café café café café”; if that is wrong, {ADVICE}"
    ]
    assert next(event for event in events if isinstance(event, Notice)).level == "warning"
    dataset = open_dataset("story", data_dir)
    assert dataset.tokenizer.decode(dataset.split("val")) == "café café "


def test_progress_goes_from_reading_to_encoding_to_the_end(tmp_path: Path, data_dir: Path, every_event: None) -> None:
    path = written(tmp_path, nasty_text(10_000))
    events = list(prepare(textfile_recipe([path]), data_dir=data_dir))
    for phase in ("scan", "encode"):
        steps = [event for event in events if isinstance(event, Encoding) and event.phase == phase]
        assert len(steps) > 5
        assert [step.done_bytes for step in steps] == sorted(step.done_bytes for step in steps)
        assert steps[-1].done_bytes == steps[-1].total_bytes == path.stat().st_size
    assert isinstance(events[-1], Prepared)


def test_closing_at_any_event_leaves_nothing(tmp_path: Path, data_dir: Path, every_event: None) -> None:
    recipe = textfile_recipe([written(tmp_path, nasty_text(5_000))], tokenizer="gpt2")
    count = 0
    while True:
        with closing(prepare(recipe, data_dir=data_dir)) as events:
            stopped_at = [event for _, event in zip(range(count + 1), events, strict=False)][-1]
        if isinstance(stopped_at, Prepared):
            break
        assert not data_dir.exists() or list(data_dir.iterdir()) == []
        count += 1
    assert count > 10


def test_closing_leaves_what_was_to_be_replaced(tmp_path: Path, data_dir: Path, every_event: None) -> None:
    path = written(tmp_path, nasty_text(5_000))
    prepared(textfile_recipe([path]), data_dir=data_dir)
    before = open_dataset("story", data_dir).meta
    with closing(prepare(textfile_recipe([path], tokenizer="byte"), data_dir=data_dir, force=True)) as events:
        while (event := next(events)) and not (isinstance(event, Encoding) and event.phase == "encode"):
            pass
    assert open_dataset("story", data_dir, verify=True).meta == before
    assert [path.name for path in data_dir.iterdir()] == ["story"]
    assert prepared(textfile_recipe([path], tokenizer="byte"), data_dir=data_dir, force=True).tokenizer == "byte"
    assert [path.name for path in data_dir.iterdir()] == ["story"]


def test_what_a_killed_process_left_is_cleaned_up(tmp_path: Path, data_dir: Path) -> None:
    path = written(tmp_path, nasty_text(20_000) * 200)
    code = (
        "import sys, pathlib, time; from nanogpt.data import prepare, textfile_recipe\n"
        "for event in prepare(textfile_recipe([sys.argv[1]], tokenizer='gpt2'), data_dir=pathlib.Path(sys.argv[2])):\n"
        "    print(getattr(event, 'phase', ''), flush=True)\n"
        "    time.sleep(600 if getattr(event, 'phase', '') == 'encode' else 0)\n"
    )
    child = subprocess.Popen([sys.executable, "-c", code, path, data_dir], stdout=subprocess.PIPE, text=True)
    assert child.stdout
    while child.stdout.readline().strip() == "scan":
        pass
    child.send_signal(signal.SIGKILL)
    child.communicate()
    assert len(left := list(data_dir.iterdir())) == 1
    assert left[0].name.startswith(".story~")
    assert prepared_names(data_dir) == []
    prepared(textfile_recipe([written(tmp_path, "other text", "other.txt")]), data_dir=data_dir)
    assert [path.name for path in data_dir.iterdir()] == ["other"]


def test_memory_does_not_grow_with_the_text(tmp_path: Path, data_dir: Path) -> None:
    path = tmp_path / "long.txt"
    path.write_bytes(b"All the world is a stage, \n" * 1_500_000)  # 40 MB
    prepared(textfile_recipe([written(tmp_path, "story", "short.txt")]), data_dir=data_dir)  # imports what it needs
    tracemalloc.start()
    prepared(textfile_recipe([path]), data_dir=data_dir)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 40e6  # less than the text alone; some blocks are in work in several threads at once


def test_the_same_again_is_left_as_it_is(tmp_path: Path, data_dir: Path) -> None:
    path = written(tmp_path, "some text " * 10)
    prepared(textfile_recipe([path]), data_dir=data_dir)
    before = (data_dir / "story" / "meta.json").stat().st_mtime_ns
    *_, notice, last = prepare(textfile_recipe([path]), data_dir=data_dir)
    assert isinstance(notice, Notice)
    assert "already prepared" in notice.text
    assert isinstance(last, Prepared)
    assert (data_dir / "story" / "meta.json").stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("content", "options", "complaint"),
    [
        ("another text " * 10, {}, "has another text; choose another name with --output"),
        ("some text " * 10, {"tokenizer": "byte"}, "exists with tokenizer=char, not byte"),
        ("some text " * 10, {"val_ratio": 0.3}, "exists with val_ratio=0.1, not 0.3"),
    ],
)
def test_a_different_one_is_replaced_only_by_force(
    tmp_path: Path, data_dir: Path, content: str, options: dict[str, object], complaint: str
) -> None:
    prepared(textfile_recipe([written(tmp_path, "some text " * 10)]), data_dir=data_dir)
    before = open_dataset("story", data_dir).meta
    recipe = textfile_recipe([written(tmp_path, content)])
    with pytest.raises(UserError, match=complaint):
        prepared(recipe, data_dir=data_dir, **options)
    assert open_dataset("story", data_dir, verify=True).meta == before
    prepared(recipe, data_dir=data_dir, output="other", **options)
    prepared(recipe, data_dir=data_dir, force=True, **options)
    assert open_dataset("story", data_dir, verify=True).meta != before


def test_the_same_bytes_in_another_encoding_are_another_text(tmp_path: Path, data_dir: Path) -> None:
    path = written(tmp_path, ("道可道，非常道。" * 20).encode("gbk"))
    prepared(textfile_recipe([path], encoding="cp1252"), data_dir=data_dir)
    assert open_dataset("story", data_dir).meta.source["encoding"] == "cp1252"
    with pytest.raises(UserError, match="exists with encoding=cp1252, not gbk; choose another name with --output"):
        prepared(textfile_recipe([path]), data_dir=data_dir, encoding="gbk")
    prepared(textfile_recipe([path], encoding="GBK"), data_dir=data_dir, force=True)
    dataset = open_dataset("story", data_dir)
    assert dataset.meta.source["encoding"] == "gbk"
    assert dataset.tokenizer.decode(dataset.split("val")) == "道可道，非常道。" * 2
    assert prepared(textfile_recipe([path], encoding="gbk"), data_dir=data_dir).vocab_size == 6
    with pytest.raises(UserError, match="exists with encoding=gbk, not gb18030"):
        prepared(textfile_recipe([path]), data_dir=data_dir)


def test_a_data_set_of_an_earlier_version_did_not_say_its_encoding(tmp_path: Path, data_dir: Path) -> None:
    path = written(tmp_path, ("道可道，非常道。" * 20).encode("gbk"))
    prepared(textfile_recipe([path]), data_dir=data_dir)
    meta = data_dir / "story" / "meta.json"
    values = json.loads(meta.read_text())
    del values["source"]["encoding"]
    meta.write_text(json.dumps(values))
    assert prepared(textfile_recipe([path]), data_dir=data_dir).name == "story"
    with pytest.raises(UserError, match="exists with encoding=unknown, not gbk"):
        prepared(textfile_recipe([path], encoding="gbk"), data_dir=data_dir)


def test_another_file_given_for_a_prepared_data_set_is_not_taken_for_its_text(tmp_path: Path, data_dir: Path) -> None:
    path = written(tmp_path, "the right text " * 20)
    source = sources.create("url", url="http://127.0.0.1:9/x", sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    recipe = Recipe(name="given", source=source)
    prepared(recipe, data_dir=data_dir, source=path)
    assert prepared(recipe, data_dir=data_dir, source=path).name == "given"
    other = written(tmp_path, "the wrong text " * 20, "wrong.txt")
    with pytest.raises(UserError, match=r"wrong\.txt is not the expected file.*--output=NAME"):
        prepared(recipe, data_dir=data_dir, source=other)
    with pytest.raises(UserError, match=r"absent\.txt cannot be read"):
        prepared(recipe, data_dir=data_dir, source=tmp_path / "absent.txt")


def test_a_prepared_data_set_in_another_encoding_is_not_taken_for_the_recipes(tmp_path: Path, data_dir: Path) -> None:
    path = written(tmp_path, ("naïve café " * 20))
    source = sources.create("url", url="http://127.0.0.1:9/x", sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    recipe = Recipe(name="given", source=source)
    prepared(recipe, data_dir=data_dir, source=path, encoding="latin-1")
    with pytest.raises(UserError, match="exists with encoding=iso8859-1, not utf-8"):
        prepared(recipe, data_dir=data_dir, source=path)


def test_a_text_that_grows_while_it_is_prepared_is_refused_and_leaves_nothing(
    tmp_path: Path, data_dir: Path, every_event: None
) -> None:
    path = written(tmp_path, nasty_text(20_000))
    events = prepare(textfile_recipe([path]), data_dir=data_dir)
    while not (isinstance(event := next(events), Encoding) and event.phase == "encode"):
        pass
    with path.open("a") as growing:
        growing.write("more " * 10_000)
    with pytest.raises(UserError, match=r"story\.txt changed while it was being read"):
        list(events)
    assert list(data_dir.iterdir()) == []


def test_the_same_letters_in_other_files_are_another_text(tmp_path: Path, data_dir: Path) -> None:
    for part in (("abab", "ab" * 20), ("ab", "ab" * 21)):
        (tmp_path / "a.txt").write_text(part[0])
        (tmp_path / "b.txt").write_text(part[1])
        recipe = textfile_recipe([tmp_path / "a.txt", tmp_path / "b.txt"], name="both")
        if part[0] == "abab":
            prepared(recipe, data_dir=data_dir)
    with pytest.raises(UserError, match="has another text"):
        prepared(recipe, data_dir=data_dir)


def test_force_replaces_no_folder_that_is_not_a_data_set(tmp_path: Path, data_dir: Path) -> None:
    (data_dir / "story").mkdir(parents=True)
    (data_dir / "story" / "thesis.txt").write_text("precious")
    with pytest.raises(UserError, match="is not a data set"):
        prepared(textfile_recipe([written(tmp_path, "text " * 9)]), data_dir=data_dir, force=True)
    assert (data_dir / "story" / "thesis.txt").read_text() == "precious"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b"", "is empty; give some text"),
        (b"\xef\xbb\xbf", "is empty; give some text"),
        (b"x", "too short: of 1 character none is left for train"),
        (b"x" * 100, "no other character than 'x'"),
        (b"text\0text", "binary data at byte 4"),
    ],
)
def test_a_text_that_nothing_can_be_learnt_from_is_refused(
    tmp_path: Path, data_dir: Path, content: bytes, complaint: str
) -> None:
    with pytest.raises(UserError, match=complaint):
        prepared(textfile_recipe([written(tmp_path, content)]), data_dir=data_dir)
    assert not data_dir.exists()


def test_a_folder_stands_for_its_text_files(tmp_path: Path, data_dir: Path) -> None:
    folder = tmp_path / "texts"
    (folder / "sub").mkdir(parents=True)
    (folder / ".git").mkdir()
    for name, content in {"b.md": b"bbbb", "sub/a.txt": b"aaaa", ".git/x": b"zzzz", "c.png": b"\0\1", "d": b""}.items():
        (folder / name).write_bytes(content)
    events = list(prepare(textfile_recipe([folder]), data_dir=data_dir))
    assert any(
        isinstance(event, Notice) and "skipped 2 of 4 files: 1 not text (c.png), 1 empty (d)" in event.text
        for event in events
    )
    dataset = open_dataset("texts", data_dir)
    assert dataset.tokenizer.decode([*dataset.split("train"), *dataset.split("val")]) == "bbbb\naaaa"
    (tmp_path / "nothing").mkdir()
    with pytest.raises(UserError, match="no text files in"):
        prepared(textfile_recipe([tmp_path / "nothing"]), data_dir=data_dir)


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    blocked = written(tmp_path, "a file, not a folder", "blocked")
    with pytest.raises(UserError, match=r"cannot write in .*blocked.*NANOGPT_DATA_DIR"):
        prepared(textfile_recipe([written(tmp_path, "text " * 9)]), data_dir=blocked / "data")


def test_a_full_disk_says_how_much_is_needed_and_leaves_nothing(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(UserError, match=r"is full: story needs up to 2 MB and \d+ MB are free"):
        prepared(textfile_recipe([written(tmp_path, "ab" * 500_000)]), data_dir=data_dir)
    assert list(data_dir.iterdir()) == []


def test_a_file_given_by_hand_is_checked_by_the_recipes_sum(tmp_path: Path, data_dir: Path) -> None:
    path = written(tmp_path, "the right text " * 20)
    source = sources.create("url", url="http://127.0.0.1:9/x", sha256=hashlib.sha256(path.read_bytes()).hexdigest())
    recipe = Recipe(name="given", source=source)
    with pytest.raises(UserError, match="not the expected file: its sha256 is"):
        prepared(recipe, data_dir=data_dir, source=written(tmp_path, "another", "wrong.txt"))
    with pytest.raises(UserError, match="absent cannot be read"):
        prepared(recipe, data_dir=data_dir, source=tmp_path / "absent")
    prepared(recipe, data_dir=data_dir, source=path)
    path.unlink()
    assert prepared(recipe, data_dir=data_dir).name == "given"  # what is prepared already needs no file
    with pytest.raises(UserError, match="downloads nothing"):
        prepared(textfile_recipe([path]), data_dir=data_dir, source=path)


def test_the_standard_library_needs_no_network_and_gives_the_same_text_each_time(data_dir: Path) -> None:
    first = prepared("python_stdlib", data_dir=data_dir)
    meta = open_dataset("python_stdlib", data_dir).meta
    assert prepared("python_stdlib", data_dir=data_dir, force=True).tokens == first.tokens
    assert open_dataset("python_stdlib", data_dir).meta.sha256 == meta.sha256
    assert sum(first.tokens.values()) > 1_000_000
    assert first.vocab_size < 128


def test_a_text_is_prepared_in_shards_of_the_chosen_size(tmp_path: Path, data_dir: Path) -> None:
    recipe = textfile_recipe([written(tmp_path, "0123456789" * 10)], shard_tokens=40)
    assert prepared(recipe, data_dir=data_dir).tokens == {"train": 90, "val": 10}
    folder = data_dir / "story"
    sizes = {path.name: path.stat().st_size for path in folder.glob("*.bin")}
    assert sizes == {
        "train-00000.bin": 1024 + 80,
        "train-00001.bin": 1024 + 80,
        "train-00002.bin": 1024 + 20,
        "val-00000.bin": 1024 + 20,
    }
    dataset = open_dataset("story", data_dir, verify=True)
    assert dataset.tokenizer.decode(dataset.split("train")) == "0123456789" * 9
    assert prepared(recipe, data_dir=data_dir).tokens == {"train": 90, "val": 10}  # it is the same
    with pytest.raises(UserError, match="exists and is not in shards of 50 tokens; choose another name"):
        prepared(recipe, data_dir=data_dir, shard_tokens=50)


def test_only_a_split_longer_than_a_shard_is_in_shards_by_default(
    tmp_path: Path, data_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shards, "DEFAULT_SHARD_TOKENS", 50)
    prepared(textfile_recipe([written(tmp_path, "0123456789" * 10)]), data_dir=data_dir)
    files = sorted(path.name for path in (data_dir / "story").iterdir())
    assert files == ["meta.json", "tokenizer.json", "train-00000.bin", "train-00001.bin", "val.bin"]
    assert open_dataset("story", data_dir, verify=True).meta.format == 2


@pytest.mark.parametrize("shard_tokens", [-1, 2**31])
def test_a_shard_size_that_its_header_cannot_state_is_refused(tmp_path: Path, shard_tokens: int) -> None:
    with pytest.raises(SettingError, match=rf"shard_tokens={shard_tokens} must be from 1 to 2,147,483,647"):
        textfile_recipe([tmp_path], shard_tokens=shard_tokens)
