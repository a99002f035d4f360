"""The names of data sets: which are valid, and which are prepared."""

import re
from pathlib import Path

from nanogpt import paths
from nanogpt.data.streams import SUFFIXES
from nanogpt.errors import UserError

UNFINISHED = ".unfinished"  # the end of a folder's name; it begins with a dot


def check_name(name: str) -> str:
    """Return the name. Raise `UserError` if it is not a valid folder name on every file system."""
    if not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,63}", name):
        raise UserError(
            f"{name!r} cannot name a data set: use up to 64 letters, digits, '_', '-' and '.', the first not '-' or '.'"
        )
    return name


def dataset_name(path: Path) -> str:
    """Return a data set's name for a file or folder: its own without its suffix and unusable characters."""
    if is_anonymous(path):
        return "stdin"
    name = path.absolute().name
    for suffix in SUFFIXES:
        name = name.removesuffix(suffix)
    return re.sub(r"[^A-Za-z0-9_.-]+", "_", Path(name).stem).lstrip(".-")[:64] or "text"


def is_anonymous(path: Path) -> bool:
    """Return whether a path is standard input, `-`, or a pipe that the shell made."""
    return str(path) in ("-", "/dev/stdin") or path.parent in (Path("/dev/fd"), Path("/proc/self/fd"))


def home(data_dir: Path | None) -> Path:
    """Return the folder of the prepared data sets: `data_dir`, or the default one if that is None."""
    return paths.expanded(data_dir).absolute() if data_dir else paths.datasets_dir()


def prepared_names(data_dir: Path | None = None) -> list[str]:
    """Return the names of the prepared data sets, sorted."""
    folder = home(data_dir)
    found = folder.glob("*/meta.json") if folder.is_dir() else ()
    return sorted(path.parent.name for path in found if not path.parent.name.startswith("."))


def unfinished_folder(folder: Path) -> Path:
    """Return where a data set at `folder` is until all of its corpus is prepared."""
    return folder.with_name(f".{folder.name}{UNFINISHED}")


def unfinished_names(data_dir: Path | None = None) -> list[str]:
    """Return the names of the data sets whose preparation from a corpus is not finished, sorted."""
    folder = home(data_dir)
    found = folder.glob(f".*{UNFINISHED}/corpus.json") if folder.is_dir() else ()
    return sorted(path.parent.name.removesuffix(UNFINISHED)[1:] for path in found)
