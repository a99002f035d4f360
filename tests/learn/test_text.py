"""The text of the lessons: the learner's data set, or what every Python has."""

import sys
from pathlib import Path

import pytest

from nanogpt.learn.text import LONGEST, SHORTEST, lesson_text, python_text
from tests.lessons import prepare_text


def test_without_a_data_set_it_is_the_prose_of_pythons_documentation() -> None:
    found = lesson_text()
    assert found == python_text()
    assert found.origin == "Python's own documentation"
    assert found.text.isascii()
    assert SHORTEST < len(found.text) <= LONGEST
    assert "\n\n" in found.text
    assert not any(line.startswith(" ") for line in found.text.splitlines())


def test_tiny_shakespeare_is_preferred(tmp_path: Path, text: str) -> None:
    prepare_text(tmp_path, "another", text)
    assert lesson_text().origin == "your data set another"
    prepare_text(tmp_path, "shakespeare_char", text.upper())
    found = lesson_text()
    assert found.origin == "your data set shakespeare_char"
    assert text.upper().startswith(found.text)


def test_a_short_or_damaged_data_set_is_not_used(tmp_path: Path, home: Path, text: str) -> None:
    prepare_text(tmp_path, "short", text[:1000])
    prepare_text(tmp_path, "damaged", text)
    (home / "data" / "damaged" / "meta.json").write_text("{")
    assert lesson_text() == python_text()


def test_without_its_documentation_it_is_pythons_source(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    monkeypatch.setattr("nanogpt.learn.text.LONGEST", 30_000)
    found = python_text()
    assert found.origin == "Python's own source code"
    assert len(found.text) == 30_000
    assert "def " in found.text
