"""Which lessons the learner has done: a small JSON file in the folder of the program's data.

The command and the app may both write it: each reads it again before it replaces it.
"""

import json
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from nanogpt import paths
from nanogpt.errors import UserError
from nanogpt.files import open_regular, read_json, why, write_atomically

FORMAT = 1


class Progress(NamedTuple):
    """The names of the lessons that are done; `problem` says in one line why the file could not be read, if so."""

    done: frozenset[str]
    problem: str = ""


def progress_path() -> Path:
    """Return the path of the file."""
    return paths.data_home() / "lessons.json"


def load() -> Progress:
    """Return the lessons that are done. Nothing is done if the file does not exist or is damaged."""
    path = progress_path()
    try:
        stored = read_json(path)
        done = stored["done"]
        if not isinstance(done, list) or not all(isinstance(name, str) for name in done):
            raise ValueError("it has no list of lessons")
    except FileNotFoundError:
        return Progress(frozenset())
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        what = why(error) if isinstance(error, OSError | ValueError) else "it has no list of lessons"
        return Progress(frozenset(), f"{path} cannot be read ({what}): all lessons count as not done")
    return Progress(frozenset(done))


def mark_done(name: str) -> None:
    """Remember that a lesson is done. A damaged file is replaced.

    Raise `UserError` if the file cannot be written, or cannot be read now: it may have other lessons.
    """
    done, path = load().done, progress_path()
    if name in done:
        return
    try:
        with suppress(FileNotFoundError):
            open_regular(path).close()
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, json.dumps({"format": FORMAT, "done": sorted({*done, name})}) + "\n")
    except OSError as error:
        raise UserError(f"cannot save the progress in {path}: {why(error)}") from None
