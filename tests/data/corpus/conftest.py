"""A small corpus for the tests of this folder: documents in two formats, and what is in them."""

import gzip
import json
import random
from dataclasses import dataclass
from pathlib import Path

import pyarrow
import pyarrow.parquet
import pytest

WORDS = "the and of to a in that is was he for it with as his on be at by had not are but from or".split()  # noqa: SIM905


@dataclass(frozen=True)
class Corpus:
    """A folder of shards. `documents` has the texts of each, in order, without what is to be skipped."""

    folder: Path
    documents: dict[str, list[str]]

    @property
    def texts(self) -> set[str]:
        """The distinct documents."""
        return {text for texts in self.documents.values() for text in texts}


def make_documents(count: int, seed: int) -> list[str]:
    """Return texts of some words, of which one in ten occurs in every shard."""
    draw = random.Random(seed)
    return [
        f"copy {draw.randrange(5)}"
        if number % 10 == 3
        else f"{seed}/{number}: " + " ".join(draw.choices(WORDS, k=draw.randrange(1, 60))) + " – ende\n"
        for number in range(count)
    ]


def make_corpus(folder: Path, shards: int = 6, documents: int = 300) -> Corpus:
    """Write Parquet tables and JSON lines; these also have two lines that are no documents."""
    folder.mkdir()
    made = {}
    for number in range(shards):
        texts = make_documents(documents, seed=number)
        if number % 2:
            name = f"part-{number}.parquet"
            table = pyarrow.table({"id": list(range(len(texts))), "text": texts})
            pyarrow.parquet.write_table(table, folder / name, row_group_size=64)
        else:
            name = f"part-{number}.jsonl.gz"
            lines = [json.dumps({"text": text}) for text in texts]
            lines[10:10] = ['{"text": null}', "not JSON"]
            (folder / name).write_bytes(gzip.compress("\n".join(lines).encode()))
        made[name] = texts
    return Corpus(folder, made)


@pytest.fixture(scope="session")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Corpus:
    """Six shards of 300 documents each, of which five texts occur more than once."""
    return make_corpus(tmp_path_factory.mktemp("corpus") / "shards")


@pytest.fixture(autouse=True)
def folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep what a test downloads or prepares in its own folder."""
    monkeypatch.setenv("NANOGPT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("NANOGPT_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.setenv("no_proxy", "*")
