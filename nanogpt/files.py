"""Read regular files of a bounded size, replace files and folders atomically, lock, and say why the system refused.

A path may be a pipe, which waits for a writer, or a device, which never ends. Reading one of these, or a file that is
too large, raises OSError like any other refusal of the system. `why` and `reason` turn an error into text.
"""

import errno
import hashlib
import json
import os
import re
import secrets
import shutil
import stat
import tomllib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

if TYPE_CHECKING:
    from filelock import FileLock

SMALL = 1 << 20  # bytes: far more than any settings, status or recipe
DEEPEST = 64  # levels of lists and tables in one another
NOT_REGULAR = "not a regular file"
TOO_DEEP = "its lists or tables are nested too deeply"
_OS_ERROR = re.compile(r"os error (\d+)")
_FLAGS = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)


# What the system refuses and a person can put right: the reason, and what to do.
REFUSALS = {
    errno.EACCES: ("permission denied", "change its permissions"),
    errno.EPERM: ("permission denied", "change its permissions"),
    errno.EROFS: ("the file system is read-only", "mount it writable"),
    errno.ENOSPC: ("the disk is full", "free some space"),
    errno.EDQUOT: ("the disk quota is used up", "free some space"),
    errno.ENOSYS: ("the disk cannot lock files", "mount it with locks"),
    errno.ENAMETOOLONG: ("the name is too long for a file", "give a shorter one"),
}


def reason(error: OSError) -> str:
    """Return why the system refused something, without advice."""
    return REFUSALS[error.errno][0] if error.errno in REFUSALS else error.strerror or str(error)


def why(error: Exception) -> str:
    """Return what went wrong with a file, and what to do if the system refused something that a person can change."""
    if isinstance(error, RecursionError):
        return TOO_DEEP
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 text (byte {error.start:,})"
    if not isinstance(error, OSError):
        return why(system_error(error)) if _OS_ERROR.search(str(error)) else str(error)
    return "; ".join(REFUSALS[error.errno]) if error.errno in REFUSALS else reason(error)


def system_error(error: Exception, path: Path | None = None) -> OSError:
    """Return the OSError that safetensors has only as text: `… (os error 28)`."""
    found = _OS_ERROR.search(str(error))
    number = int(found[1]) if found else errno.EIO
    return OSError(number, os.strerror(number), str(path) if path else None)


def open_regular(path: Path, most: int | None = None) -> BufferedReader:
    """Open a regular file, or the one that a link leads to, for reading.

    Raise OSError, also if it is not a regular file or has more than `most` bytes.
    """
    descriptor = os.open(path, _FLAGS)  # without blocking: opening a pipe would wait for its writer
    about = os.fstat(descriptor)
    if not stat.S_ISREG(about.st_mode) or (most is not None and about.st_size > most):
        os.close(descriptor)
        if stat.S_ISREG(about.st_mode):
            raise _too_large(path, most)
        raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    return os.fdopen(descriptor, "rb")


def check_regular(path: Path) -> None:
    """Raise OSError if `path` exists and is neither a regular file nor a link to one."""
    with suppress(FileNotFoundError):
        if not stat.S_ISREG(path.stat().st_mode):
            raise OSError(errno.EINVAL, NOT_REGULAR, str(path))


def read_bytes(path: Path, most: int = SMALL) -> bytes:
    """Return the content of a regular file of at most `most` bytes. Raise OSError."""
    with open_regular(path, most) as file:
        content = file.read(most + 1)
    if len(content) > most:  # it grew, or is in /proc, where sizes are 0
        raise _too_large(path, most)
    return content


def read_text(path: Path, most: int = SMALL) -> str:
    """Return the text of a regular file in UTF-8 of at most `most` bytes. Raise OSError or ValueError.

    The byte order mark that some editors of Windows write first is left out: neither TOML nor JSON may have one.
    """
    return read_bytes(path, most).decode("utf-8").removeprefix("\N{BYTE ORDER MARK}")


def read_json(path: Path, most: int = SMALL) -> Any:
    """Return the content of a JSON file of at most `most` bytes.

    Raise OSError, or ValueError if it is not JSON or is nested more than `DEEPEST` levels deep.
    """
    return _shallow(json.loads, read_text(path, most))


def read_toml(path: Path, most: int = SMALL) -> dict[str, Any]:
    """Return the content of a TOML file, like `read_json`."""
    tables: dict[str, Any] = _shallow(tomllib.loads, read_text(path, most))
    try:
        repr(tables)
    except ValueError:  # of a hexadecimal number that Python refuses to write in decimal digits
        raise ValueError("it has a number of thousands of digits") from None
    return tables


def _shallow(parse: Callable[[str], Any], text: str) -> Any:
    """Return the parsed text; raise ValueError if it is nested too deeply for the code that shows or compares it."""
    try:
        parsed = parse(text)
    except RecursionError:
        raise ValueError(TOO_DEEP) from None
    level, depth = [parsed], 0
    while level := [each for each in level if isinstance(each, dict | list)]:
        depth += 1
        if depth > DEEPEST:
            raise ValueError(TOO_DEEP)
        level = [inner for each in level for inner in (each.values() if isinstance(each, dict) else each)]
    return parsed


def lines(file: BinaryIO, longest: int) -> Iterator[bytes]:
    """Yield the lines of a file from its position on. A line longer than `longest` bytes is cut to that length."""
    while line := file.readline(longest):
        if len(line) == longest and not line.endswith(b"\n"):
            while (rest := file.readline(longest)) and not rest.endswith(b"\n"):
                pass
            line = line[:-1] + b"\n" if rest else line
        yield line


def write_atomically(path: Path, content: str | bytes, *, durable: bool = True) -> None:
    """Replace `path` by a new file, or leave it as it was. A link is replaced by the file.

    The file has the mode that the umask gives. Unless `durable` is False, its content is on disk before it appears at
    `path`. Raise OSError, also for a device or a pipe.
    """
    with suppress(FileNotFoundError):
        mode = path.lstat().st_mode
        if not stat.S_ISREG(mode) and not stat.S_ISLNK(mode):
            raise OSError(errno.EINVAL, NOT_REGULAR, str(path))
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
    try:
        with partial.open("xb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
        if durable:
            sync(partial)
        partial.replace(path)
    except BaseException:
        with suppress(OSError):
            partial.unlink()
        raise


def _check_absent(path: Path) -> None:
    if os.path.lexists(path):
        raise FileExistsError(errno.EEXIST, "it already exists", str(path))


@contextmanager
def new_folder(path: Path, partial: Path, replaced: Path) -> Iterator[Path]:
    """Yield an empty folder to fill with files. It becomes `path` if the block succeeds, and is removed if it raises.

    It is at `partial` until then, and all of it is on disk before it is renamed. A folder already at `path` is moved to
    `replaced` and then removed. A process that is killed can leave `partial`, or `replaced` with nothing at `path`: the
    caller has to look for both, which must be beside `path`. Raise OSError.
    """
    _check_absent(partial)
    try:
        partial.mkdir()
        yield partial
        publish_folder(path, partial, replaced)
    finally:
        remove(partial, ignore_errors=True)


@contextmanager
def new_file(path: Path, *, durable: bool = True, replace: bool = False) -> Iterator[Path]:
    """Yield the path of a file to write. It becomes `path` if the block succeeds, and is removed if it raises.

    Folders above it are made. Unless `durable` is False, its content is on disk before it appears at `path`. Raise
    OSError, also if `path` exists, unless `replace`.
    """
    if not replace:
        _check_absent(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}.partial")
    try:
        yield partial
        apply_umask(partial)
        if durable:
            sync(partial)
        if replace:
            partial.replace(path)
        else:
            partial.rename(path)
    finally:
        partial.unlink(missing_ok=True)


def publish_folder(path: Path, partial: Path, replaced: Path) -> None:
    """Rename the folder `partial` to `path` once all of its files are on disk, as `new_folder` does. Raise OSError."""
    for folder, _, names in os.walk(partial, topdown=False):
        for name in (*names, ""):
            sync(Path(folder, name))
    is_replacing = os.path.lexists(path)
    if is_replacing:
        path.rename(replaced)
    try:
        partial.rename(path)
    except OSError:
        if is_replacing:
            with suppress(OSError):
                replaced.rename(path)
        raise
    sync(path.parent)
    if is_replacing:
        remove(replaced, ignore_errors=True)


def remove_folder(path: Path, removed: Path, marker: str = "") -> None:
    """Rename a folder to `removed`, which must be beside it, and remove it there. Of a link only the link is removed.

    A process that is killed leaves nothing at `path` and maybe a part at `removed`, without the file `marker`, so that
    nothing takes it for a whole folder. Raise OSError.
    """
    hide_folder(path, removed, marker)
    remove(removed)


def hide_folder(path: Path, removed: Path, marker: str = "") -> None:
    """Do the first part of `remove_folder`, after which `remove(removed)` is left. Raise OSError."""
    remove(removed, ignore_errors=True)  # from a removal that was interrupted
    path.rename(removed)
    if marker and not removed.is_symlink():
        (removed / marker).unlink(missing_ok=True)


def sync(path: Path) -> None:
    """Return when the content of a file, or the names in a folder, are on disk.

    Raise OSError, but not if the file system cannot do this for a folder.
    """
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP, errno.ENOSYS, errno.EBADF) or not path.is_dir():
            raise
    finally:
        os.close(descriptor)


def file_lock(path: Path, *, thread_local: bool = True) -> "FileLock":
    """Return a lock that the system releases when the process ends, even if it is killed.

    `thread_local`: only the thread that acquires it holds it. Acquiring raises OSError on a disk without locks.
    """
    from filelock import FileLock  # here: lists of recipes and data sets need none

    # By default a file that exists would be the lock on such a disk, and a killed process would hold it for ever.
    return FileLock(path, thread_local=thread_local, fallback_to_soft=False)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a regular file as 64 hexadecimal digits. Raise OSError."""
    with open_regular(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def folder_bytes(folder: Path) -> int:
    """Return the size of all files below a folder in bytes. One that is removed meanwhile does not count."""
    total = 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with suppress(OSError):
                total += Path(parent, name).stat().st_size
    return total


def apply_umask(path: Path) -> None:
    """Give a file that a library made private the mode that a new file in its folder gets. Raise OSError."""
    probe = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        with probe.open("xb") as file:
            path.chmod(stat.S_IMODE(os.fstat(file.fileno()).st_mode))
    finally:
        probe.unlink(missing_ok=True)


def remove(path: Path, *, ignore_errors: bool = False) -> None:
    """Remove a file, a folder with its content, or a link without its target.

    Raise OSError, also if `path` does not exist, unless `ignore_errors`.
    """
    try:
        if path.is_symlink() or not path.is_dir():
            path.unlink()
        else:
            shutil.rmtree(path, ignore_errors=ignore_errors)
    except OSError:
        if not ignore_errors:
            raise


def _too_large(path: Path, most: int | None) -> OSError:
    return OSError(errno.EFBIG, f"larger than {most:,} bytes", str(path))
