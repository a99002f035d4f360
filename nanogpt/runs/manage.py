"""Manage existing runs: rename, delete, write notes, compare. Imports no torch.

Renaming and deleting need the run's lock, so they never affect a run that is being trained. If a run is a link to
another folder, only the link is renamed or deleted.
"""

import errno
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w
from filelock import Timeout

from nanogpt.config import Config
from nanogpt.errors import UserError
from nanogpt.files import hide_folder, open_regular, remove, why, write_atomically
from nanogpt.runs.folder import check_free, check_name, is_run, lock, read_run_toml
from nanogpt.runs.parsed_log import move_copies, remove_copies

NOTE = "note.txt"
RESOLVED = ("device", "dtype", "compile", "threads", "vocab_size")  # run.toml has the values that were used
LONGEST_NOTE = 10_000  # characters
LOCK_TIMEOUT_S = 0.5  # checking whether a trainer is alive holds the lock for a moment


def rename(run: Path, name: str) -> Path:
    """Rename the run and return its new folder. Raise `UserError` if the name is taken or not allowed, or the run is
    being trained."""
    if name == run.name:
        return run
    new = run.with_name(check_name(name))
    check_free(new)
    with _locked(run, "renamed"):
        try:
            if new.is_dir() and any(new.iterdir()):
                raise UserError(f"a training is starting in {new}, or was killed while it started: give another name")
            run.rename(new)
            if not new.is_symlink():
                _record_name(new, run)
        except OSError as error:
            raise UserError(f"cannot rename {run}: {why(error)}") from None
        move_copies(run / "events.jsonl", new / "events.jsonl")
    return new


def _record_name(run: Path, before: Path) -> None:
    """Write the name into run.toml. If that fails, move the run back to `before` and raise the error."""
    try:
        tables = read_run_toml(run)
        tables.setdefault("run", {})["name"] = run.name
        write_atomically(run / "run.toml", tomli_w.dumps(tables))
    except BaseException:
        run.rename(before)
        raise


def delete(run: Path) -> None:
    """Delete the run with its checkpoints. Raise `UserError` if it is not a run or is being trained."""
    if not is_run(run):
        raise UserError(f"{run} is not a run: it has no run.toml")
    removed = run.with_name(f".{run.name}.deleted")
    try:
        with _locked(run, "deleted"):
            hide_folder(run, removed, marker="run.toml")
        remove(removed)  # without the lock: a network disk keeps a folder with an open file
    except OSError as error:
        raise UserError(f"cannot delete {run}: {why(error)}") from None
    remove_copies(run / "events.jsonl")


def read_note(run: Path) -> str:
    """Return the note about the run; empty if it has none."""
    try:
        with open_regular(run / NOTE) as file:
            return file.read(4 * LONGEST_NOTE).decode("utf-8", "replace")[:LONGEST_NOTE].strip()
    except OSError:
        return ""


def write_note(run: Path, text: str) -> None:
    """Replace the note; an empty text removes it. Raise `UserError`."""
    text = text.strip()
    if len(text) > LONGEST_NOTE:
        raise UserError(f"the note has {len(text):,} characters: the limit is {LONGEST_NOTE:,}")
    try:
        if text:
            write_atomically(run / NOTE, text + "\n")
        else:
            (run / NOTE).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the note of {run.name}: {why(error)}") from None


def differences(configs: Sequence[Config]) -> dict[str, tuple[Any, ...]]:
    """Return the settings that differ between the `configs`: by name, in the order of the sections, all values."""
    values = [config.values() for config in configs]
    names = dict.fromkeys(name for each in values for name in each)  # other components have other settings
    compared = {name: tuple(each.get(name) for each in values) for name in names}
    return {name: row for name, row in compared.items() if any(value != row[0] for value in row)}


def changed(config: Config) -> dict[str, Any]:
    """Return the settings that are not defaults, by name, without those that follow from machine and tokenizer."""
    known = config.settings()
    return {n: value for n, value in config.values().items() if n not in RESOLVED and value != known[n].default}


@contextmanager
def _locked(run: Path, what: str) -> Iterator[None]:
    """Hold the run's lock in the block. Raise `UserError` if a trainer holds it."""
    held = lock(run)
    try:
        held.acquire(timeout=LOCK_TIMEOUT_S)
    except Timeout:
        raise UserError(f"the run {run.name} is training: it can be {what} after the training") from None
    except OSError as error:
        if error.errno != errno.ENOSYS:  # on a disk without locks no trainer holds one
            raise UserError(f"the run {run.name} cannot be {what}: {why(error)}") from None
    try:
        yield
    finally:
        held.release()
