"""Standard input and named pipes as texts: they are stored in a file first, because a text is read more than once."""

import errno
import os
import stat
import sys
import time
from collections.abc import Generator
from contextlib import ExitStack
from pathlib import Path
from typing import BinaryIO

from nanogpt.data import store
from nanogpt.errors import UserError
from nanogpt.events import Event, Notice, Receiving
from nanogpt.files import remove, why

STANDARD_INPUT = Path("-")
BLOCK_BYTES = 1 << 20
REPORT_INTERVAL_S = 0.05


def spool(
    paths: list[Path], folder: Path, cleanup: ExitStack
) -> Generator[Event, None, tuple[list[Path], dict[Path, str]]]:
    """Store each stream among the paths in a file beside `folder`, and yield the progress.

    Return the paths with those of the files in place of the streams, and what the files have come from. `cleanup`
    removes the files; those of a process that was killed are removed with its other stale files. Raise `UserError`.
    """
    if paths.count(STANDARD_INPUT) > 1:
        raise UserError("standard input (-) can be read only once")
    found: list[Path] = []
    names: dict[Path, str] = {}
    for path in paths:
        if not is_stream(path):
            found.append(path)
            continue
        name = "standard input" if path == STANDARD_INPUT else str(path)
        partial = store.temporary_path(folder, "part")
        partial = partial.with_name(partial.name + path.suffix)  # which says its format
        cleanup.callback(remove, partial, ignore_errors=True)
        yield from _copy(path, name, partial)
        found.append(partial)
        names[partial] = name
    return found, names


def is_stream(path: Path) -> bool:
    """Return whether a path is standard input, `-`, or a pipe."""
    if path == STANDARD_INPUT:
        return True
    try:
        return stat.S_ISFIFO(os.stat(path).st_mode)  # noqa: PTH116 (pathlib's raises without permission)
    except OSError:
        return False


def _copy(path: Path, name: str, target: Path) -> Generator[Event, None, None]:
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        store.remove_stale_folders(target.parent)
        file = target.open("xb", buffering=0)
    except OSError as error:
        raise UserError(f"cannot write in {target.parent}: {why(error)}") from error
    with file, _open(path, name) as stream:
        if stream.isatty():
            yield Notice(level="info", text="reading the text from the terminal; end it with Ctrl+D")
        done, reported = 0, 0.0
        while block := _read(stream, name):
            try:
                file.write(block)
            except OSError as error:
                problem = "the disk is full" if error.errno in (errno.ENOSPC, errno.EDQUOT) else why(error)
                raise UserError(f"cannot store {name} in {target.parent}: {problem}") from error
            done += len(block)
            if time.monotonic() - reported > REPORT_INTERVAL_S:
                reported = time.monotonic()
                yield Receiving(source=name, done_bytes=done)
        yield Receiving(source=name, done_bytes=done)


def _open(path: Path, name: str) -> BinaryIO:
    try:
        if path == STANDARD_INPUT:
            return os.fdopen(os.dup(sys.__stdin__.fileno() if sys.__stdin__ else 0), "rb", buffering=0)
        return path.open("rb", buffering=0)
    except (OSError, ValueError) as error:
        raise UserError(f"{name} cannot be read: {why(error)}") from error


def _read(stream: BinaryIO, name: str) -> bytes:
    try:
        return stream.read(BLOCK_BYTES) or b""
    except OSError as error:
        raise UserError(f"{name} cannot be read: {why(error)}") from error
