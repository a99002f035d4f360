"""A run as a repository on the Hugging Face Hub: the files that are sent, and a run made from them.

The repository has the layout of a run's folder, with the weights of one checkpoint, a model card, a picture of the
losses, and `SHA256SUMS`, against which every file is checked before it becomes a run.
"""

import hashlib
import json
import os
import re
import shutil
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import tomli_w

from nanogpt.config import with_settings
from nanogpt.errors import UserError
from nanogpt.files import new_folder, open_regular, read_bytes, read_text, sha256, why, write_atomically
from nanogpt.interop import hub
from nanogpt.paths import expanded
from nanogpt.reports.chart import standalone
from nanogpt.reports.curves import loss_chart
from nanogpt.reports.model_card import CURVE, model_card
from nanogpt.reports.record import RunRecord, read_record
from nanogpt.runs import checkpoints, folder
from nanogpt.runs.event_log import Steps, read_blocks
from nanogpt.runs.recorder import write_status
from nanogpt.runs.state import RunState, reduce
from nanogpt.runs.weights import HUGGINGFACE

SUMS = "SHA256SUMS"
LARGEST_TOKENIZER = 1 << 26  # bytes
PATH_SETTINGS = ("dataset", "init_from")  # they can be paths on this machine
FROM_HUB = "the hub's "  # before the repository that a run was pulled from
# Notices can have paths, and spikes have texts of the data: they stay here.
SENT_EVENTS = (
    "Started",
    "Step",
    "Evaluated",
    "GradientNoise",
    "LayerHealth",
    "LayerProblem",
    "Health",
    "Sampled",
    "Acknowledged",
    "Finished",
)
RUN_FILES = ("run.toml", "tokenizer.json", "events.jsonl", "base.safetensors", "checkpoints/step-*/*")
_CHECKPOINT_FILE = r"checkpoints/step-\d{8,15}/(?:(?:model|average|adapters)\.safetensors|trainer\.json)"
RUN_FILE = re.compile(rf"run\.toml|tokenizer\.json|events\.jsonl|base\.safetensors|{_CHECKPOINT_FILE}")
_SUM = re.compile(r"([0-9a-f]{64})  (\S+)")

Content = bytes | Path


def repository_files(run: Path, repository: str, which: str = "best", licence: str = "") -> dict[str, Content]:
    """Return what the repository of a run gets, by path: its content, or the file that has it.

    which: the checkpoint, as in `checkpoints.choose`. Raise `UserError`, also if a file of it is damaged.
    """
    from nanogpt.runs.load import load_tokenizer

    chosen = checkpoints.choose(run, which)
    record = _record_without_paths(read_record(run))
    tables = folder.read_run_toml(run)
    tokenizer = load_tokenizer(run)  # so that nothing else is sent in its place
    files: dict[str, Content] = {
        "README.md": model_card(record, tokenizer, repository, chosen.step, licence).encode(),
        CURVE: standalone(loss_chart(record, 900, 340)).encode(),
        "run.toml": tomli_w.dumps(_without_paths(tables)).encode(),
        "events.jsonl": b"".join(_sent_lines(run, chosen.step)),
    }
    try:
        files["tokenizer.json"] = read_bytes(run / "tokenizer.json", LARGEST_TOKENIZER)
    except OSError as error:
        raise UserError(f"cannot read {run / 'tokenizer.json'}: {why(error)}") from None
    place = chosen.path.relative_to(run).with_suffix("").as_posix()  # it has a suffix while another one replaces it
    for path in (chosen.path / "trainer.json", *checkpoints.weight_files(chosen.path)):
        files[f"{place}/{path.name}" if path.parent == chosen.path else path.name] = path
    files[SUMS] = "".join(f"{digest(content)}  {path}\n" for path, content in sorted(files.items())).encode()
    return files


def digest(content: Content) -> str:
    """Return the SHA-256 of a content as 64 hexadecimal digits. Raise `UserError`."""
    if isinstance(content, bytes):
        return hashlib.sha256(content).hexdigest()
    try:
        return sha256(content)
    except OSError as error:
        raise UserError(f"cannot read {content}: {why(error)}") from None


def pull(repository: str, run: Path) -> Path:
    """Download a run from the hub into the new folder `run`, checked, and return the folder of its checkpoint.

    Raise `UserError` if the repository is not one that `nanogpt push` made, or a file is not the one that was sent.
    """
    from nanogpt.runs.load import load_model

    folder.check_free(run)
    source = hub.download_run(repository, (SUMS, *RUN_FILES))
    names = _checked(source, repository)
    partial, replaced = (run.with_name(f".{run.name}.{os.getpid()}.{role}") for role in ("partial", "replaced"))
    try:
        run.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(run, partial, replaced):
            for name in names:
                (partial / name).parent.mkdir(parents=True, exist_ok=True)
                shutil.copyfile(source / name, partial / name)
            (checkpoint,) = {(partial / name).parent for name in names if name.startswith("checkpoints/")}
            tables = folder.read_run_toml(partial)
            about = {**tables.get("run", {}), "name": run.name, "imported_from": f"{FROM_HUB}{repository}"}
            write_atomically(partial / "run.toml", tomli_w.dumps({**tables, "run": about}))
            dataset = Path(folder.run_config(partial).data.dataset).name  # no event has it
            load_model(str(checkpoint), device="cpu")
            write_status(partial, replace(_last_state(partial, run.name), dataset=dataset))
            folder.check_still_free(run)
            folder.make_way(run)
    except OSError as error:
        raise UserError(f"cannot write {run}: {why(error)}; choose another folder with --runs_dir") from None
    return run / checkpoint.relative_to(partial)


def _checked(source: Path, repository: str) -> list[str]:
    """Return the paths of a run's files in a downloaded repository, each with the SHA-256 that it was sent with."""
    foreign = f"{repository} is not a run that `nanogpt push` sent: "
    try:
        lines = read_text(source / SUMS).splitlines()
    except FileNotFoundError:
        raise UserError(
            f"{foreign}it has no {SUMS}; `nanogpt import hf {repository}` reads a model of transformers"
        ) from None
    except (OSError, ValueError) as error:
        raise UserError(f"{foreign}cannot read its {SUMS}: {why(error)}") from None
    sums = {found[2]: found[1] for found in map(_SUM.fullmatch, lines) if found}
    names = sorted(name for name in sums if RUN_FILE.fullmatch(name))
    folders = {name.rpartition("/")[0] for name in names if name.startswith("checkpoints/")}
    needed = {"run.toml", "tokenizer.json", *(f"{each}/trainer.json" for each in folders)}
    if len(folders) != 1 or not needed <= set(names):
        raise UserError(f"{foreign}its {SUMS} does not list one checkpoint, run.toml and tokenizer.json")
    for name in names:
        try:
            is_sound = sha256((source / name).resolve(strict=True)) == sums[name]  # the cache has links
        except OSError as error:
            raise UserError(f"{repository}: cannot read {name}: {why(error)}; try again") from None
        if not is_sound:
            raise UserError(
                f"{repository}: {name} is not the file that was sent (its sha256 differs); nothing was kept"
            )
    return names


def _without_paths(tables: Mapping[str, Any]) -> dict[str, Any]:
    """Return the tables of run.toml, with the last part of what is a path on this machine."""
    sent = {name: dict(table) if isinstance(table, Mapping) else table for name, table in tables.items()}
    for table in sent.values():
        for name in (*PATH_SETTINGS, "imported_from"):
            if isinstance(table, dict) and isinstance(table.get(name), str):
                table[name] = _without_path(table[name])
    return sent


def _record_without_paths(record: RunRecord) -> RunRecord:
    """Return the record with settings as in `_without_paths`."""
    if record.config is None:
        return record
    values = record.config.values()
    return replace(
        record, config=with_settings(record.config, {name: _without_path(values[name]) for name in PATH_SETTINGS})
    )


def _without_path(value: str) -> str:
    """Return the last part of a path on this machine; a name, also one on the hub, as it is."""
    name = value.removeprefix(HUGGINGFACE)
    is_on_hub = value.startswith(FROM_HUB) or (
        name != value and hub.is_repository(name) and not expanded(name).exists()
    )
    return value if is_on_hub else Path(value).name


def _sent_lines(run: Path, step: int) -> Iterator[bytes]:
    """Yield the lines of the record that are sent; of the checkpoints only that of `step` is."""
    starts, saved = tuple(map(_start_of, SENT_EVENTS)), _start_of("Saved")
    try:
        with open_regular(run / "events.jsonl") as file:
            for line in file:
                is_sent = line.startswith(starts) or (line.startswith(saved) and _step_of(line) == step)
                if is_sent and line.endswith(b"\n"):
                    yield line
    except FileNotFoundError:
        return
    except OSError as error:
        raise UserError(f"cannot read {run / 'events.jsonl'}: {why(error)}") from None


def _start_of(event: str) -> bytes:
    """Return how the line of an event of this name begins."""
    return json.dumps({"event": event}, separators=(",", ":"))[:-1].encode() + b","


def _step_of(line: bytes) -> int | None:
    """Return the step of an event's line, None if it is damaged."""
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, RecursionError):
        return None


def _last_state(run: Path, name: str) -> RunState:
    """Return the state after the recorded events; a run that was sent while it trained counts as stopped."""
    state = RunState(name)
    for item in read_blocks(run / "events.jsonl"):
        state = reduce(state, item.last if isinstance(item, Steps) else item)
    return replace(state, state="stopped" if state.alive or state.state == "preparing" else state.state)
