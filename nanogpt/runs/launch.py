"""Starts and resumes runs: prepares the data, makes the folder, trains, records, and keeps checkpoints.

Yields the events of all of that as one stream. Knows nothing of who watches.
"""

import dataclasses
import json
import os
import time
from collections.abc import Generator, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import Any

import tomli_w
from filelock import Timeout

from nanogpt import __version__, data, hardware, sampling, tokenizers
from nanogpt.config import FORMAT, Config, SamplingConfig, config_to_toml, with_settings
from nanogpt.errors import SettingError, UserError
from nanogpt.events import Event, Notice, Saved, Started, Token
from nanogpt.files import check_regular, why, write_atomically
from nanogpt.inspection import HealthObserver, Observer
from nanogpt.runs import checkpoints, folder
from nanogpt.runs.control_files import FileCommandQueue
from nanogpt.runs.load import load_tokenizer
from nanogpt.runs.recorder import Recorder, disk_problem
from nanogpt.runs.weights import read_weights, with_shape_of_weights
from nanogpt.training import CommandQueue, Snapshot, train
from nanogpt.training.distributed import rank
from nanogpt.training.runtime import memory_advice
from nanogpt.training.snapshot import Progress

Events = Generator[Event, None, None]


def start(
    config: Config,
    run: Path,
    *,
    commands: CommandQueue | None = None,
    data_dir: Path | None = None,
    runs_dir: Path | None = None,
    sources: Mapping[str, str] | None = None,
) -> Events:
    """A new run in the folder `run`, from scratch or from other weights. Prepares a missing data set first.

    `sources`, as in `Resolved`, says which settings of the shape were asked for (None: all): see
    `with_shape_of_weights`. With `eval_only` nothing is written. Raises `UserError`.
    """
    begin: Snapshot | None = None
    notice = ""
    source = config.checkpoint.init_from
    if source == "resume":
        raise SettingError("init_from", "init_from=resume continues an existing run: see `runs.resume`")
    config = with_shape_of_weights(config, sources, runs_dir)
    dataset = yield from obtain(config.data.dataset, data_dir)
    if source != "scratch":
        begin = read_weights(source, dataset, runs_dir)
        if begin.model_config.block_size > config.model.block_size:
            notice = (
                f"the weights of {source} know {begin.model_config.block_size:,} positions; the new run keeps the "
                f"first {config.model.block_size:,} of them, as block_size asks"
            )
            begin = _cropped(begin, config.model.block_size)
    config = _with_vocabulary(config, dataset)
    _check_start(config, dataset)
    if config.evaluation.eval_only:
        events = train(config, splits(dataset), run=run.name, commands=commands, start=begin)
        yield from _noticed(notice, _explained(config, events))
        return
    if rank() == 0:
        folder.check_free(run)
    yield from _recorded(config, run, dataset, commands, begin, founds=True, notice=notice)


def resume(
    run: Path,
    changes: Mapping[str, Any] | None = None,
    *,
    commands: CommandQueue | None = None,
    data_dir: Path | None = None,
) -> Events:
    """Goes on with a run at its latest checkpoint, exactly as if it had not been interrupted.

    One that ended before it saved its first starts again at step 0, and says so. `changes` are settings by name that
    differ from now on (another device, more iterations). Raises `UserError`, also where the checkpoints were removed.
    """
    changes = {name: value for name, value in (changes or {}).items() if name != "init_from"}
    recorded = folder.run_config(run)
    config = with_settings(recorded, changes)
    _refuse_reshaping(run, recorded, config)
    dataset = yield from obtain(config.data.dataset, data_dir)
    _check_start(config, dataset)
    if tokenizers.fingerprint(load_tokenizer(run)) != tokenizers.fingerprint(dataset.tokenizer):
        raise UserError(f"the data set {dataset.name} was prepared with another tokenizer than the run {run.name}")
    trained_on = folder.read_run_toml(run).get("run", {}).get("train_sha256")
    if "dataset" not in changes and trained_on != dataset.meta.sha256["train"]:
        raise UserError(
            f"the data set {dataset.name} is not the one that {run.name} was trained on: prepare the old text again, "
            f"or say --dataset={dataset.name} to continue with the new one"
        )
    found = checkpoints.latest(run)
    notice = ""
    if found is None:
        _refuse_lost_checkpoints(run, config)
        notice = f"{run.name} ended before it saved its first checkpoint: it starts again at step 0"
    begin = checkpoints.read(found.path) if found else None
    if begin is not None:
        values = config.values()
        asked_anew = {name: values[name] for name in checkpoints.STEERED if name in changes}
        progress = dataclasses.replace(begin.progress, **asked_anew)
        begin = dataclasses.replace(begin, progress=progress)
        if config.evaluation.eval_only:
            progress.evaluated_at = -1
        elif progress.step >= progress.max_iters and progress.evaluated_at == progress.step:
            raise UserError(
                f"the run {run.name} is complete at step {progress.step:,}: pass a higher --max_iters to continue"
            )
    if config.evaluation.eval_only:
        events = train(config, splits(dataset), run=run.name, commands=commands, start=begin, resume=begin is not None)
        yield from _explained(config, events)
        return
    yield from _recorded(config, run, dataset, commands, begin, founds=False, notice=notice)


def obtain(name: str, data_dir: Path | None = None) -> Generator[Event, None, data.Dataset]:
    """Opens a data set, by name or path, preparing it first where it is a recipe that was not prepared yet."""
    if not data.is_prepared(name, data_dir):
        if "RANK" in os.environ:
            raise UserError(f"prepare the data set before several processes train on it: `nanogpt prepare {name}`")
        yield from data.prepare(name, data_dir=data_dir)
    return data.open_dataset(name, data_dir)


def splits(dataset: data.Dataset) -> dict[str, Any]:
    """What `train` takes: the token ids of the two splits that it needs. Raises `UserError` for one that has others."""
    for split in ("train", "val"):
        dataset.check_ids(split)
    return {split: dataset.split(split) for split in ("train", "val")}


def _with_vocabulary(config: Config, dataset: data.Dataset) -> Config:
    asked, needed = config.model.vocab_size, dataset.tokenizer.vocab_size
    if 0 < asked < needed:
        raise SettingError("vocab_size", f"vocab_size={asked}: the data set's tokenizer has {needed:,} tokens")
    return with_settings(config, {"vocab_size": asked or needed})


def _check_start(config: Config, dataset: data.Dataset) -> None:
    """Raises `SettingError` for a prompt of samples that the tokenizer cannot read: before training, not after it."""
    start = config.evaluation.sample_start
    try:
        dataset.tokenizer.encode(start)
    except UserError as error:
        raise SettingError("sample_start", f"sample_start={start!r}: {error}") from None


def _cropped(begin: Snapshot, block_size: int) -> Snapshot:
    from nanogpt.runs.load import model_from

    model = model_from(begin, "the starting weights")
    model.crop_block_size(block_size)
    return Snapshot(model.config, model.state_dict())


def _refuse_reshaping(run: Path, before: Config, after: Config) -> None:
    values = after.values()
    for name, was in before.model.shape().items():
        asked = values.get(name, was)
        if was == asked:
            continue
        way = "train a new run for another shape"
        if name == "block_size" and asked < was:
            way = (
                f"start a new run from its weights with --init_from={folder.run_name(run)} --block_size={asked} "
                f"--dataset={before.data.dataset}"
            )
        raise SettingError(
            name, f"{name}={asked}: a resumed run keeps its shape, and {run.name} has {name}={was}; {way}"
        )


def _refuse_lost_checkpoints(run: Path, config: Config) -> None:
    """Only a run that never saved starts again: any other would lose what it learnt, and its record, under its name."""
    saved = [event.step for event in folder.history(run) if isinstance(event, Saved)]
    if saved:
        raise UserError(
            f"the run {run.name} saved at step {saved[-1]:,}, but there is no checkpoint in {run / 'checkpoints'} any "
            "more: put them back, or train a new run with another name"
        )
    if config.evaluation.eval_only:
        raise UserError(f"the run {run.name} has no checkpoint yet that could be evaluated")


def _recorded(
    config: Config,
    run: Path,
    dataset: data.Dataset,
    commands: CommandQueue | None,
    begin: Snapshot | None,
    *,
    founds: bool,
    notice: str = "",
) -> Events:
    """Trains in the run's folder, under its lock, a run that is new where it `founds` one. Of several processes under
    torchrun only the first one records. `notice` is told once training has started."""
    resume = begin is not None and not founds
    if rank() > 0:
        find_checkpoint = partial(checkpoints.recall, run)
        yield from train(
            config, splits(dataset), run=run.name, start=begin, resume=resume, find_checkpoint=find_checkpoint
        )
        return
    if folder.is_run(run):
        _refuse_elsewhere(run)
    try:
        run.mkdir(parents=True, exist_ok=True)
        held = folder.lock(run)
        held.acquire(timeout=1)
    except Timeout:
        raise UserError(f"the run {run.name} is training in another process; two trainers never share a run") from None
    except (OSError, NotImplementedError) as error:  # the second: a disk that knows no locks
        raise UserError(f"cannot write in {run}: {why(error)}; choose another folder with --runs_dir") from None
    is_new = not folder.is_run(run)
    try:
        if founds:  # another one may have founded it while this one waited for the lock
            folder.check_free(run)
        if is_new:
            (run / "events.jsonl").unlink(missing_ok=True)
        _check_files(run)
        progress = begin.progress if begin is not None else Progress()
        known = {"val_loss": progress.val_loss, "best_val_loss": progress.best_val_loss}
        recorder = Recorder(run, "run.toml", dataset=dataset.name, **known)

        def save(snapshot: Snapshot, is_best: bool) -> str:
            try:
                kept = config.checkpoint.checkpoint_interval, config.checkpoint.keep_checkpoints
                path = checkpoints.write(run, snapshot, *kept)
            except OSError as error:
                raise OSError(error.errno, disk_problem(error)) from error
            return str(path.relative_to(run))

        def sample(model: Any, prompt: str, seed: int) -> str:
            knobs = SamplingConfig(max_new_tokens=config.evaluation.sample_tokens, seed=seed)
            events = sampling.generate(model, dataset.tokenizer, prompt, knobs, alternatives=0)
            return "".join(event.text for event in events if isinstance(event, Token))

        events = train(
            config,
            splits(dataset),
            run=run.name,
            observers=_observers(config, run.name),
            commands=FileCommandQueue(run, commands),
            save=save,
            sample=sample,
            find_checkpoint=partial(checkpoints.recall, run),
            wait_reason=recorder.hindrance,
            start=begin,
            resume=resume,
        )
        recorded = recorder.record(_founded(_noticed(notice, events), config, run, dataset))
        with closing(_explained(config, recorded)) as explained:
            yield from explained
    finally:
        held.release()
        if is_new and not folder.is_run(run):  # nothing came of it, or it was removed: leave no empty folder behind
            with suppress(OSError):
                folder.clear_unstarted(run)
                run.rmdir()


def _observers(config: Config, run: str) -> list[Observer]:
    """Return those of every run, and those that the settings ask for. Raise `UserError` where one cannot be had."""
    observers: list[Observer] = [HealthObserver()]
    if config.system.wandb_log:
        from nanogpt.interop.wandb_logger import WandbLogger

        observers.append(WandbLogger(config, run))
    return observers


def _check_files(run: Path) -> None:
    """Raises `UserError` where something else lies in the place of a file that is about to be written."""
    for name in ("run.toml", "tokenizer.json", "events.jsonl", "status.json"):
        try:
            check_regular(run / name)
        except OSError as error:
            raise UserError(f"cannot train in {run}: {name}: {why(error)}") from None


def _refuse_elsewhere(run: Path) -> None:
    """A trainer on another machine that shares the disk is not always seen by its lock. One that is gone by the clocks,
    which may be wrong, is watched for a moment."""
    try:
        about = folder.summary(run)
        if about.state == "interrupted" and not folder.is_here(about):
            time.sleep(folder.DOUBT_S)
            about = folder.summary(run)
    except UserError:  # a status that cannot be read is that of no trainer
        return
    if about.alive and not folder.is_here(about):
        raise UserError(
            f"the run {run.name} is training on {about.host!r}, which wrote {about.silent_s:.0f} s "
            f"ago; two trainers never share a run: stop it, or wait until it has been silent for {folder.LOST_S:.0f} s"
        )


def _founded(events: Events, config: Config, run: Path, dataset: data.Dataset) -> Events:
    """Writes run.toml and tokenizer.json once training has really started, with every choice as it was made."""
    founded = False
    with closing(events):
        for event in events:
            if isinstance(event, Started) and not founded:
                founded = True  # another one comes after a rollback
                made = {
                    "device": event.device,
                    "dtype": event.dtype,
                    "compile": event.compile,
                    "threads": event.threads,
                }
                about = {
                    "format": FORMAT,
                    "name": run.name,
                    "created": time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                    "nanogpt": __version__,
                    "train_sha256": dataset.meta.sha256["train"],
                    **hardware.describe(),
                }
                tables = config_to_toml(with_settings(config, made))
                try:
                    write_atomically(run / "tokenizer.json", json.dumps(dataset.tokenizer.to_json()))
                    write_atomically(run / "run.toml", tomli_w.dumps({"run": about, **tables}))
                except OSError as error:
                    raise UserError(f"cannot begin in {run}: {disk_problem(error)}; choose another folder") from None
            yield event


def _noticed(text: str, events: Events) -> Events:
    """The events, with a notice after the first Started where there is a text."""
    with closing(events):
        for event in events:
            yield event
            if text and isinstance(event, Started):
                yield Notice(level="warning", text=text)
                text = ""


def _explained(config: Config, events: Events) -> Events:
    """Turns what a machine may run out of into one line that says what to lower or free."""
    try:
        yield from events
    except Exception as error:
        if hardware.is_out_of_memory(error):
            raise UserError(f"out of memory: {memory_advice(config)}") from None
        raise
