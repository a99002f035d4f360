"""Lists of files that several sources share."""

import hashlib
import os
from collections.abc import Iterator, Mapping
from fnmatch import fnmatch
from pathlib import Path


def walk(
    folder: Path, exclude: tuple[str, ...], unreadable: list[Path] | None = None, linked: list[Path] | None = None
) -> Iterator[Path]:
    """Yield every file below a folder, except those in folders or with names that match a pattern of `exclude`.

    Folders that cannot be listed are added to `unreadable`, and links to folders, which are not followed, to `linked`.
    """

    def included(names: list[str]) -> list[str]:
        return [name for name in names if not any(fnmatch(name, pattern) for pattern in exclude)]

    def on_error(error: OSError) -> None:
        if unreadable is not None:
            unreadable.append(Path(error.filename))

    for parent, folders, names in os.walk(folder, onerror=on_error):
        folders[:] = included(folders)
        if linked is not None:
            linked += (path for name in folders if (path := Path(parent, name)).is_symlink())
        yield from (Path(parent, name) for name in included(names))


def shuffled(files: Mapping[str, Path]) -> list[Path]:
    """Return the files in the order of the SHA-256 of their names.

    The order is the same everywhere, and the end of the text, which becomes the validation split, is like the rest.
    """
    return [files[name] for name in sorted(files, key=lambda name: hashlib.sha256(name.encode()).digest())]
