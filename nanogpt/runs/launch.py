"""Start and resume runs: prepare the data, train, record the events, write checkpoints. All as one stream of events."""

import dataclasses
import json
import os
import shlex
import time
from collections.abc import Callable, Generator, Mapping
from contextlib import closing, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import tomli_w
from filelock import Timeout

from nanogpt import __version__, data, hardware, sampling, tokenizers
from nanogpt.config import FORMAT, Config, SamplingConfig, config_to_toml, with_settings
from nanogpt.data.text_size import known_text_size
from nanogpt.errors import SettingError, UserError
from nanogpt.events import Event, Notice, Started, Token
from nanogpt.files import check_regular, sync, why, write_atomically
from nanogpt.formatting import counted
from nanogpt.inspection import (
    GradientNoiseObserver,
    HealthObserver,
    LayerHealthObserver,
    LayerProblemObserver,
    Observer,
    SpeedObserver,
    SpikeObserver,
)
from nanogpt.runs import checkpoints, folder
from nanogpt.runs.control_files import FileCommandQueue
from nanogpt.runs.dashboards import DashboardObserver, check_dashboards, dashboard_names
from nanogpt.runs.load import load_tokenizer
from nanogpt.runs.recorder import Recorder, disk_problem
from nanogpt.runs.resume_checks import check_adapters_unchanged, check_never_saved, check_shape_unchanged
from nanogpt.runs.run_dataset import check_sample_prompt, missing_documents, open_or_prepare, splits, with_dataset
from nanogpt.runs.torchrun import is_restarted, launch_id
from nanogpt.runs.weights import absolute_source, read_weights, with_shape_of_weights
from nanogpt.training import CommandQueue, Snapshot, train
from nanogpt.training.distributed import rank
from nanogpt.training.early_stopping import is_over
from nanogpt.training.runtime import memory_advice
from nanogpt.training.snapshot import Progress

if TYPE_CHECKING:
    from torch import Tensor

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
    """Train a new run in the folder `run`, from scratch or from other weights; prepare a missing data set first.

    `sources`, as in `Resolved`, says where each setting comes from (None: all were chosen): see
    `with_shape_of_weights`. With `eval_only` nothing is written. If torchrun has restarted the processes of this run,
    resume it. Raise `UserError`.
    """
    if is_restarted(run):
        yield from resume(run, commands=commands, data_dir=data_dir)
        return
    start_from: Snapshot | None = None
    notice = ""
    source = config.checkpoint.init_from
    if source == "resume":
        raise SettingError("init_from", "init_from=resume continues an existing run: see `runs.resume`")
    config = with_shape_of_weights(config, sources, runs_dir)
    check_dashboards(config)
    dataset = yield from open_or_prepare(config.data.dataset, data_dir)
    if source != "scratch":
        config = with_settings(config, {"init_from": absolute_source(source)})
        start_from, is_average = read_weights(source, dataset, runs_dir)
        if is_average:
            yield average_notice(source)
        if start_from.model_config.block_size > config.model.block_size:
            notice = (
                f"the weights of {source} know {start_from.model_config.block_size:,} positions; the new run uses the "
                f"first {config.model.block_size:,} of them, as block_size asks"
            )
        start_from = _cropped(start_from, config.model.block_size)
    config = with_dataset(config, dataset)
    notice = " ".join(filter(None, (notice, missing_documents(config, dataset))))
    check_sample_prompt(config, dataset)
    if config.evaluation.eval_only:
        events = train(
            config,
            splits(dataset),
            run=run.name,
            commands=commands,
            start=start_from,
            val_text=known_text_size(dataset, "val"),
        )
        yield from _with_notice(notice, _with_memory_advice(config, events))
        return
    if rank() == 0:
        folder.check_free(run)
    yield from _train_and_record(config, run, dataset, commands, start_from, is_first_start=True, notice=notice)


def resume(
    run: Path,
    changes: Mapping[str, Any] | None = None,
    *,
    commands: CommandQueue | None = None,
    data_dir: Path | None = None,
) -> Events:
    """Resume a run from its latest checkpoint, exactly as if it had not been interrupted.

    A run that ended before its first checkpoint starts again at step 0, with a `Notice`. `changes` are new values of
    settings by name (another device, more iterations). If torchrun has restarted the processes of this run, the
    checkpoint has those that a command can change, with what commands changed later. Raise `UserError`, also if the
    checkpoints were removed.
    """
    left_out = {"init_from", *(checkpoints.CHANGED_BY_COMMANDS if is_restarted(run) else ())}
    changes = {name: value for name, value in (changes or {}).items() if name not in left_out}
    if folder.is_imported(run):
        raise UserError(
            f"{run.name} was imported and has weights only: start a new run with "
            f"--init_from={shlex.quote(folder.run_name(run))}"
        )
    recorded = folder.run_config(run)
    config = with_settings(recorded, changes)
    check_shape_unchanged(run, recorded, config)
    check_adapters_unchanged(run, recorded, config)
    check_dashboards(config)
    dataset = yield from open_or_prepare(config.data.dataset, data_dir)
    check_sample_prompt(config, dataset)
    if tokenizers.fingerprint(load_tokenizer(run)) != tokenizers.fingerprint(dataset.tokenizer):
        raise UserError(f"the data set {dataset.name} was prepared with another tokenizer than the run {run.name}")
    config = with_dataset(config, dataset)
    trained_on = folder.read_run_toml(run).get("run", {}).get("train_sha256")
    if "dataset" not in changes and trained_on != dataset.meta.sha256["train"]:
        raise UserError(
            f"the data set {dataset.name} is not the one that {run.name} was trained on: prepare the old text again, "
            f"or say --dataset={dataset.name} to continue with the new one"
        )
    found = checkpoints.latest(run)
    notice, changed_progress = "", dict[str, Any]()
    if found is None:
        check_never_saved(run, config)
        notice = f"{run.name} ended before it saved its first checkpoint: it starts again at step 0"
    start_from = checkpoints.read(found.path) if found else None
    if start_from is None and config.checkpoint.init_from != "scratch":
        start_from, is_average = read_weights(config.checkpoint.init_from, dataset, run.parent)
        if is_average:
            yield average_notice(config.checkpoint.init_from)
        start_from = _cropped(start_from, config.model.block_size)
    elif start_from is not None:
        values = config.values()
        changed_progress = {name: values[name] for name in checkpoints.CHANGED_BY_COMMANDS if name in changes}
        progress = dataclasses.replace(start_from.progress, **changed_progress)
        start_from = dataclasses.replace(start_from, progress=progress)
        if config.evaluation.eval_only:
            progress.evaluated_at = -1
        elif progress.step >= progress.max_iters and progress.evaluated_at == progress.step:
            raise UserError(
                f"the run {run.name} is complete at step {progress.step:,}: pass a higher --max_iters to continue"
            )
        elif is_over(progress, patience := config.evaluation.patience):
            raise UserError(
                f"the run {run.name} ended at step {progress.step:,} after "
                f"{counted(progress.evaluations_without_improvement, 'evaluation')} without a better validation loss "
                f"(patience={patience}): pass a higher --patience to continue, or 0 to turn it off"
            )
    if config.evaluation.eval_only:
        events = train(
            config,
            splits(dataset),
            run=run.name,
            commands=commands,
            start=start_from,
            resume=found is not None,
            val_text=known_text_size(dataset, "val"),
        )
        yield from _with_memory_advice(config, events)
        return
    yield from _train_and_record(
        config,
        run,
        dataset,
        commands,
        start_from,
        is_first_start=False,
        resume=found is not None,
        notice=notice,
        changed_progress=changed_progress,
    )


def average_notice(source: str) -> Notice:
    """Return the event that a run starts from averaged weights."""
    return Notice(level="info", text=f"the run starts from the averaged weights of {source}")


def _cropped(start_from: Snapshot, block_size: int) -> Snapshot:
    """Return the weights with at most this many positions."""
    if start_from.model_config.block_size <= block_size:
        return start_from
    from nanogpt.runs.load import model_from

    model = model_from(start_from, "the starting weights")
    model.crop_block_size(block_size)
    return Snapshot(model.config, model.state_dict())


def _train_and_record(
    config: Config,
    run: Path,
    dataset: data.Dataset,
    commands: CommandQueue | None,
    start_from: Snapshot | None,
    *,
    is_first_start: bool,
    resume: bool = False,
    notice: str = "",
    changed_progress: Mapping[str, Any] | None = None,
) -> Events:
    """Train in the run's folder, under its lock, and record the events.

    resume: `start_from` is a checkpoint of this run. changed_progress: what is changed in it. `notice` becomes a
    warning once training has started. Under torchrun only the first process records.
    """
    if rank() > 0:
        find_checkpoint = partial(checkpoints.roll_back_to, run)
        events = train(
            config, splits(dataset), run=run.name, start=start_from, resume=resume, find_checkpoint=find_checkpoint
        )
        yield from _releasing(start_from, events)
        return
    if folder.is_run(run):
        _check_not_training_elsewhere(run)
    try:
        run.mkdir(parents=True, exist_ok=True)
        held = folder.lock(run)
        held.acquire(timeout=1)
    except Timeout:
        raise UserError(f"the run {run.name} is training in another process; two trainers never share a run") from None
    except OSError as error:
        raise UserError(f"cannot write in {run}: {why(error)}; choose another folder with --runs_dir") from None
    is_new = not folder.is_run(run)
    try:
        if is_first_start:  # another trainer may have started it while this one waited for the lock
            folder.check_free(run)
        else:
            _check_is_latest(run, start_from.progress.step if resume and start_from is not None else -1)
        if is_new:
            (run / "events.jsonl").unlink(missing_ok=True)
            checkpoints.remove_base(run)
        _check_files(run)
        # the losses of the weights that a new run begins with are another run's
        progress = start_from.progress if resume and start_from is not None else Progress()
        known = {name: getattr(progress, name) for name in ("val_loss", "best_val_loss", "ema_val_loss")}
        recorder = Recorder(run, "run.toml", dataset=dataset.name, **known)

        def save(snapshot: Snapshot, is_best: bool) -> str:
            with suppress(OSError):  # a checkpoint must not be later than the record if the power fails
                sync(run / "events.jsonl")
            try:
                retention = config.checkpoint.checkpoint_interval, config.checkpoint.keep_checkpoints
                path = checkpoints.write(run, snapshot, *retention)
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
            observers=_observers(config, run, dataset.tokenizer.decode),
            commands=FileCommandQueue(run, commands),
            save=save,
            sample=sample,
            find_checkpoint=partial(checkpoints.roll_back_to, run),
            wait_reason=recorder.problem,
            start=start_from,
            resume=resume,
            val_text=known_text_size(dataset, "val"),
        )
        base = start_from.model if config.checkpoint.lora_rank and start_from is not None and not resume else None
        work = _with_run_files(_with_notice(notice, events), config, run, dataset, base, changed_progress or {})
        work = _releasing(start_from, _with_memory_advice(config, work))
        with closing(recorder.record(work)) as recorded:
            yield from recorded
    finally:
        held.release()
        if is_new and not folder.is_run(run):  # it ended before the first step, or was removed: leave no empty folder
            with suppress(OSError):
                folder.clear_unstarted(run)
                run.rmdir()


def _observers(config: Config, run: Path, decode: Callable[[list[int]], str]) -> list[Observer]:
    """Return the observers of every run and those that the settings ask for."""
    observers: list[Observer] = [HealthObserver(), SpeedObserver()]
    is_divided = config.system.sharding != "none" and os.environ.get("WORLD_SIZE", "1") != "1"
    if config.evaluation.health_interval and not (is_divided or config.model.capabilities.counted):
        observers += [LayerHealthObserver(config), LayerProblemObserver(), SpikeObserver(decode)]
    if config.evaluation.noise_interval:
        observers.append(GradientNoiseObserver(config))
    return observers + [DashboardObserver(name, run) for name in dashboard_names(config)]


def _check_files(run: Path) -> None:
    """Raise `UserError` if a file to write is not regular, or is a link that would be written through."""
    for name in ("run.toml", "tokenizer.json", "events.jsonl", "status.json"):
        try:
            check_regular(run / name)
        except OSError as error:
            raise UserError(f"cannot train in {run}: {name}: {why(error)}") from None
    for name in ("events.jsonl", "train.log", "dashboards.log"):
        folder.check_no_link(run, name)


def _check_is_latest(run: Path, step: int) -> None:
    """Raise `UserError` if the run has a checkpoint after `step`: the trainer before may have saved it meanwhile."""
    newest = checkpoints.latest(run)
    if newest is not None and newest.step > step:
        raise UserError(f"{run.name} saved step {newest.step:,} while it was being resumed: resume it again")


def _check_not_training_elsewhere(run: Path) -> None:
    """Raise `UserError` if the run is training on another machine that shares the disk.

    The lock of such a trainer is not always visible. If it is gone by the clocks, which may be wrong, check twice.
    """
    try:
        about = folder.summary(run)
        if about.state == "interrupted" and not folder.is_on_this_machine(about):
            time.sleep(folder.RECHECK_S)
            about = folder.summary(run)
    except UserError:  # a trainer writes a readable status
        return
    if about.alive and not folder.is_on_this_machine(about):
        raise UserError(
            f"the run {run.name} is training on {about.host!r}, which wrote {about.silent_s:.0f} s "
            f"ago; two trainers never share a run: stop it, or wait until it has been silent for {folder.LOST_S:.0f} s"
        )


def _releasing(start_from: Snapshot | None, events: Events) -> Events:
    """Pass the events on; from the first one on the memory of the starting weights is free for the training."""
    with closing(events):
        for event in events:
            if start_from is not None:
                start_from.release()
                start_from = None
            yield event


def _with_run_files(
    events: Events,
    config: Config,
    run: Path,
    dataset: data.Dataset,
    base: Mapping[str, "Tensor"] | None,
    changed_progress: Mapping[str, Any],
) -> Events:
    """Pass the events on; at the first `Started` write tokenizer.json, and run.toml with the settings in use.

    base: the weights beside which adapters are trained, to be written too. changed_progress: to be written into the
    latest checkpoint.
    """
    is_written = False
    with closing(events):
        for event in events:
            if isinstance(event, Started) and not is_written:
                is_written = True  # there is another one after a rollback
                resolved: dict[str, Any] = {
                    # each of several processes has its own GPU
                    "device": event.device.partition(":")[0] if event.processes > 1 else event.device,
                    "dtype": event.dtype,
                    "compile": event.compile,
                }
                if "RANK" not in os.environ:  # several processes divide the cores, and others may resume the run
                    resolved["threads"] = event.threads
                before = folder.read_run_toml(run).get("run", {}) if folder.is_run(run) else {}
                about = {
                    "format": FORMAT,
                    "name": run.name,
                    "created": before.get("created") or time.strftime("%Y-%m-%dT%H:%M:%S%z"),
                    "nanogpt": __version__,
                    "train_sha256": dataset.meta.sha256["train"],
                    **hardware.describe(),
                }
                if launch := launch_id():
                    about["launch"] = launch
                tables = config_to_toml(with_settings(config, resolved))
                try:
                    if base is not None:
                        checkpoints.write_base(run, base)
                    write_atomically(run / "tokenizer.json", json.dumps(dataset.tokenizer.to_json()))
                    checkpoints.record_changes(run, changed_progress)
                    write_atomically(run / "run.toml", tomli_w.dumps({"run": about, **tables}))
                except OSError as error:
                    raise UserError(
                        f"cannot start a run in {run}: {disk_problem(error)}; choose another folder"
                    ) from None
            yield event


def _with_notice(text: str, events: Events) -> Events:
    """Pass the events on, with a warning after the first `Started` if `text` is not empty."""
    with closing(events):
        for event in events:
            yield event
            if text and isinstance(event, Started):
                yield Notice(level="warning", text=text)
                text = ""


def _with_memory_advice(config: Config, events: Events) -> Events:
    """Pass the events on; turn an out-of-memory error into a `UserError` that says what to lower."""
    try:
        yield from events
    except Exception as error:
        if hardware.is_out_of_memory(error):
            raise UserError(f"out of memory: {memory_advice(config)}") from None
        raise
