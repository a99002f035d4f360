"""What a person does with runs that are there: rename, delete, note, compare, export. Imports no torch.

A run that a trainer holds is never renamed or deleted: both are done under the run's own lock. Of a run that is a link
to a folder elsewhere the link alone is renamed or deleted.
"""

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import tomli_w
from filelock import Timeout

from nanogpt.config import Config
from nanogpt.errors import UserError
from nanogpt.events import Evaluated, Step
from nanogpt.files import open_regular, remove_folder, why, write_atomically
from nanogpt.runs.folder import check_free, check_name, history, is_run, lock, read_run_toml

NOTE = "note.txt"
CHOSEN = ("device", "dtype", "compile", "threads", "vocab_size")  # a run records what they were settled to
LONGEST_NOTE = 10_000  # characters
PROBED_S = 0.5  # whoever looks whether a trainer lives holds the lock for a moment
MEASURED = ("loss", "learning_rate", "grad_norm", "tokens", "tokens_per_second", "mfu", "memory_bytes", "elapsed_s")
COLUMNS = ("step", *MEASURED, "eval_train_loss", "val_loss")


def rename(run: Path, name: str) -> Path:
    """Gives the run another name, and returns its new folder. Raises `UserError` for a name that is taken or cannot be
    one, and for a run that is being trained."""
    if name == run.name:
        return run
    new = run.with_name(check_name(name))
    check_free(new)
    with _unused(run, "renamed"):
        try:
            if not run.is_symlink():
                tables = read_run_toml(run)
                tables.setdefault("run", {})["name"] = name
                write_atomically(run / "run.toml", tomli_w.dumps(tables))
            run.rename(new)
        except OSError as error:
            raise UserError(f"cannot rename {run}: {why(error)}") from None
    return new


def delete(run: Path) -> None:
    """Removes the run with all its checkpoints. Raises `UserError` for one that is being trained, and for what is no
    run."""
    if not is_run(run):
        raise UserError(f"{run} is not a run: it has no run.toml")
    with _unused(run, "deleted"):
        try:
            remove_folder(run, run.with_name(f".{run.name}.deleted"), marker="run.toml")
        except OSError as error:
            raise UserError(f"cannot delete {run}: {why(error)}") from None


def read_note(run: Path) -> str:
    """What the person wrote about the run; empty where nothing."""
    try:
        with open_regular(run / NOTE) as file:
            return file.read(4 * LONGEST_NOTE).decode("utf-8", "replace")[:LONGEST_NOTE].strip()
    except OSError:
        return ""


def write_note(run: Path, text: str) -> None:
    """Replaces the note; an empty one removes it. Raises `UserError`."""
    text = text.strip()
    if len(text) > LONGEST_NOTE:
        raise UserError(f"a note of {len(text):,} characters: has to be at most {LONGEST_NOTE:,}")
    try:
        if text:
            write_atomically(run / NOTE, text + "\n")
        else:
            (run / NOTE).unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"cannot write the note of {run.name}: {why(error)}") from None


def differences(configs: Sequence[Config]) -> dict[str, tuple[Any, ...]]:
    """The settings that are not the same in all `configs`: by name, in the order of the sections, the value of each."""
    values = [config.values() for config in configs]
    names = dict.fromkeys(name for each in values for name in each)  # runs of other components have others
    compared = {name: tuple(each.get(name) for each in values) for name in names}
    return {name: row for name, row in compared.items() if any(value != row[0] for value in row)}


def changed(config: Config) -> dict[str, Any]:
    """Return the settings that are not the defaults, by name; what was chosen for the machine or is the tokenizer's is
    left out."""
    known = config.settings()
    return {n: value for n, value in config.values().items() if n not in CHOSEN and value != known[n].default}


def metrics(run: Path) -> Iterator[Mapping[str, Any]]:
    """A row for each step that was reported or evaluated, in order, with those of COLUMNS that were measured there."""
    rows: dict[int, dict[str, Any]] = {}
    for event in history(run):
        if isinstance(event, Step):
            rows.setdefault(event.step, {}).update({name: getattr(event, name) for name in MEASURED})
        elif isinstance(event, Evaluated):
            losses = {"eval_train_loss": event.train_loss, "val_loss": event.val_loss}
            rows.setdefault(event.step, {}).update(losses)
    for step in sorted(rows):
        yield {"step": step} | rows[step]


def export_metrics(run: Path, file: Path) -> int:
    """Writes the run's metrics as CSV (a header of COLUMNS; what was not measured is empty) and returns the number of
    rows. The file appears whole or not at all. Raises `UserError`."""
    table = io.StringIO()
    writer = csv.DictWriter(table, COLUMNS, lineterminator="\n")
    writer.writeheader()
    count = 0
    for row in metrics(run):
        writer.writerow(row)
        count += 1
    try:
        write_atomically(file, table.getvalue())
    except OSError as error:
        raise UserError(f"cannot write {file}: {why(error)}") from None
    return count


@contextmanager
def _unused(run: Path, what: str) -> Iterator[None]:
    """Holds the run's lock inside. Raises `UserError` where a trainer holds it."""
    held = lock(run)
    try:
        held.acquire(timeout=PROBED_S)
    except Timeout:
        raise UserError(f"the run {run.name} is training: it can be {what} when the training has ended") from None
    except OSError as error:
        raise UserError(f"the run {run.name} cannot be {what}: {why(error)}") from None
    try:
        yield
    finally:
        held.release()
