"""From a recipe's source to files on this machine. Knows where text comes from, not what is in it."""

import hashlib
import importlib.metadata
import os
import sysconfig
from collections.abc import Generator, Iterable
from fnmatch import fnmatch
from pathlib import Path

from nanogpt.data.download import cached, download
from nanogpt.data.recipes import FilesSource, PackageSource, Source, StdlibSource, UrlSource
from nanogpt.errors import UserError
from nanogpt.events import Event, Notice
from nanogpt.files import reason, sha256

SHOWN = 3  # files that are left out, by name


def files_of(
    source: Source, given: Path | None = None, encoding: str | None = None
) -> Generator[Event, None, list[Path]]:
    """Yields what there is to report and returns the files, in the order of the text.

    `given` is the file of a `url` source, fetched by hand; `encoding` that of the files, where it is known. Raises
    UserError where there is no text.
    """
    if given is not None:
        return [_given(source, given)]
    match source:
        case UrlSource():
            return [(yield from download(source))]
        case FilesSource():
            return (yield from _text_files(source.paths, encoding))
        case PackageSource():
            return _package_files(source)
        case StdlibSource():
            return _stdlib_files(source)


def works_offline(source: Source) -> bool:
    """Whether the text is on this machine now. Reads none of it."""
    match source:
        case UrlSource():
            path = cached(source)
            return os.path.isfile(path) and source.bytes in (None, path.stat().st_size)  # noqa: PTH113 (pathlib's raises without permission)
        case FilesSource():
            return all(os.path.exists(path) for path in source.paths)  # noqa: PTH110 (the same)
        case PackageSource():
            return any(importlib.metadata.distributions(name=source.distribution))
        case StdlibSource():
            return True


def _given(source: Source, path: Path) -> Path:
    if not isinstance(source, UrlSource):
        raise UserError("--source gives by hand what is otherwise downloaded; this recipe downloads nothing")
    try:
        found = sha256(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({reason(error)}); check its name and its permissions") from error
    if found != source.sha256:
        raise UserError(
            f"{path} is not the expected file: its sha256 is {found[:12]}…, not {source.sha256[:12]}…; "
            f"fetch it from {source.url}, or prepare it under a name of its own: "
            f"`nanogpt prepare textfile FILE --output=NAME`"
        )
    return path


def _text_files(given: Iterable[Path], encoding: str | None) -> Generator[Event, None, list[Path]]:
    """Files as they are; for a folder the text files below it, sorted, without hidden ones."""
    from nanogpt.data.text import UNREADABLE, what_keeps_out

    files: list[Path] = []
    for path in given:
        if not os.path.isdir(path):  # noqa: PTH112 (pathlib's raises without permission)
            files.append(path)
            continue
        unlisted: list[Path] = []
        candidates = sorted(_walk(path, unlisted=unlisted))
        reasons = {candidate: what_keeps_out(candidate, encoding) for candidate in candidates}
        texts = [candidate for candidate in candidates if not reasons[candidate]]
        reasons |= dict.fromkeys(unlisted, UNREADABLE)
        if not texts:
            if path in unlisted:
                raise UserError(f"{path} cannot be read; check its permissions")
            raise UserError(f"no text files in {path}: every file in it is empty, unreadable or binary")
        left_out = [f"{out.relative_to(path)} ({reason})" for out, reason in reasons.items() if reason]
        if left_out:
            names = ", ".join(left_out[:SHOWN]) + (", …" if len(left_out) > SHOWN else "")
            yield Notice(
                level="warning" if UNREADABLE in reasons.values() else "info",
                text=f"{path}: left out {len(left_out):,} of {len(reasons):,} files: {names}",
            )
        files += texts
    return files


def _walk(folder: Path, exclude: tuple[str, ...] = (".*",), unlisted: list[Path] | None = None) -> Iterable[Path]:
    """Every file below a folder, without what is excluded by name and without looking into excluded folders.

    Folders that cannot be listed are added to `unlisted`.
    """

    def kept(names: list[str]) -> list[str]:
        return [name for name in names if not any(fnmatch(name, pattern) for pattern in exclude)]

    def on_error(error: OSError) -> None:
        if unlisted is not None:
            unlisted.append(Path(error.filename))

    for parent, folders, names in os.walk(folder, onerror=on_error):
        folders[:] = kept(folders)
        yield from (Path(parent, name) for name in kept(names))


def _package_files(source: PackageSource) -> list[Path]:
    try:
        listed = importlib.metadata.files(source.distribution) or []
    except importlib.metadata.PackageNotFoundError as error:
        raise UserError(
            f"the package {source.distribution} is not installed: run `pip install --no-deps {source.distribution}`"
        ) from error
    found = {str(file): Path(str(file.locate())) for file in listed if fnmatch(str(file), source.glob)}
    if not found:
        raise UserError(f"the installed package {source.distribution} has no files {source.glob}; another version may")
    return _shuffled(found)


def _stdlib_files(source: StdlibSource) -> list[Path]:
    root = Path(sysconfig.get_paths()["stdlib"])
    found = {
        path.relative_to(root).as_posix(): path
        for path in _walk(root, source.exclude)
        if path.suffix == ".py" and (content := _content(path)) and (content.isascii() or not source.ascii_only)
    }
    if not found:
        raise UserError(f"this interpreter has no standard library sources in {root}; use another data set")
    return _shuffled(found)


def _content(path: Path) -> bytes:
    """What is in a file; nothing where it cannot be read."""
    try:
        return path.read_bytes()
    except OSError:
        return b""


def _shuffled(found: dict[str, Path]) -> list[Path]:
    """In the order of a hash of their names: the same everywhere, and the end, for validation, is like the rest."""
    return [found[name] for name in sorted(found, key=lambda name: hashlib.sha256(name.encode()).digest())]
