"""From a recipe's source to files on this machine. Knows where text comes from, not what is in it."""

import hashlib
import importlib.metadata
import os
import sysconfig
from collections.abc import Generator, Iterable
from fnmatch import fnmatch
from pathlib import Path

from nanogpt.data.download import cached, download, file_sha256
from nanogpt.data.recipes import FilesSource, PackageSource, Source, StdlibSource, UrlSource
from nanogpt.errors import UserError
from nanogpt.events import Event, Notice


def files_of(source: Source, given: Path | None = None) -> Generator[Event, None, list[Path]]:
    """Yields what there is to report and returns the files, in the order of the text.

    `given` is the file of a `url` source, fetched by hand. Raises UserError where there is no text.
    """
    if given is not None:
        return [_given(source, given)]
    match source:
        case UrlSource():
            return [(yield from download(source))]
        case FilesSource():
            return (yield from _text_files(source.paths))
        case PackageSource():
            return _package_files(source)
        case StdlibSource():
            return _stdlib_files(source)


def works_offline(source: Source) -> bool:
    """Whether the text is on this machine now. Reads none of it."""
    match source:
        case UrlSource():
            path = cached(source)
            return path.is_file() and source.bytes in (None, path.stat().st_size)
        case FilesSource():
            return all(path.exists() for path in source.paths)
        case PackageSource():
            return any(importlib.metadata.distributions(name=source.distribution))
        case StdlibSource():
            return True


def _given(source: Source, path: Path) -> Path:
    if not isinstance(source, UrlSource):
        raise UserError("--source gives by hand what is otherwise downloaded; this recipe downloads nothing")
    try:
        found = file_sha256(path)
    except OSError as error:
        raise UserError(f"{path} cannot be read ({error.strerror}); check its name and its permissions") from error
    if found != source.sha256:
        raise UserError(
            f"{path} is not the expected file: its sha256 is {found[:12]}…, not {source.sha256[:12]}…; "
            f"fetch it from {source.url}, or prepare it as a text of its own"
        )
    return path


def _text_files(given: Iterable[Path]) -> Generator[Event, None, list[Path]]:
    """Files as they are; for a folder the text files below it, sorted, without hidden ones."""
    from nanogpt.data.text import looks_like_text

    files: list[Path] = []
    for path in given:
        if not path.is_dir():
            files.append(path)
            continue
        candidates = sorted(_walk(path))
        texts = [candidate for candidate in candidates if looks_like_text(candidate)]
        if not texts:
            raise UserError(f"no text files in {path}: every file in it is empty, unreadable or binary")
        if left := len(candidates) - len(texts):
            yield Notice(level="info", text=f"{path}: left out {left} of {len(candidates)} files: empty or binary")
        files += texts
    return files


def _walk(folder: Path, exclude: tuple[str, ...] = (".*",)) -> Iterable[Path]:
    """Every file below a folder, without what is excluded by name and without looking into excluded folders."""

    def kept(names: list[str]) -> list[str]:
        return [name for name in names if not any(fnmatch(name, pattern) for pattern in exclude)]

    for parent, folders, names in os.walk(folder):
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
        if path.suffix == ".py" and (content := path.read_bytes()) and (content.isascii() or not source.ascii_only)
    }
    if not found:
        raise UserError(f"this interpreter has no standard library sources in {root}; use another data set")
    return _shuffled(found)


def _shuffled(found: dict[str, Path]) -> list[Path]:
    """In the order of a hash of their names: the same everywhere, and the end, for validation, is like the rest."""
    return [found[name] for name in sorted(found, key=lambda name: hashlib.sha256(name.encode()).digest())]
