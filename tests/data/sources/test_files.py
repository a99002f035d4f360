"""Local text files and folders of them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nanogpt.data import formats, scanning, sources, text
from nanogpt.data.sources import files as files_source
from nanogpt.data.sources.base import local_shards
from nanogpt.errors import UserError
from nanogpt.events import Encoding, Notice, Skipped
from tests.generators import outcome


@contextmanager
def nobody() -> Iterator[None]:
    """Within it this process has no privileges: the superuser reads everything."""
    if os.geteuid():
        yield
        return
    # These are loaded at the first use: without privileges they may be unreadable.
    "".encode("utf-32-le")
    formats.find(Path("a.txt"))
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def public() -> Iterator[Path]:
    """A folder that everybody can read: pytest's own are closed to others."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


def test_what_cannot_be_read_in_a_folder_is_skipped_and_named(public: Path) -> None:
    folder = public / "texts"
    for name in ("a.txt", "secret.txt", "closed/b.txt"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text("some text " * 10)
    (folder / "gone.txt").symlink_to(folder / "nowhere")
    (folder / "secret.txt").chmod(0)
    (folder / "closed").chmod(0)
    with nobody():
        *events, files = outcome(sources.create("files", paths=(folder,)).files())
        with pytest.raises(UserError, match=r"closed cannot be read; check its permissions"):
            outcome(sources.create("files", paths=(folder / "closed",)).files())
        (given,) = outcome(sources.create("files", paths=(folder / "closed" / "b.txt",)).files())[0]
        with pytest.raises(UserError, match=r"b\.txt cannot be read \(permission denied\)"):
            outcome(scanning.scan_files([given]))
    (folder / "closed").chmod(0o755)
    assert files == [folder / "a.txt"]
    (skipped,) = [event for event in events if isinstance(event, Skipped)]
    assert (skipped.what, skipped.counts) == ("files", {"cannot be read": 3})
    (notice,) = [event for event in events if isinstance(event, Notice)]
    assert notice.level == "warning"
    assert notice.text == f"{folder}: skipped 3 of 4 files: 3 cannot be read (gone.txt, secret.txt, closed)"


def test_a_folder_with_binaries_and_a_circle_of_links_gives_its_texts(tmp_path: Path) -> None:
    (tmp_path / "deep" / "er").mkdir(parents=True)
    (tmp_path / "deep" / "er" / "loop").symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "self.txt").symlink_to(tmp_path / "self.txt")
    os.mkfifo(tmp_path / "pipe")
    for name, content in {
        "a.txt": b"text",
        "deep/er/b.py": b"print()",
        "c.jsonl": b'{"text": "c"}',
        "d.csv": b"a,b\nx,y\n",
        "e.txt": "道可".encode("gbk"),
        "f.png": b"\x89PNG\r\n\x1a\n\0\0",
        "g.bin": bytes(range(256)) * 9,
        "h.txt": b"",
        ".hidden": b"text",
    }.items():
        (tmp_path / name).write_bytes(content)
    *events, files = outcome(sources.create("files", paths=(tmp_path,)).files())
    assert [str(file.relative_to(tmp_path)) for file in files] == ["a.txt", "c.jsonl", "deep/er/b.py"]
    (counts,) = [event.counts for event in events if isinstance(event, Skipped)]
    assert counts == {
        "no text column": 1,
        "encoding not certain": 1,
        "not text": 2,
        "empty": 1,
        "cannot be read": 2,
        "links to folders": 1,
    }
    (notice,) = [event.text for event in events if isinstance(event, Notice)]
    assert "skipped 8 of 11 files: " in notice
    assert "2 not text (f.png, g.bin)" in notice
    assert "1 links to folders (deep/er/loop)" in notice


def test_the_search_of_a_folder_can_be_cancelled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(9):
        (tmp_path / f"{number}.txt").write_text("text")
    looked_into: list[Path] = []

    def look(path: Path, encoding: None, text_column: None) -> str:
        looked_into.append(path)
        return ""

    monkeypatch.setattr(text, "exclusion_reason", look)
    monkeypatch.setattr(files_source, "REPORT_INTERVAL_S", -1.0)
    search = sources.create("files", paths=(tmp_path,)).files()
    event = next(search)
    search.close()
    assert isinstance(event, Encoding)
    assert (event.done_bytes, event.total_bytes, len(looked_into)) == (0, 0, 1)
    *_, found = outcome(sources.create("files", paths=(tmp_path,)).files())
    assert found == sorted(tmp_path.iterdir())


def test_shards_may_be_given_by_relative_and_absolute_paths_together(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    Path("a").write_text("a")
    (tmp_path / "b").write_text("b")
    shards = local_shards([Path("a"), tmp_path / "b"])
    assert [(shard.name, shard.path) for shard in shards] == [
        ("b", str(tmp_path / "b")),
        ("here/a", str(tmp_path / "here" / "a")),
    ]
    assert [shard.name for shard in local_shards([Path("a"), Path("../b")])] == ["../b", "a"]
