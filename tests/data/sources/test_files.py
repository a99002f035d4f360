"""Local text files and folders of them."""

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from nanogpt.data import preparation, sources
from nanogpt.errors import UserError
from nanogpt.events import Notice
from tests.generators import outcome


@contextmanager
def nobody() -> Iterator[None]:
    """Within it this process has no privileges: the superuser reads everything."""
    if os.geteuid():
        yield
        return
    "".encode("utf-32-le")  # loads the codec: without privileges it may be unreadable
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
        _, files = outcome(sources.create("files", paths=(folder,)).files())
        notice, *_ = sources.create("files", paths=(folder,)).files()
        with pytest.raises(UserError, match=r"closed cannot be read; check its permissions"):
            outcome(sources.create("files", paths=(folder / "closed",)).files())
        (given,) = outcome(sources.create("files", paths=(folder / "closed" / "b.txt",)).files())[0]
        with pytest.raises(UserError, match=r"b\.txt cannot be read \(permission denied\)"):
            outcome(preparation.scan_files([given]))
    (folder / "closed").chmod(0o755)
    assert files == [folder / "a.txt"]
    assert isinstance(notice, Notice)
    assert notice.level == "warning"
    assert notice.text == (
        f"{folder}: skipped 3 of 4 files: gone.txt (cannot be read), secret.txt (cannot be read), "
        "closed (cannot be read)"
    )
