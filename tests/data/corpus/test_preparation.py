"""Data sets from corpora: what is in them, whatever the number of workers, the order of events and the faults."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from shutil import copytree
from typing import Any

import numpy as np
import pytest

from nanogpt import files, paths, processes, tokenizers
from nanogpt.data import open_dataset, prepare, store, textfile_recipe
from nanogpt.data.catalog import list_datasets
from nanogpt.data.corpus.preparation import as_interrupted, interrupted_recipe
from nanogpt.data.corpus.unfinished import Unfinished
from nanogpt.data.document_settings import DocumentSettings
from nanogpt.data.inspection import forecast
from nanogpt.data.names import unfinished_folder
from nanogpt.data.recipes import Recipe
from nanogpt.data.store import Dataset, delete_dataset
from nanogpt.data.token_files import TokenWriter
from nanogpt.errors import UserError
from nanogpt.events import CorpusEncoding, Encoding, Event, Forecast, Notice, Prepared
from tests.data.corpus.conftest import Corpus, make_corpus

WINDOW = 5000  # tokens: some 40 windows in the corpus


def recipe(
    corpus: Corpus, *, name: str = "c", tokenizer: str = "byte", val: float = 0.05, test: float = 0.0, **settings: Any
) -> Recipe:
    return textfile_recipe(
        [corpus.folder],
        name=name,
        tokenizer=tokenizer,
        val_ratio=0.05,
        test_ratio=test,
        documents=DocumentSettings(**{"shuffle_tokens": WINDOW, "separator": "\0", **settings}),
    )


def made(of: Recipe, folder: Path, workers: int = 1) -> Dataset:
    for _ in prepare(of, data_dir=folder, workers=workers):
        pass
    return open_dataset(of.name, folder, verify=True)


def documents(dataset: Dataset, split: str) -> list[str]:
    """The documents of a split, in the order of its tokens; each comes after the separator, a zero byte."""
    text = np.asarray(dataset.split(split)).astype(np.uint8).tobytes().decode(errors="surrogateescape")
    assert text.startswith("\0")
    return text[1:].split("\0")


def token_files(dataset: Dataset) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in dataset.path.iterdir() if path.name != "meta.json"}


def test_every_distinct_document_is_in_one_split(corpus: Corpus, tmp_path: Path) -> None:
    dataset = made(recipe(corpus, test=0.05), tmp_path)
    found = {split: documents(dataset, split) for split in ("train", "val", "test")}
    everything = [text for texts in found.values() for text in texts]
    assert sorted(everything) == sorted(corpus.texts)
    # 6 · 300 documents, of which one in ten is a copy: 1,620 and 5 texts of copies
    assert dataset.meta.source["documents"] == {split: len(texts) for split, texts in found.items()}
    assert (sum(map(len, found.values())), dataset.meta.source["duplicates"]) == (1625, 175)
    assert dataset.meta.source["skipped"] == {"without text": 3, "not JSON": 3}
    # five standard deviations of a binomial: 0.05 · 1,625 = 81 ± 9
    assert all(81 - 45 < len(found[split]) < 81 + 45 for split in ("val", "test"))
    assert dataset.meta.split_bytes == {split: sum(len(t.encode()) for t in texts) for split, texts in found.items()}
    assert dataset.meta.split_characters == {split: sum(map(len, texts)) for split, texts in found.items()}


@pytest.mark.parametrize("tokenizer", ["byte", "gpt2"])
def test_the_files_do_not_depend_on_the_number_of_workers(corpus: Corpus, tmp_path: Path, tokenizer: str) -> None:
    first, second = (
        token_files(made(recipe(corpus, tokenizer=tokenizer), tmp_path / str(workers), workers)) for workers in (1, 3)
    )
    assert first == second


def test_the_seed_decides_the_order_and_the_splits(corpus: Corpus, tmp_path: Path) -> None:
    one, same, other = (
        documents(made(recipe(corpus, name=f"c{number}", seed=seed), tmp_path), "train")
        for number, seed in enumerate((1, 1, 2))
    )
    assert one == same != other
    assert set(one) != set(other)


def test_without_shuffling_documents_keep_their_order(corpus: Corpus, tmp_path: Path) -> None:
    dataset = made(recipe(corpus, shuffle=False, deduplicate=False), tmp_path)
    expected = [text for name in sorted(corpus.documents) for text in corpus.documents[name]]
    places = {text: place for place, text in reversed(list(enumerate(expected)))}
    unique = [places[text] for text in documents(dataset, "train") if not text.startswith("copy")]
    assert unique == sorted(unique)
    assert sum(dataset.meta.source["documents"].values()) == len(expected)


def test_shuffling_mixes_the_documents_of_a_window_only(corpus: Corpus, tmp_path: Path) -> None:
    of = recipe(corpus)
    order = documents(made(of, tmp_path), "train")
    shards = [text.partition("/")[0] for text in order if not text.startswith("copy")]
    changes = sum(a != b for a, b in pairwise(shards))
    # shards follow one another, and only a window that has documents of two of them mixes these
    assert 5 <= changes < len(shards) / 4
    numbers = [int(text.partition("/")[2].partition(":")[0]) for text in order if not text.startswith("copy")]
    assert numbers != sorted(numbers)


@pytest.mark.parametrize("window", [700, WINDOW, 1 << 24])
def test_max_docs_and_max_tokens_are_exact(corpus: Corpus, tmp_path: Path, window: int) -> None:
    of = made(recipe(corpus, name="docs", max_docs=321, shuffle_tokens=window), tmp_path)
    assert sum(of.meta.source["documents"].values()) == 321
    limited = made(recipe(corpus, name="tokens", max_tokens=40_001, shuffle_tokens=window), tmp_path)
    assert sum(limited.meta.tokens.values()) == 40_001
    for split in limited.meta.tokens:
        texts = documents(limited, split)
        # the last document may end within a character
        assert limited.meta.split_bytes[split] == sum(len(text.encode(errors="surrogateescape")) for text in texts)
        assert limited.meta.tokens[split] == limited.meta.split_bytes[split] + len(texts)
        assert sum(text not in corpus.texts for text in texts) <= 1


def test_little_is_read_for_a_small_part_of_a_corpus(corpus: Corpus, tmp_path: Path) -> None:
    bounds: list[dict[str, Any]] = [{"name": "docs", "max_docs": 20}, {"name": "tokens", "max_tokens": 2000}]
    for bound in bounds:
        dataset = made(recipe(corpus, shuffle_tokens=1 << 24, **bound), tmp_path)
        # nothing after the first file, of 300 documents
        shards = {text.partition("/")[0] for text in documents(dataset, "train") if not text.startswith("copy")}
        assert len(shards) == 1


def test_a_document_comes_after_the_end_of_text_token_of_its_tokenizer(corpus: Corpus, tmp_path: Path) -> None:
    dataset = made(recipe(corpus, tokenizer="gpt2"), tmp_path)
    ids = np.asarray(dataset.split("val"))
    assert ids[0] == 50256
    texts = [dataset.tokenizer.decode(part.tolist()) for part in np.split(ids, np.flatnonzero(ids == 50256))]
    assert all(text.removeprefix("<|endoftext|>") in corpus.texts for text in texts if text)
    assert dataset.meta.source["documents"]["val"] == int((ids == 50256).sum())


def own_corpus(folder: Path, *texts: str) -> Corpus:
    """A corpus of one file. Its first document is for validation."""
    folder.mkdir()
    (folder / "a.jsonl").write_text("\n".join(json.dumps({"text": text}) for text in texts))
    return Corpus(folder, {"a.jsonl": list(texts)})


def test_a_tokenizer_is_trained_on_training_documents_only(tmp_path: Path) -> None:
    dataset = made(recipe(own_corpus(tmp_path / "own", "ßß ßß", "one", "two", "three"), tokenizer="bpe:257"), tmp_path)
    expected = tokenizers.create("bpe:257", ["one\ntwo\nthree\n"])
    assert tokenizers.fingerprint(dataset.tokenizer) == tokenizers.fingerprint(expected)


def test_the_characters_of_all_documents_and_of_the_separator_are_encoded(corpus: Corpus, tmp_path: Path) -> None:
    dataset = made(recipe(corpus, tokenizer="char", separator="\n"), tmp_path, workers=2)
    assert dataset.tokenizer.vocab_size == len({c for text in corpus.texts for c in text} | {"\n"})
    own = recipe(own_corpus(tmp_path / "own", "ß", "one", "two", "three"), name="d", tokenizer="char", separator="§")
    dataset = made(own, tmp_path)
    texts = {split: dataset.tokenizer.decode(list(dataset.split(split)[:])) for split in ("train", "val")}
    assert texts["val"] == "§ß"
    assert sorted(texts["train"].split("§")) == ["", "one", "three", "two"]


def test_a_character_beyond_the_sample_is_refused(tmp_path: Path) -> None:
    own = own_corpus(tmp_path / "own", "one", "a" * 1000, "ß")
    said = complaint(prepare(recipe(own, tokenizer="char", tokenizer_bytes=1000, shuffle=False), data_dir=tmp_path))
    assert said.startswith("shard a.jsonl: unknown character 'ß'") or said.startswith("unknown character 'ß'")
    assert "use a tokenizer that encodes any text, such as byte or bpe:4096, or raise tokenizer_bytes" in said


def test_shards_of_tokens_are_one_sequence(corpus: Corpus, tmp_path: Path) -> None:
    whole = made(recipe(corpus), tmp_path)
    dataset = made(replace(recipe(corpus, name="parts"), shard_tokens=10_000), tmp_path)
    assert len(dataset.meta.shards["train"]) == -(-dataset.meta.tokens["train"] // 10_000)
    assert np.array_equal(dataset.split("train")[:], np.asarray(whole.split("train")))


def interrupted(of: Recipe, folder: Path, after: int, workers: int) -> bool:
    """Close a preparation after some events; False if it came to its end before."""
    with closing(prepare(of, data_dir=folder, workers=workers)) as work:
        for number, event in enumerate(work):
            if isinstance(event, Prepared):
                return False
            if number == after:
                break
    return True


@pytest.fixture
def every_event(monkeypatch: pytest.MonkeyPatch) -> None:
    from nanogpt.data.corpus import meter

    monkeypatch.setattr(meter, "REPORT_INTERVAL_S", 0)


@pytest.mark.parametrize("workers", [1, 2])
def test_closing_at_any_event_keeps_what_is_committed(
    corpus: Corpus, tmp_path: Path, every_event: None, workers: int
) -> None:
    expected = token_files(made(recipe(corpus), tmp_path / "whole"))
    folder, rounds, committed = tmp_path / "data", 0, [0]
    while interrupted(recipe(corpus), folder, 4 + rounds % 3, workers):
        rounds += 1
        info = next(each for each in list_datasets(folder) if each.name == "c")
        assert (info.unfinished, info.prepared) == (True, False)
        progress = unfinished_folder(folder / "c") / "progress.json"
        committed.append(json.loads(progress.read_text())["read"] if progress.exists() else 0)
    assert committed == sorted(committed)
    assert rounds > 2
    assert token_files(open_dataset("c", folder, verify=True)) == expected
    assert sorted(path.name for path in folder.iterdir()) == ["c"]


@pytest.mark.parametrize("name", ["finish", "meta", "publish"])
def test_an_interruption_at_the_very_end_loses_nothing(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    """After the last document is committed, files are completed one after another, and the folder is renamed."""
    expected = token_files(made(recipe(corpus), tmp_path / "whole"))
    original, calls = TokenWriter.finish, 0

    def interrupt(*arguments: Any, **options: Any) -> Any:
        nonlocal calls
        calls += 1
        if name == "finish" and calls == 1:
            return original(*arguments, **options)
        raise KeyboardInterrupt

    module = "nanogpt.data.corpus.preparation.write_atomically" if name == "meta" else "nanogpt.data.store.publish"
    with monkeypatch.context() as patch:
        if name == "finish":
            patch.setattr(TokenWriter, "finish", interrupt)
        elif name == "publish":
            patch.setattr(module, interrupt)
        else:
            write = files.write_atomically
            patch.setattr(module, lambda path, *more: interrupt() if path.name == "meta.json" else write(path, *more))
        with pytest.raises(KeyboardInterrupt):
            list(prepare(recipe(corpus), data_dir=tmp_path / "data"))
    events = list(prepare(recipe(corpus), data_dir=tmp_path / "data"))
    assert not [
        event for event in events if isinstance(event, CorpusEncoding) and event.tokens != event.committed_tokens
    ]
    assert token_files(open_dataset("c", tmp_path / "data", verify=True)) == expected
    assert sorted(path.name for path in (tmp_path / "data").iterdir()) == ["c"]


def test_force_replaces_a_data_set_only_when_the_new_one_is_complete(
    corpus: Corpus, tmp_path: Path, every_event: None
) -> None:
    before = token_files(made(recipe(corpus), tmp_path))
    for number in range(2):
        with closing(prepare(recipe(corpus, seed=2), data_dir=tmp_path, force=True)) as work:
            notices = [event.text for event, _ in zip(work, range(5), strict=False) if isinstance(event, Notice)]
        assert token_files(open_dataset("c", tmp_path)) == before
        assert bool(number) == any(text.startswith("continuing the preparation of c") for text in notices)
    list(prepare(recipe(corpus, seed=3), data_dir=tmp_path, force=True))
    assert token_files(open_dataset("c", tmp_path)) == token_files(made(recipe(corpus, name="d", seed=3), tmp_path))


def test_a_preparation_is_done_by_one_process_at_a_time(corpus: Corpus, tmp_path: Path) -> None:
    with closing(Unfinished(tmp_path / "c")):
        script = (
            "import sys; from pathlib import Path; from nanogpt.data.corpus.unfinished import Unfinished\n"
            "try: Unfinished(Path(sys.argv[1]))\n"
            "except Exception as error: print(error)"
        )
        done = subprocess.run(
            [sys.executable, "-c", script, tmp_path / "c"], capture_output=True, text=True, check=False
        )
    assert done.stdout == "the data set c is being prepared by another process\n"
    assert list(tmp_path.iterdir()) == []


def test_the_lock_is_held_until_the_data_set_is_published(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish, were_locked = store.publish, []

    def publish_and_look(partial: Path, path: Path) -> None:
        were_locked.append((partial / "lock").exists())
        publish(partial, path)

    monkeypatch.setattr(store, "publish", publish_and_look)
    dataset = made(recipe(corpus), tmp_path)
    assert were_locked == [True]
    assert {path.name for path in dataset.path.iterdir()} == {"meta.json", "tokenizer.json", "train.bin", "val.bin"}


def test_a_disk_without_locks_is_refused(tmp_path: Path, no_locks: None) -> None:
    with pytest.raises(UserError, match=r"cannot write in .*cannot lock files"):
        Unfinished(tmp_path / "c")


def test_a_data_set_that_another_process_made_meanwhile_is_kept(corpus: Corpus, tmp_path: Path) -> None:
    work = prepare(recipe(corpus, seed=2), data_dir=tmp_path, workers=1)
    next(work)  # it has looked: there is no such data set
    other = made(recipe(corpus, name="other"), tmp_path)
    other.path.rename(tmp_path / "c")
    before = token_files(open_dataset("c", tmp_path))
    with pytest.raises(UserError, match=r"c was made by another process meanwhile: choose another name"):
        list(work)
    assert token_files(open_dataset("c", tmp_path)) == before


@pytest.mark.parametrize("workers", [1, 2])
def test_a_worker_that_is_ended_is_an_error_and_the_next_preparation_continues(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, workers: int
) -> None:
    start = processes.start_python

    def start_and_kill(*arguments: Any, **options: Any) -> Any:
        child = start(*arguments, **options)
        child.kill()
        return child

    with monkeypatch.context() as patch:
        patch.setattr(processes, "start_python", start_and_kill)
        forced = complaint(prepare(recipe(corpus), data_dir=tmp_path, workers=workers, force=True))
        assert "run the same command again without --force to continue" in forced
        said = complaint(prepare(recipe(corpus), data_dir=tmp_path, workers=workers))
    assert "a worker process has ended (SIGKILL)" in said
    assert "run the same command again to continue, with fewer --workers" in said
    assert made(recipe(corpus), tmp_path).meta.source["duplicates"] == 175


def test_an_unfinished_preparation_is_not_continued_with_other_settings(
    corpus: Corpus, tmp_path: Path, every_event: None
) -> None:
    while not (unfinished_folder(tmp_path / "c") / "progress.json").exists():
        assert interrupted(recipe(corpus), tmp_path, 6, 1)
    with pytest.raises(
        UserError, match=r"not finished, and began with seed=1337, not 2: .* or start over with --force"
    ):
        list(prepare(recipe(corpus, seed=2), data_dir=tmp_path))
    events = list(prepare(recipe(corpus, seed=2), data_dir=tmp_path, force=True))
    assert isinstance(events[-1], Prepared)
    assert token_files(open_dataset("c", tmp_path)) == token_files(made(recipe(corpus, name="d", seed=2), tmp_path))


def test_own_files_that_are_named_from_another_folder_are_the_same(
    corpus: Corpus, tmp_path: Path, every_event: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    while not (unfinished_folder(tmp_path / "c") / "progress.json").exists():
        assert interrupted(recipe(corpus), tmp_path, 6, 1)
    monkeypatch.chdir(corpus.folder.parent)
    beside = recipe(replace(corpus, folder=Path(corpus.folder.name)))
    notice = next(event for event in prepare(beside, data_dir=tmp_path) if isinstance(event, Notice))
    assert "continuing the preparation" in notice.text
    list(prepare(beside, data_dir=tmp_path))
    (notice,) = [event for event in prepare(recipe(corpus), data_dir=tmp_path) if isinstance(event, Notice)]
    assert "already prepared from this corpus" in notice.text


def committed(of: Recipe, folder: Path | None = None, *, force: bool = False) -> None:
    """Prepare, and stop once something is committed."""
    progress = unfinished_folder((folder or paths.datasets_dir()) / of.name) / "progress.json"
    while not progress.exists():
        with closing(prepare(of, data_dir=folder, workers=1, force=force)) as work:
            for event, _ in zip(work, range(7), strict=False):
                assert not isinstance(event, Prepared)


def test_documents_that_changed_start_over_with_force_also_where_a_data_set_is(
    corpus: Corpus, tmp_path: Path, every_event: None
) -> None:
    texts = copytree(corpus.folder, tmp_path / "texts")
    own = recipe(replace(corpus, folder=corpus.folder / ".." / os.path.relpath(texts, corpus.folder.parent)))
    before = token_files(made(own, tmp_path))
    committed(own, tmp_path, force=True)
    with closing(prepare(recipe(replace(corpus, folder=texts)), data_dir=tmp_path, force=True)) as work:
        assert "continuing" in next(event for event in work if isinstance(event, Notice)).text, "named in another way"
    os.utime(next(path for path in texts.iterdir() if path.is_file()), (1, 1))
    events = list(prepare(own, data_dir=tmp_path, force=True))
    assert isinstance(events[-1], Prepared)
    assert not any("continuing" in event.text for event in events if isinstance(event, Notice))
    assert token_files(open_dataset("c", tmp_path)) == before


def test_an_interrupted_corpus_has_the_settings_that_it_began_with(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_event: None
) -> None:
    monkeypatch.setenv("NANOGPT_DATA_DIR", str(tmp_path))
    committed(recipe(corpus, seed=3))
    assert as_interrupted(recipe(corpus)) == recipe(corpus, seed=3)
    assert as_interrupted(recipe(corpus, name="other")) == recipe(corpus, name="other")


def test_documents_that_are_named_from_another_folder_are_not_offered_to_be_continued(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, every_event: None
) -> None:
    monkeypatch.setenv("NANOGPT_DATA_DIR", str(tmp_path / "data"))
    monkeypatch.chdir(corpus.folder)
    committed(own := recipe(replace(corpus, folder=Path())))
    assert interrupted_recipe("c") == own
    monkeypatch.chdir(tmp_path)
    assert interrupted_recipe("c") is None


def test_deleting_removes_an_unfinished_preparation(corpus: Corpus, tmp_path: Path, every_event: None) -> None:
    assert interrupted(recipe(corpus), tmp_path, 6, 1)
    delete_dataset("c", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_the_same_again_is_left_as_it_is(corpus: Corpus, tmp_path: Path) -> None:
    before = token_files(made(recipe(corpus), tmp_path))
    events = list(prepare(recipe(corpus), data_dir=tmp_path))
    assert [type(event) for event in events if not isinstance(event, Encoding)] == [Notice, Prepared]
    with pytest.raises(UserError, match=r"exists with max_docs=None, not 10; choose another name with --output=NAME"):
        list(prepare(recipe(corpus, max_docs=10), data_dir=tmp_path))
    with pytest.raises(UserError, match=r"exists with tokenizer=byte, not gpt2"):
        list(prepare(recipe(corpus, tokenizer="gpt2"), data_dir=tmp_path))
    assert token_files(open_dataset("c", tmp_path)) == before


def test_the_same_again_in_a_given_encoding_is_left_as_it_is(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for name in "abcdefghij":
        (tmp_path / "texts" / f"{name}.txt").write_bytes(f"{name}道可道".encode("gb18030"))
    texts = textfile_recipe(
        [tmp_path / "texts"],
        name="c",
        tokenizer="byte",
        val_ratio=0.3,
        encoding="gb18030",
        documents=DocumentSettings(separator="\0"),
    )
    made(texts, tmp_path)
    notice, _ = [event for event in prepare(texts, data_dir=tmp_path) if not isinstance(event, Encoding)]
    assert isinstance(notice, Notice)
    assert notice.text == "data set c is already prepared from this corpus"


@pytest.mark.skipif(sys.platform == "darwin", reason="its file systems have names in UTF-8 only")
def test_a_file_name_may_have_bytes_that_are_not_utf8(tmp_path: Path) -> None:
    own = own_corpus(tmp_path / "own", "one", "two", "three")
    (own.folder / "a.jsonl").rename(own.folder / os.fsdecode(b"caf\xe9.jsonl"))
    assert sorted(documents(made(recipe(own), tmp_path), "train")) == ["three", "two"]


def test_a_file_that_changed_is_another_corpus(tmp_path: Path) -> None:
    own = make_corpus(tmp_path / "own", shards=2)
    made(recipe(own), tmp_path)
    (own.folder / "part-9.jsonl").write_text(json.dumps({"text": "one more"}) + "\n")
    with pytest.raises(UserError, match="exists, and its files have changed since"):
        list(prepare(recipe(own), data_dir=tmp_path))


def test_progress_counts_up_to_everything(corpus: Corpus, tmp_path: Path, every_event: None) -> None:
    events = [
        event for event in prepare(recipe(corpus), data_dir=tmp_path, workers=2) if isinstance(event, CorpusEncoding)
    ]
    for values in (
        [event.done_bytes for event in events],
        [event.tokens for event in events],
        [event.documents for event in events],
        [event.committed_tokens for event in events],
        [event.shards_done for event in events],
    ):
        assert values == sorted(values)
    last, dataset = events[-1], open_dataset("c", tmp_path)
    assert (last.documents, last.duplicates, last.skipped, last.shards_done, last.shards) == (1625, 175, 6, 6, 6)
    assert last.done_bytes == last.total_bytes == sum(path.stat().st_size for path in corpus.folder.iterdir())
    assert last.committed_tokens == last.tokens == sum(dataset.meta.tokens.values())
    assert last.disk_bytes > 0


def complaint(work: Iterator[Event]) -> str:
    with pytest.raises(UserError) as raised:
        list(work)
    assert "\n" not in str(raised.value)
    return str(raised.value)


def test_a_damaged_shard_is_named_and_the_rest_is_kept(tmp_path: Path) -> None:
    own = make_corpus(tmp_path / "own", shards=4)
    path = own.folder / "part-1.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:100] + bytes(2000) + content[2100:])
    said = complaint(prepare(recipe(own), data_dir=tmp_path))
    assert said.startswith("shard part-1.parquet: ")
    assert "damaged" in said


def test_a_corpus_without_enough_documents_says_so(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    path = tmp_path / "own" / "a.jsonl"
    path.write_text('{"text": "one"}\n{"text": "one"}\n{"text": ""}\n')
    own = Corpus(path.parent, {})
    said = complaint(prepare(recipe(own), data_dir=tmp_path))
    assert said == (
        "the corpus of c is too small: of 1 document none is left for train (skipped: 1, duplicates: 1); give more "
        "documents"
    )
    path.write_text("")
    assert "of 0 documents none is left for train" in complaint(prepare(recipe(own), data_dir=tmp_path))
    assert complaint(prepare(recipe(Corpus(tmp_path / "no", {})), data_dir=tmp_path)).startswith(f"{tmp_path / 'no'}")


@pytest.fixture
def copies(tmp_path: Path) -> Corpus:
    """A corpus whose second document is a copy of the first one; none has a line feed."""
    texts = [
        "one fish",
        "one fish",
        *(f"{color} fish, blue fish, old fish, new fish" for color in ("red", "tan", "sky")),
    ]
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.jsonl").write_text("".join(json.dumps({"text": text}) + "\n" for text in texts))
    return Corpus(tmp_path / "own", {"a.jsonl": texts})


@pytest.mark.parametrize("window", [1, WINDOW])
def test_the_second_document_that_is_kept_is_for_the_test_split(copies: Corpus, tmp_path: Path, window: int) -> None:
    of = recipe(copies, test=1e-9, shuffle=False, shuffle_tokens=window)
    dataset = made(of, tmp_path)
    kept = list(dict.fromkeys(copies.documents["a.jsonl"]))
    assert [documents(dataset, split) for split in ("val", "test", "train")] == [kept[:1], kept[1:2], kept[2:]]
    event = list(forecast(of))[-1]
    assert isinstance(event, Forecast)
    assert event.tokens == dataset.meta.tokens


def test_a_tokenizer_is_not_trained_on_the_test_split(
    copies: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    samples: list[str] = []

    def read_sample(path: Path) -> list[str]:
        samples.append(path.read_text())
        return samples

    monkeypatch.setattr("nanogpt.data.corpus.preparation.read_sample", read_sample)
    made(recipe(copies, tokenizer="bpe:260", test=1e-9, shuffle=False), tmp_path)
    assert "tan fish" in samples[0]
    assert "red fish" not in samples[0]


def test_a_split_of_which_only_a_separator_is_left_is_none(tmp_path: Path) -> None:
    (tmp_path / "own").mkdir()
    (tmp_path / "own" / "a.jsonl").write_text('{"text": "a"}\n{"text": "b"}\n{"text": "c"}\n')
    # the first document is for validation: a separator and a byte; the third token is the separator of the next one
    own = recipe(Corpus(tmp_path / "own", {}), max_tokens=3, shuffle=False)
    assert "none is left for train" in complaint(prepare(own, data_dir=tmp_path))
    assert not (tmp_path / "c").exists()


def test_settings_out_of_their_bounds_are_refused(corpus: Corpus, tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"max_docs=2: has to be at least 3"):
        recipe(corpus, max_docs=2)
    assert complaint(prepare(recipe(corpus), data_dir=tmp_path, workers=0)) == "workers=0 must be between 1 and 256"


def test_a_forecast_of_a_small_corpus_is_exact(corpus: Corpus, tmp_path: Path) -> None:
    event = list(forecast(recipe(corpus, test=0.05)))[-1]
    dataset = made(recipe(corpus, test=0.05), tmp_path)
    assert isinstance(event, Forecast)
    assert (event.exact, event.documents, event.files) == (True, 1625, 6)
    assert event.tokens == dataset.meta.tokens
    assert event.characters == dataset.meta.characters


def test_a_forecast_has_the_characters_of_preparing_and_is_not_exact_for_a_trained_tokenizer(
    copies: Corpus, tmp_path: Path
) -> None:
    chars, trained = (list(forecast(recipe(copies, tokenizer=each)))[-1] for each in ("char", "bpe:260"))
    assert isinstance(chars, Forecast)
    assert isinstance(trained, Forecast)
    assert chars.exact
    assert chars.vocab_size == made(recipe(copies, tokenizer="char"), tmp_path).meta.vocab_size
    assert not trained.exact


def test_a_damaged_data_set_of_documents_is_prepared_again_from_documents(corpus: Corpus, tmp_path: Path) -> None:
    dataset = made(recipe(corpus), tmp_path)
    os.truncate(dataset.path / "val.bin", 2)
    with pytest.raises(UserError, match="`nanogpt prepare documents PATH --output=c --force`"):
        open_dataset("c", tmp_path)


def test_a_forecast_of_a_large_corpus_is_an_estimate(
    corpus: Corpus, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = made(recipe(corpus), tmp_path)
    monkeypatch.setattr("nanogpt.data.corpus.forecast.FILES", 3)
    event = list(forecast(recipe(corpus)))[-1]
    assert isinstance(event, Forecast)
    assert not event.exact
    # three of six files: a byte of a table is less text than a byte of compressed lines
    assert sum(event.tokens.values()) == pytest.approx(sum(dataset.meta.tokens.values()), rel=0.25)
    bounded = list(forecast(recipe(corpus, max_tokens=10_000)))[-1]
    assert isinstance(bounded, Forecast)
    assert sum(bounded.tokens.values()) == pytest.approx(10_000, abs=2)


def test_documents_in_another_encoding_are_told_once_and_recorded(tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    for number in range(20):
        (tmp_path / "texts" / f"{number}.txt").write_bytes(f"{number} ".encode() + ("café " * 20).encode("cp1252"))
    texts = textfile_recipe([tmp_path / "texts"], name="c", tokenizer="byte", documents=DocumentSettings())
    warnings = [event for event in prepare(texts, data_dir=tmp_path) if isinstance(event, Notice)]
    (said,) = [event.text for event in warnings if event.level == "warning"]
    assert "is not UTF-8 and is read as Windows-1252: “" in said
    assert "café café" in said
    assert open_dataset("c", tmp_path).meta.source["encoding"] == "cp1252"
