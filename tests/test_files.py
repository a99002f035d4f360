"""Reading only regular files of a bounded size, replacing files whole, and links that are removed as links."""

import errno
import io
import os
import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from nanogpt import files


@pytest.fixture(params=["pipe", "device", "link to a device", "folder"])
def odd(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """Something that opens and is no regular file."""
    path = tmp_path / "odd"
    match request.param:
        case "pipe":
            os.mkfifo(path)
        case "device":
            return Path("/dev/zero")
        case "link to a device":
            path.symlink_to("/dev/zero")
        case "folder":
            path.mkdir()
    return path


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0o027)
    yield
    os.umask(before)


def test_what_is_no_regular_file_is_refused_at_once(odd: Path) -> None:
    for read in (files.read_bytes, files.open_regular, files.check_regular):
        with pytest.raises(OSError, match="not a regular file"):
            read(odd)


def test_a_file_is_read_up_to_its_bound_also_through_a_link(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"12345")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    assert files.read_bytes(tmp_path / "link", 5) == b"12345"
    with pytest.raises(OSError, match="larger than 4 bytes"):
        files.read_bytes(tmp_path / "file", 4)


def test_a_line_that_is_too_long_costs_itself_alone() -> None:
    text = b"ab\n" + b"x" * 40 + b"\ncd\n" + b"y" * 40
    assert list(files.lines(io.BytesIO(text), 8)) == [b"ab\n", b"x" * 7 + b"\n", b"cd\n", b"y" * 8]


def test_writing_replaces_a_link_and_leaves_its_target(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("precious")
    (tmp_path / "link").symlink_to(tmp_path / "file")
    files.write_atomically(tmp_path / "link", "new")
    assert (tmp_path / "file").read_text() == "precious"
    assert (tmp_path / "link").read_text() == "new"
    assert not (tmp_path / "link").is_symlink()
    assert sorted(each.name for each in tmp_path.iterdir()) == ["file", "link"]


def test_a_pipe_is_not_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        files.write_atomically(tmp_path / "pipe", "new")
    assert stat.S_ISFIFO((tmp_path / "pipe").stat().st_mode)


@pytest.mark.usefixtures("umask")
def test_a_file_has_the_mode_that_the_umask_asks_for(tmp_path: Path) -> None:
    files.write_atomically(tmp_path / "new", "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640  # 666 less 027
    (tmp_path / "new").chmod(0o600)
    files.apply_umask(tmp_path / "new")
    assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
    assert [each.name for each in tmp_path.iterdir()] == ["new"]


def write_folder(path: Path, content: str) -> None:
    with files.new_folder(path, path.with_suffix(".partial"), path.with_suffix(".replaced")) as folder:
        assert folder.parent == path.parent
        (folder / "file").write_text(content)


def test_a_new_folder_takes_the_place_of_another_when_all_of_it_is_on_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, synced, fsync = tmp_path / "folder", set[tuple[int, bool]](), os.fsync

    def record(descriptor: int) -> None:
        fsync(descriptor)
        synced.add((os.fstat(descriptor).st_ino, (path / "file").exists() and (path / "file").read_text() == "new"))

    write_folder(path, "old")
    monkeypatch.setattr(os, "fsync", record)
    write_folder(path, "new")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
    assert (path / "file").read_text() == "new"
    # The file and its folder before the new content appears, the folder around them afterwards.
    assert synced == {
        ((path / "file").stat().st_ino, False),
        (path.stat().st_ino, False),
        (tmp_path.stat().st_ino, True),
    }


def test_a_new_folder_that_cannot_be_finished_leaves_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rename = tmp_path / "folder", Path.rename
    write_folder(path, "old")

    def refuse(self: Path, target: Path) -> Path:
        if self.suffix == ".partial":
            raise OSError(errno.EIO, os.strerror(errno.EIO))
        return rename(self, target)

    with pytest.raises(UnicodeEncodeError):  # in the block
        write_folder(path, "\ud800")
    monkeypatch.setattr(Path, "rename", refuse)
    with pytest.raises(OSError, match=os.strerror(errno.EIO)):
        write_folder(path, "new")
    assert [each.name for each in tmp_path.iterdir()] == ["folder"]
    assert (path / "file").read_text() == "old"


def test_a_removal_that_is_interrupted_leaves_a_folder_without_its_marker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    path, removed = tmp_path / "folder", tmp_path / "removed"
    path.mkdir()
    for name in ("a", "marker", "z"):
        (path / name).write_text(name)
    with monkeypatch.context() as patch:
        patch.setattr("shutil.rmtree", interrupt)
        with pytest.raises(KeyboardInterrupt):
            files.remove_folder(path, removed, marker="marker")
    assert sorted(each.name for each in removed.iterdir()) == ["a", "z"]
    (path / "again").mkdir(parents=True)
    files.remove_folder(path, removed, marker="marker")
    assert list(tmp_path.iterdir()) == []


def test_of_a_link_the_link_alone_is_removed(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "file").write_text("precious")
    for target in ("folder", "folder/file", "nowhere"):
        (tmp_path / "link").symlink_to(tmp_path / target)
        files.remove(tmp_path / "link")
        assert not os.path.lexists(tmp_path / "link")
    assert (tmp_path / "folder" / "file").read_text() == "precious"
    files.remove(tmp_path / "folder")
    assert not (tmp_path / "folder").exists()
    files.remove(tmp_path / "folder", ignore_errors=True)
    with pytest.raises(FileNotFoundError):
        files.remove(tmp_path / "folder")


def test_a_refusal_of_the_system_is_named_with_what_to_do() -> None:
    assert files.why(PermissionError(13, "Permission denied", "x")) == "permission denied; change its permissions"
    assert files.why(OSError(errno.ENOSPC, "No space left on device", "x")) == "the disk is full; free some space"
    assert files.reason(OSError(errno.ENOSPC, "No space left on device", "x")) == "the disk is full"
    assert files.why(OSError(5, "Input/output error", "x")) == "Input/output error"
    assert files.why(ValueError("line 1")) == "line 1"


@pytest.mark.parametrize("levels", [65, 900, 100_000])  # one too many, what json still parses, what it does not
def test_what_is_nested_too_deeply_is_said_to_be_so(tmp_path: Path, levels: int) -> None:
    (tmp_path / "deep.json").write_text("[" * levels + "]" * levels)
    with pytest.raises(ValueError, match="nested too deeply"):
        files.read_json(tmp_path / "deep.json")
    (tmp_path / "deep.toml").write_text("a = " + "[" * levels + "]" * levels)
    with pytest.raises(ValueError, match="nested too deeply"):
        files.read_toml(tmp_path / "deep.toml")


def test_what_is_nested_as_deeply_as_anybody_nests_is_read(tmp_path: Path) -> None:
    (tmp_path / "some.json").write_text("[" * 63 + '{"a": 1}' + "]" * 63)
    inner = files.read_json(tmp_path / "some.json")
    for _ in range(63):
        [inner] = inner
    assert inner == {"a": 1}


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (RecursionError("maximum recursion depth exceeded"), "its lists or tables are nested too deeply"),
        (UnicodeDecodeError("utf-8", b"ab\xff", 2, 3, "invalid start byte"), "not UTF-8 text (byte 2)"),
    ],
)
def test_a_message_of_python_s_own_is_put_into_words(error: Exception, words: str) -> None:
    assert files.why(error) == words


def test_the_sha256_of_a_file_is_that_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "abc").write_bytes(b"abc")
    # FIPS 180-2, appendix B.1
    expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert files.sha256(tmp_path / "abc") == expected


@pytest.mark.parametrize("name", ["folder", "file"])
@pytest.mark.parametrize("number", [errno.EINVAL, errno.EIO])
def test_only_that_folders_cannot_be_synced_there_is_no_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, number: int
) -> None:
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").write_bytes(b"")

    def refuse(descriptor: int) -> None:
        raise OSError(number, os.strerror(number))

    files.sync(tmp_path / name)
    monkeypatch.setattr(os, "fsync", refuse)
    if (name, number) == ("folder", errno.EINVAL):
        files.sync(tmp_path / name)
    else:
        with pytest.raises(OSError, match=os.strerror(number)):
            files.sync(tmp_path / name)


def test_a_byte_order_mark_is_no_part_of_the_text(tmp_path: Path) -> None:
    (tmp_path / "a.toml").write_text("a = 1\n", encoding="utf-8-sig")
    (tmp_path / "a.json").write_text('{"a": 1}', encoding="utf-8-sig")
    assert files.read_toml(tmp_path / "a.toml") == files.read_json(tmp_path / "a.json") == {"a": 1}


def test_what_safetensors_says_of_the_system_is_in_the_same_words():
    said = Exception("Error while serializing: I/O error: No space left on device (os error 28)")
    assert files.why(said) == files.why(OSError(errno.ENOSPC, "")) == "the disk is full; free some space"
    assert files.system_error(said, Path("a")).errno == errno.ENOSPC
    assert files.why(Exception("header too large")) == "header too large"


def test_a_folder_that_another_process_is_writing_stays(tmp_path: Path) -> None:
    (tmp_path / "partial").mkdir()
    (tmp_path / "partial" / "file").write_text("its own")
    with pytest.raises(FileExistsError), files.new_folder(tmp_path / "new", tmp_path / "partial", tmp_path / "old"):
        pass
    assert (tmp_path / "partial" / "file").read_text() == "its own"
