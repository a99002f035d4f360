"""What the form of a new run offers from the disk: data sets, and runs to start from."""

import os
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from nanogpt.data.catalog import DatasetInfo
from nanogpt.errors import UserError
from nanogpt.files import read_bytes
from nanogpt_tui.session.draft import SCRATCH


@dataclass(frozen=True, slots=True, kw_only=True)
class FormOptions:
    """`starts` are (value, label) of the field "start". `tokenizers` are the fingerprints of "run NAME" and
    "data set NAME". `taken` are the names of all runs."""

    datasets: tuple[DatasetInfo, ...]
    starts: tuple[tuple[str, str], ...]
    tokenizers: dict[str, str]
    taken: frozenset[str]


def read_options(runs_dir: str | None) -> FormOptions:
    """Return the options as they are on disk now."""
    from nanogpt import data, runs
    from nanogpt.runs.checkpoints import latest_step

    starts, tokenizers = [(SCRATCH, "random weights")], dict[str, str]()
    fingerprints: dict[bytes, str] = {}
    datasets = data.list_datasets()
    for info in datasets:
        if info.prepared and not info.problem:
            tokenizers[f"data set {info.name}"] = data.open_dataset(info.name).meta.tokenizer_fingerprint
    known_runs = runs.list_runs(runs_dir)
    for run in known_runs:
        if os.path.isdir(f"{run.path}/checkpoints"):  # noqa: PTH112 (unlike Path's it never raises)
            with suppress(UserError, OSError):  # the form shows the error when the run is chosen
                tokenizers[f"run {run.name}"] = _fingerprint(Path(run.path) / "tokenizer.json", fingerprints)
            starts.append((f"weights {run.name}", f"weights of {run.name}"))
            if not run.alive and not _is_imported(Path(run.path)):
                with suppress(UserError):
                    step = latest_step(Path(run.path))
                    starts.append((f"resume {run.name}", f"resume {run.name} at step {step:,}"))
    taken = frozenset(run.name for run in known_runs)
    return FormOptions(datasets=tuple(datasets), starts=tuple(starts), tokenizers=tokenizers, taken=taken)


def _is_imported(run: Path) -> bool:
    """Return whether the run cannot be resumed; False for one that cannot be read: choosing it shows the error."""
    from nanogpt.runs.folder import is_imported

    with suppress(UserError):
        return is_imported(run)
    return False


def _fingerprint(file: Path, known: dict[bytes, str]) -> str:
    """Return the fingerprint of a tokenizer. `known` has those of other files by content, and gets this one: most runs
    share a few tokenizers, and loading a large one takes much longer than reading its file."""
    from nanogpt import tokenizers

    content = read_bytes(file, tokenizers.LARGEST)
    if content not in known:
        known[content] = tokenizers.fingerprint(tokenizers.load(file))
    return known[content]
