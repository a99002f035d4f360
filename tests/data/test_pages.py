"""Pages: the documents of a data set or of files, parts of long ones, and parts of a text without documents."""

import json
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from nanogpt.data import open_dataset, prepare, textfile_recipe
from nanogpt.data.pages import PAGE_TOKENS, count_documents, dataset_pages, document_start, file_pages, start_before
from nanogpt.data.split_text import split_text
from nanogpt.data.store import Dataset
from tests.stories import STORIES, prepare_stories


@pytest.fixture
def stories(home: Path, tmp_path: Path) -> Dataset:
    return prepare_stories(tmp_path)


def test_pages_are_documents_and_parts_of_long_ones(stories: Dataset) -> None:
    pages = list(dataset_pages(stories, "train"))
    assert [page.text for page in pages[:2]] == STORIES[:2]
    assert "".join(page.text for page in pages[2:]) == STORIES[2]
    assert [page.ends_document for page in pages] == [True, True, *[False] * (len(pages) - 3), True]
    assert all(page.tokens is not None and len(page.tokens) <= PAGE_TOKENS for page in pages)
    assert count_documents(stories, "train") == 3
    for before, page in pairwise(pages[:3]):
        assert start_before(stories, "train", page.start) == before.start
    assert document_start(stories, "train", 0.0) == 0


def test_an_end_of_text_before_each_document_gives_the_same_pages(stories: Dataset) -> None:
    ids = np.roll(np.asarray(stories.split("train")[:]), 1)  # the last one comes first
    ids.astype("<u2").tofile(stories.path / "train.bin")
    assert [page.text for page in dataset_pages(stories, "train")][:2] == STORIES[:2]


def test_the_end_of_a_split_is_its_last_document(stories: Dataset) -> None:
    ids = np.asarray(stories.split("train")[:])
    third = next(page.start for page in dataset_pages(stories, "train") if page.text.startswith(STORIES[2][:20]))
    np.roll(ids, -third).astype("<u2").tofile(stories.path / "train.bin")  # the two short ones are the last
    start = document_start(stories, "train", 1.0)
    assert [page.text for page in dataset_pages(stories, "train", start)] == [STORIES[1]]


def test_a_text_without_documents_is_cut_into_pages_that_join_to_it(home: Path, text_file: Path) -> None:
    list(prepare(textfile_recipe([text_file])))
    dataset = open_dataset("small")
    pages = list(dataset_pages(dataset, "train"))
    train = text_file.read_text()[: dataset.meta.tokens["train"]]
    assert "".join(page.text for page in pages) == train
    assert not any(page.ends_document for page in pages)
    assert start_before(dataset, "train", pages[2].start) == pages[1].start
    assert count_documents(dataset, "train") is None


def test_files_have_the_documents_of_their_format_or_their_text(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text("".join(json.dumps({"text": story}) + "\n" for story in STORIES))
    (tmp_path / "b.txt").write_text("plain")
    pages = list(file_pages([tmp_path / "a.jsonl", tmp_path / "b.txt"], None))
    assert [(page.text, page.ends_document) for page in (pages[0], pages[1], pages[-1])] == [
        (STORIES[0], True),
        (STORIES[1], True),
        ("plain", True),
    ]
    assert "".join(page.text for page in pages[2:-1]) == STORIES[2]
    assert {page.origin for page in pages} == {"a.jsonl", "b.txt"}


def test_the_text_of_a_split_has_no_name_of_a_special_token(stories: Dataset) -> None:
    assert "".join(split_text(stories, "train")) == "".join(story + "\n" for story in STORIES)
