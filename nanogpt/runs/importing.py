"""Runs made from weights of other programs: they can be sampled, evaluated, exported, and started from."""

import json
import os
import time
from collections.abc import Generator
from pathlib import Path

import tomli_w

from nanogpt import __version__, tokenizers
from nanogpt.config import FORMAT, Config, config_to_toml, with_settings
from nanogpt.data.nanogpt_meta import read_characters
from nanogpt.errors import UserError
from nanogpt.events import Event, Finished, Notice, Saved, Started
from nanogpt.files import new_folder, why, write_atomically
from nanogpt.interop.huggingface import from_huggingface
from nanogpt.interop.huggingface_tokenizer import GPT2_SIZES, read_tokenizer
from nanogpt.interop.nanochat_checkpoint import find_model, read_nanochat, read_nanochat_tokenizer
from nanogpt.interop.nanogpt_checkpoint import NanogptCheckpoint, read_checkpoint
from nanogpt.models.meta_device import on_meta_device
from nanogpt.runs import checkpoints, folder
from nanogpt.runs.recorder import Recorder
from nanogpt.runs.weights import huggingface_folder
from nanogpt.tokenizers import Tokenizer
from nanogpt.training.snapshot import Progress, Snapshot, check_weights

META, TOKENIZER = "meta.pkl", "tokenizer.pkl"


def import_nanogpt(file: Path, run: Path, *, tokenizer: str | None = None, meta: Path | None = None) -> Snapshot:
    """Write a run with the weights of nanoGPT's `ckpt.pt`, and return them.

    tokenizer: the spec of the one that made its ids. meta: nanoGPT's `meta.pkl`, which has the characters of its data
    set. If neither is given, a `meta.pkl` beside the file or in nanoGPT's `data/NAME` is used, or GPT-2's tokenizer if
    the vocabulary has its size. Raise `UserError`.
    """
    folder.check_free(run)
    file = file / "ckpt.pt" if file.is_dir() else file
    read = read_checkpoint(file)
    made = _nanogpt_tokenizer(file, read, tokenizer, meta)
    progress = Progress(step=read.step, max_iters=read.step, best_val_loss=read.best_val_loss)
    with on_meta_device():
        check_weights(read.config.build(), read.tensors, str(file))
    snapshot = Snapshot(read.config, read.tensors, progress=progress)
    _write_run(run, snapshot, made, file, read.dataset)
    return snapshot


def import_nanochat(source: Path, run: Path, *, tokenizer: Path | None = None) -> Snapshot:
    """Write a run with the weights of a model of nanochat, a file or the latest in a folder, and return them.

    tokenizer: nanochat's `tokenizer.pkl`, or its folder. By default it is beside the model, or in nanochat's folder
    `tokenizer`, two levels above. Raise `UserError`.
    """
    folder.check_free(run)
    file = find_model(source)
    made = read_nanochat_tokenizer(_nanochat_tokenizer(file, tokenizer))
    read = read_nanochat(file)
    if made.vocab_size != read.config.vocab_size:
        raise UserError(
            f"the tokenizer has {made.vocab_size:,} tokens, and {file} {read.config.vocab_size:,}: it is not the one "
            "that the model was trained with"
        )
    with on_meta_device():
        check_weights(read.config.build(), read.tensors, str(file))
    snapshot = Snapshot(read.config, read.tensors, progress=Progress(step=read.step, max_iters=read.step))
    _write_run(run, snapshot, made, file, "")
    return snapshot


def _nanochat_tokenizer(file: Path, given: Path | None) -> Path:
    if given is not None:
        return given / TOKENIZER if given.is_dir() else given
    base = file.absolute().parent  # such as base_checkpoints/d20
    places = [base / TOKENIZER, base.parent.parent / "tokenizer" / TOKENIZER]
    if (found := next((place for place in places if place.is_file()), None)) is None:
        raise UserError(f"no {TOKENIZER} beside {file} or in {places[1].parent}: give nanochat's with --tokenizer=PATH")
    return found


def import_huggingface(source: str, run: Path) -> Snapshot:
    """Write a run with the weights of a Hugging Face folder, or of a model on the hub, and return them.

    Raise `UserError`.
    """
    folder.check_free(run)
    place = huggingface_folder(source)
    model = from_huggingface(place)
    made = read_tokenizer(place, model.config.vocab_size)
    snapshot = Snapshot(model.config, model.state_dict())
    _write_run(run, snapshot, made, place, "")
    return snapshot


def _nanogpt_tokenizer(file: Path, read: NanogptCheckpoint, spec: str | None, meta: Path | None) -> Tokenizer:
    """Return the tokenizer of a nanoGPT checkpoint. Raise `UserError`."""
    rows = read.config.vocab_size
    if spec is not None:
        if tokenizers.parse_spec(spec).kind.needs != "nothing":
            raise UserError(
                f"--tokenizer={spec} is made from a text: for a model of characters give --meta=data/NAME/{META}"
            )
        return tokenizers.create(spec)
    beside = [file.with_name(META)]
    if read.dataset:
        beside.append(file.absolute().parent.parent / "data" / read.dataset / META)
    found = meta or next((path for path in beside if path.is_file()), None)
    if found is not None:
        return tokenizers.create("char", [read_characters(found)])
    if rows not in GPT2_SIZES:
        raise UserError(
            f"{file} has {rows:,} tokens, which are not GPT-2's: give --meta=data/NAME/{META}, which has the "
            "characters of its data set, or --tokenizer=SPEC"
        )
    return tokenizers.create("gpt2")


def _write_run(run: Path, snapshot: Snapshot, tokenizer: Tokenizer, source: Path, dataset: str) -> None:
    """Write the folder of a run, which appears whole or not at all. Raise `UserError`."""
    model = snapshot.model_config
    if tokenizer.vocab_size > model.vocab_size:
        raise UserError(
            f"the tokenizer {tokenizer.name} has {tokenizer.vocab_size:,} tokens, and {source} only "
            f"{model.vocab_size:,}: it is not the one that the model was trained with"
        )
    settings = model.to_dict() | {"max_iters": snapshot.progress.max_iters, "dataset": dataset}
    about = {
        "format": FORMAT,
        "name": run.name,
        "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
        "nanogpt": __version__,
        "imported_from": str(source.absolute()),
    }
    tables = config_to_toml(with_settings(Config(), settings))
    partial, replaced = (run.with_name(f".{run.name}.{os.getpid()}.{role}") for role in ("partial", "replaced"))
    try:
        run.parent.mkdir(parents=True, exist_ok=True)
        with new_folder(run, partial, replaced):
            write_atomically(partial / "tokenizer.json", json.dumps(tokenizer.to_json()))
            write_atomically(partial / "run.toml", tomli_w.dumps({"run": about, **tables}))
            path = checkpoints.write(partial, snapshot)
            events = _events(snapshot, run.name, str(path.relative_to(partial)), str(source))
            for _ in Recorder(partial, "run.toml", dataset=dataset).record(events):
                pass
            folder.check_still_free(run)
            folder.make_way(run)
    except OSError as error:
        raise UserError(f"cannot write {run}: {why(error)}; choose another folder with --runs_dir") from None


def _events(snapshot: Snapshot, run: str, path: str, source: str) -> Generator[Event, None, None]:
    """Yield the events of a run that started where it ended; what is not known of its training is 0 or empty."""
    progress, model = snapshot.progress, snapshot.model_config
    yield Started(
        run=run,
        step=progress.step,
        max_iters=progress.max_iters,
        n_parameters=model.n_parameters(),
        tokens_per_iteration=0,
        train_tokens=0,
        val_tokens=0,
        vocab_size=model.vocab_size,
        device="",
        dtype="",
        compile=False,
        threads=0,
        peak_flops=None,
        choices={},
    )
    yield Notice(level="info", text=f"imported from {source}")
    yield Saved(step=progress.step, path=path, is_best=True, stall_s=0.0)
    yield Finished(
        step=progress.step,
        reason="max_iters",
        train_loss=None,
        val_loss=None,
        best_val_loss=progress.best_val_loss,
        elapsed_s=0.0,
    )
