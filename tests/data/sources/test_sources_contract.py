"""What every kind of source promises."""

import sys
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import pytest

from nanogpt import registry
from nanogpt.data import sources
from nanogpt.data.recipes import load_recipe, recipe_paths, textfile_recipe
from nanogpt.data.sources.base import Source
from nanogpt.errors import UserError
from nanogpt.tokenizers.base import completed

MIRROR = sources.create("mirror", urls=("https://example.com/corpus",), names=("a.jsonl",))
EXAMPLES = [*(load_recipe(name).source for name in recipe_paths()), textfile_recipe([__file__]).source, MIRROR]

every_kind = pytest.mark.parametrize("kind", sources.names())
every_example = pytest.mark.parametrize("source", EXAMPLES, ids=lambda source: source.name)


def test_each_module_of_the_room_is_a_source_and_each_has_an_example() -> None:
    assert (
        {"files", "hub", "mirror", "package", "stdlib", "url"}
        <= set(sources.names())
        == {source.name for source in EXAMPLES}
    )


@every_kind
def test_it_has_files_or_is_a_corpus_of_shards(kind: str) -> None:
    source = sources.source_class(kind)
    assert source.is_corpus == (source.files is Source.files)
    assert source.shards is not Source.shards or not source.is_corpus


@every_kind
def test_it_is_a_frozen_dataclass_that_a_recipe_can_describe(kind: str, tmp_path: Path) -> None:
    source = sources.source_class(kind)
    assert (source.name, is_dataclass(source)) == (kind, True)
    assert source.__dataclass_params__.frozen  # type: ignore[attr-defined]
    with pytest.raises(UserError, match=r"x: unknown key 'nonsense'"):
        sources.from_table({"kind": kind, "nonsense": 1}, "x", tmp_path)
    for field in fields(source):
        with pytest.raises(UserError, match=f"x: {field.name} = .* must be"):
            sources.from_table({"kind": kind, field.name: {}}, "x", tmp_path)


@every_example
def test_it_declares_what_it_downloads(source: Source, tmp_path: Path) -> None:
    (tmp_path / "other.txt").write_text("another text")
    complaint = "is not the expected file" if source.downloads else "downloads nothing; leave it out"
    with pytest.raises(UserError, match=complaint):
        source.check_local_copy(tmp_path / "other.txt")
    assert source.downloads or source.download_bytes is None
    assert bool(source.expected_sha256) >= source.downloads


@every_example
def test_it_says_where_its_text_is_from(source: Source) -> None:
    assert source.describe().strip()
    assert "\n" not in source.describe()
    assert isinstance(source.available_offline(), bool)


def test_an_unknown_source_lists_the_known_ones() -> None:
    with pytest.raises(
        UserError, match=r"no source 'ulr'; known sources: files, hub, mirror, package, stdlib, url\. Did you mean url"
    ):
        sources.create("ulr")


def test_a_new_source_is_one_file(tmp_path: Path) -> None:
    """A module in the room is found, and its settings and paths come from the recipe's table."""
    (tmp_path / "lines.py").write_text(
        "from dataclasses import dataclass\n"
        "from pathlib import Path\n"
        "from typing import ClassVar\n"
        "from nanogpt.data.sources import base\n"
        "@dataclass(frozen=True, slots=True, kw_only=True)\n"
        "class Source(base.Source):\n"
        "    name: ClassVar[str] = 'lines'\n"
        "    path: Path\n"
        "    first: int = 1\n"
        "    share: float | None = None\n"
        "    def files(self, encoding=None):\n"
        "        yield from ()\n"
        "        return [self.path]\n"
        "    def available_offline(self): return True\n"
        "    def describe(self): return str(self.path)\n"
    )
    sources.__path__.append(str(tmp_path))
    registry._found.cache_clear()
    try:
        table = {"kind": "lines", "path": "a.txt", "share": 1}
        source: Any = sources.from_table(table, "x", tmp_path)
        assert (source.path, source.first, source.share) == (tmp_path / "a.txt", 1, 1)
        with pytest.raises(UserError, match="x: 'path' is missing"):
            sources.from_table({"kind": "lines"}, "x", tmp_path)
    finally:
        sources.__path__.remove(str(tmp_path))
        sys.modules.pop("nanogpt.data.sources.lines", None)
        registry._found.cache_clear()


@pytest.mark.parametrize("name", ["../b.jsonl", "/b.jsonl", "file:///etc/passwd", "https://example.org/b.jsonl"])
def test_no_name_of_a_mirror_leads_out_of_its_folder(name: str) -> None:
    with pytest.raises(UserError, match=r"leads out of https://example\.com/corpus/"):
        completed(sources.create("mirror", urls=("https://example.com/corpus",), names=(name,)).shards())
