"""Checkpoints: folders that are written atomically, and checked by SHA-256 when they are read. No pickle.

    checkpoints/step-00002000/   model.safetensors  optimizer.safetensors  trainer.json
                                 average.safetensors, if the weights are averaged
                                 adapters.safetensors in place of model.safetensors, if LoRA adapters are trained
    base.safetensors             the frozen weights beside the adapters, the same for all checkpoints of the run

Listing them imports no torch.
"""

import hashlib
import json
import math
import os
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass
from operator import itemgetter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nanogpt import paths
from nanogpt.config import ArchitectureConfig, Config, architecture_from, with_settings
from nanogpt.errors import SettingError, UserError
from nanogpt.files import (
    apply_umask,
    new_file,
    new_folder,
    read_text,
    remove,
    remove_folder,
    sha256,
    system_error,
    why,
    write_atomically,
)
from nanogpt.records import from_values
from nanogpt.runs.folder import find, run_config

if TYPE_CHECKING:
    from torch import Tensor

    from nanogpt.training import Snapshot

FORMAT = 1
CHANGED_BY_COMMANDS = (
    "max_iters",
    "eval_interval",
)  # a resume uses the values in the checkpoint
PICKLES = (".pt", ".pth", ".bin", ".ckpt", ".pkl")  # suffixes
PICKLE_ADVICE = "`nanogpt import nanogpt FILE` makes a run of a ckpt.pt of nanoGPT without running its code"
AVERAGE = "average.safetensors"
ADAPTERS, BASE = "adapters.safetensors", "base.safetensors"
REPLACED = ".replaced"  # suffix of a checkpoint that is being replaced by another of the same step


class ReadError(UserError):
    """The system refuses to read a file, which may be sound: the next attempt may succeed."""


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """One checkpoint on disk. `val_loss` (nats per token) is None if there was no evaluation at its step.

    It is the loss of its raw or its averaged weights, whichever is lower: of those that are used by default.

    is_refused: the system refused to read its trainer.json now, so that its `val_loss` is not known.
    """

    step: int
    path: Path
    val_loss: float | None
    is_refused: bool = False


def list_checkpoints(run: Path) -> list[Checkpoint]:
    """Return the checkpoints of a run by step. If a trainer.json cannot be read, its `val_loss` is None.

    Raise `UserError` if the folder cannot be listed.
    """
    found = []
    for step, folder in _folders(run):
        loss, is_refused = None, False
        try:
            loss = _val_loss(_read_trainer(folder)["progress"])
        except UserError as error:
            is_refused = isinstance(error, ReadError)
        found.append(Checkpoint(step, folder, loss, is_refused))
    return found


def _val_loss(progress: dict[str, Any]) -> float | None:
    """Return the lower one of the finite validation losses that were measured at the step; None without any."""
    known = [progress.get(name) for name in ("val_loss", "ema_val_loss")]
    finite = [loss for loss in known if isinstance(loss, float) and math.isfinite(loss)]
    return min(finite, default=None) if progress.get("evaluated_at") == progress.get("step") else None


def _folders(run: Path) -> list[tuple[int, Path]]:
    """Return the steps and folders of a run's checkpoints by step. Raise `UserError` if they cannot be listed."""
    found = []
    try:
        folders = sorted((run / "checkpoints").iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise UserError(f"cannot read {run / 'checkpoints'}: {why(error)}") from None
    for folder in (each for each in folders if each.name.startswith("step-")):
        replaced = folder.suffix == REPLACED and not folder.with_suffix("").exists()
        if (not folder.suffix or replaced) and folder.stem[5:].isdecimal():
            found.append((int(folder.stem[5:]), folder))
    return sorted(found, key=itemgetter(0))


def latest_step(run: Path) -> int:
    """Return the step of the latest checkpoint, 0 without one. Reads no file. Raise `UserError` as `latest`."""
    return max((step for step, _ in _folders(run)), default=0)


def latest(run: Path) -> Checkpoint | None:
    """Return the checkpoint with the highest step, or None."""
    return max(list_checkpoints(run), key=lambda checkpoint: checkpoint.step, default=None)


def best(run: Path) -> Checkpoint | None:
    """Return the checkpoint with the lowest validation loss, or None."""
    return best_of(list_checkpoints(run))


def best_of(found: list[Checkpoint]) -> Checkpoint | None:
    """Return the checkpoint with the lowest validation loss of these, or None if none was evaluated."""
    evaluated = [(c.val_loss, c.step, c) for c in found if c.val_loss is not None]
    return min(evaluated)[2] if evaluated else None


def choose(run: Path, which: str = "best") -> Checkpoint:
    """Return the checkpoint "best" (the latest if none was evaluated), "latest", or of a step.

    Raise `UserError`, which lists the existing ones.
    """
    found = list_checkpoints(run)
    if not found:
        raise UserError(
            f"the run {run.name} has no checkpoint yet: it saves the first at its first evaluation after step 0"
        )
    if which == "best":
        return best(run) or found[-1]
    if which == "latest":
        return found[-1]
    for checkpoint in found:
        if str(checkpoint.step) == which.replace("_", "").replace(",", ""):
            return checkpoint
    steps = ", ".join(str(checkpoint.step) for checkpoint in found)
    raise UserError(f"the run {run.name} has no checkpoint {which!r}: choose best, latest or one of the steps {steps}")


def locate(source: str | None, which: str = "best", runs_dir: str | Path | None = None) -> tuple[Path, Path]:
    """Return (run folder, checkpoint folder) of a run's name or path, or of a checkpoint's path. Raise `UserError`."""
    if source is not None and is_checkpoint(paths.expanded(source)):
        path = paths.expanded(source).absolute()
        return path.parent.parent, path
    try:
        run = find(source, runs_dir)
    except UserError:
        if source is None or Path(source).suffix not in PICKLES:
            raise
        raise UserError(
            f"{source} is a pickle, which can run code when it is loaded: only safetensors are read here. "
            f"{PICKLE_ADVICE}"
        ) from None
    return run, choose(run, which).path


def write_base(run: Path, weights: Mapping[str, "Tensor"]) -> None:
    """Write the weights beside which a run trains adapters, atomically and durably; replace older ones.

    Raise OSError.
    """
    remove_base(run)
    with new_file(run / BASE) as path:
        _save_tensors(weights, path)


def remove_base(run: Path) -> None:
    """Remove the frozen weights and what a killed trainer has written of them. Raise OSError."""
    for path in (run / BASE, *run.glob(f".{BASE}.*.partial")):
        path.unlink(missing_ok=True)


def _save_tensors(tensors: Mapping[str, "Tensor"], path: Path) -> None:
    from safetensors import SafetensorError
    from safetensors.torch import save_file

    try:
        save_file({key: tensor.detach().contiguous() for key, tensor in tensors.items()}, path)
    except SafetensorError as error:
        raise system_error(error, path) from error


def write(run: Path, snapshot: "Snapshot", keep_every: int = 0, keep: int = 0) -> Path:
    """Write a checkpoint atomically and durably, then remove old ones; return its folder.

    The latest, the best, those at multiples of `keep_every` steps (0: none) and those whose loss cannot be read now
    stay, and others spread over the run, up to `keep` in all. Raise OSError if nothing could be written; the old
    checkpoints are then unchanged.
    """
    home = run / "checkpoints"
    final = home / f"step-{snapshot.progress.step:08d}"
    partial, replaced = final.with_suffix(".partial"), final.with_suffix(REPLACED)
    home.mkdir(exist_ok=True)  # but not the run's folder, which may have vanished for a reason
    remove(partial, ignore_errors=True)
    if os.path.lexists(final):
        remove(replaced, ignore_errors=True)
    with new_folder(final, partial, replaced) as folder:
        sums = {}
        weights = {"adapters": snapshot.adapters} if snapshot.adapters else {"model": snapshot.model}
        parts = {**weights, "optimizer": snapshot.optimizer}
        if snapshot.adapters:
            sums[BASE] = _base_sum(run)
        if snapshot.average:
            parts["average"] = snapshot.average
        for name, tensors in parts.items():
            path = folder / f"{name}.safetensors"
            _save_tensors(tensors, path)
            apply_umask(path)
            sums[path.name] = sha256(path)
        trainer: dict[str, Any] = {
            "format": FORMAT,
            "model": snapshot.model_config.to_dict(),
            "progress": asdict(snapshot.progress),
            "position": snapshot.position,
            "sha256": sums,
        }
        trainer["sha256"]["trainer"] = _fingerprint(trainer)
        (folder / "trainer.json").write_text(json.dumps(trainer, indent=1) + "\n", encoding="utf-8")
    with suppress(UserError):  # if they cannot be listed, none is removed
        _prune(run, keep_every, keep)
    return final


def record_changes(run: Path, changes: Mapping[str, Any]) -> None:
    """Change values of the progress in the latest checkpoint, as a resume with other settings does.

    So they hold for the next resume too, if this one ends before its first checkpoint. Raise OSError or `UserError`.
    """
    if not changes or (newest := latest(run)) is None:
        return
    trainer = _read_trainer(newest.path)
    trainer["progress"].update(changes)
    trainer["sha256"]["trainer"] = _fingerprint(trainer)
    write_atomically(newest.path / "trainer.json", json.dumps(trainer, indent=1) + "\n")


def _base_sum(run: Path) -> str:
    """Return the sha256 of the frozen weights, from the checkpoint before if there is one: they never change.

    Raise OSError.
    """
    with suppress(UserError, KeyError):
        if before := latest(run):
            return str(_read_trainer(before.path)["sha256"][BASE])
    return sha256(run / BASE)


def roll_back_to(run: Path, step: int) -> "Snapshot | None":
    """Return the snapshot of the latest sound checkpoint up to `step`, or None, and remove later checkpoints.

    They are removed so that a resume starts from the same checkpoint. Raise `UserError` if the system refuses to read
    one that may be sound.
    """
    found = list_checkpoints(run)
    for checkpoint in reversed([each for each in found if each.step <= step]):
        try:
            snapshot = read(checkpoint.path)
        except ReadError:
            raise
        except UserError:
            continue
        for later in found:
            if later.step > checkpoint.step:
                _remove(later.path)
        return snapshot
    return None


def read(checkpoint: Path, *, weights_only: bool = False) -> "Snapshot":
    """Return the snapshot in a checkpoint's folder, with the sha256 of every file checked.

    With `weights_only` there are no averaged weights and no optimizer state, and adapters are merged into the weights.
    Raise `UserError` if it is damaged or is not a checkpoint.
    """
    from nanogpt.models.lora import merged_weights
    from nanogpt.training.snapshot import Progress, Snapshot

    trainer = _read_trainer(checkpoint)
    config = _model_config(checkpoint, trainer)
    try:
        progress = from_values(Progress, trainer["progress"])
        position = int(trainer["position"])
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise _unreadable(checkpoint, error) from None
    adapters = _read_tensors(checkpoint, ADAPTERS, trainer) if ADAPTERS in trainer["sha256"] else {}
    tensors = _read_tensors(checkpoint, BASE if adapters else "model.safetensors", trainer)
    if weights_only:
        if adapters:
            try:
                tensors = merged_weights(tensors, adapters)
            except (KeyError, RuntimeError) as error:
                raise _unreadable(checkpoint, error) from None
        return Snapshot(config, tensors, {}, progress, position)
    optimizer = _read_tensors(checkpoint, "optimizer.safetensors", trainer)
    average = _read_tensors(checkpoint, AVERAGE, trainer) if AVERAGE in trainer["sha256"] else {}
    return Snapshot(config, tensors, optimizer, progress, position, average, adapters)


def read_average(checkpoint: Path) -> "dict[str, Tensor]":
    """Return the averaged weights by parameter, empty if the checkpoint has none. Raise `UserError` as `read` does."""
    trainer = _read_trainer(checkpoint)
    return _read_tensors(checkpoint, AVERAGE, trainer) if AVERAGE in trainer["sha256"] else {}


def weight_files(checkpoint: Path) -> list[Path]:
    """Return the files of tensors that `read` needs for weights, each with the sha256 that was written with it.

    Raise `UserError` if one is damaged.
    """
    trainer = _read_trainer(checkpoint)
    names = [name for name in ("model.safetensors", AVERAGE, ADAPTERS, BASE) if name in trainer["sha256"]]
    found = [_tensor_path(checkpoint, name) for name in names]
    for path in found:
        _check_sum(path, trainer)
    return found


def model_config(checkpoint: Path) -> ArchitectureConfig:
    """Return the model's configuration, without reading the weights. Raise `UserError`."""
    return _model_config(checkpoint, _read_trainer(checkpoint))


def _model_config(checkpoint: Path, trainer: dict[str, Any]) -> ArchitectureConfig:
    try:
        return architecture_from(trainer["model"])
    except (KeyError, TypeError, ValueError, AttributeError, SettingError) as error:
        raise _unreadable(checkpoint, error) from None


def _unreadable(checkpoint: Path, error: Exception) -> UserError:
    return UserError(f"{checkpoint} is not a checkpoint that this version can read: {error}")


def progress(checkpoint: Path) -> dict[str, Any]:
    """Return the fields of `nanogpt.training.Progress`, without reading the weights. Raise `UserError`."""
    return dict(_read_trainer(checkpoint)["progress"])


def trained_config(run: Path) -> Config:
    """Return the run's configuration with what commands changed during training, as its latest checkpoint has it.

    Raise `UserError` if run.toml cannot be read; a checkpoint that cannot be read is left out.
    """
    config = run_config(run)
    with suppress(UserError):
        return with_changes(config, latest(run))
    return config


def with_changes(config: Config, checkpoint: Checkpoint | None) -> Config:
    """Return a run's configuration with what commands had changed at one of its checkpoints. Raise `UserError`."""
    if checkpoint is None:
        return config
    before = progress(checkpoint.path)
    if before.get("tokens") == 0:  # imported weights, of whose training no setting is known
        return config
    return with_settings(config, {name: before[name] for name in CHANGED_BY_COMMANDS if name in before})


def is_checkpoint(folder: Path) -> bool:
    """Return whether `folder` is a checkpoint. Raise `UserError` if its permissions forbid to read it."""
    try:
        return (folder / "trainer.json").is_file()
    except PermissionError as error:
        raise UserError(f"cannot look into {folder}: {why(error)}") from None


def _read_tensors(checkpoint: Path, name: str, trainer: dict[str, Any]) -> "dict[str, Tensor]":
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = _tensor_path(checkpoint, name)
    _check_sum(path, trainer)
    try:
        return load_file(path)
    except OSError as error:
        raise ReadError(f"cannot read {path}: {why(error)}") from None
    except (SafetensorError, ValueError) as error:
        raise _damaged(path, str(error)) from None


def _tensor_path(checkpoint: Path, name: str) -> Path:
    """Return the path of a file of tensors of a checkpoint; the frozen weights are beside all checkpoints."""
    return (checkpoint.parent.parent if name == BASE else checkpoint) / name


def _check_sum(path: Path, trainer: dict[str, Any]) -> None:
    """Raise `UserError` unless a file of a checkpoint has the sha256 that was written with it."""
    try:
        if sha256(path) != trainer["sha256"].get(path.name):
            raise _damaged(path, "its sha256 is not the one written with it")
    except FileNotFoundError as error:
        raise _damaged(path, str(error)) from None
    except OSError as error:
        raise ReadError(f"cannot read {path}: {why(error)}") from None


def _read_trainer(checkpoint: Path) -> dict[str, Any]:
    path = checkpoint / "trainer.json"
    try:
        trainer = json.loads(read_text(path))
        claimed = trainer["sha256"].pop("trainer")
    except FileNotFoundError:
        if not checkpoint.exists():
            raise _damaged(path, "") from None
        raise UserError(f"{checkpoint} is not a checkpoint: it has no trainer.json") from None
    except OSError as error:
        raise ReadError(f"cannot read {path}: {why(error)}") from None
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise _damaged(path, str(error)) from None
    if trainer.get("format") != FORMAT or claimed != _fingerprint(trainer):
        raise _damaged(path, "its contents do not match their sha256")
    if not isinstance(trainer.get("progress"), dict):
        raise _damaged(path, "it does not say how far the training was")
    return dict(trainer)


def _damaged(path: Path, reason: str) -> UserError:
    if not path.parent.exists():
        return UserError(f"{path.parent} was removed while it was read, as a training does: choose a newer one")
    others = _others(path.parent)
    advice = "this run has no other checkpoint"
    if others:
        advice = f"the run also has steps {', '.join(others)}; to resume at the last of them, remove this folder"
    return UserError(f"{path} is damaged ({reason}): {advice}")


def _others(folder: Path) -> list[str]:
    """Return the steps of the other checkpoints of the run."""
    others = [other.name[5:] for other in sorted(folder.parent.glob("step-*")) if other != folder]
    return [str(int(step)) for step in others if step.isdecimal()]


def _fingerprint(trainer: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(trainer, sort_keys=True).encode()).hexdigest()


def _remove(checkpoint: Path) -> None:
    """Remove a checkpoint and the one that it replaced. Ignore what the disk refuses: the next pruning tries again."""
    for path in (checkpoint.with_suffix(REPLACED), checkpoint):
        with suppress(OSError):
            remove_folder(path, path.with_suffix(".removed"))


def thin_out(steps: list[int], needed: set[int], count: int) -> list[int]:
    """Return `count` of the ascending `steps`, about evenly spaced, or more if more are `needed`.

    Repeatedly drop the step that leaves the smallest gap, and of equal ones the latest.
    """
    spread = list(steps)
    while len(spread) > count:
        edges = [0, *spread, spread[-1]]
        gaps = [(edges[at + 2] - edges[at], -at) for at, step in enumerate(spread) if step not in needed]
        if not gaps:
            break
        del spread[-min(gaps)[1]]
    return spread


def _prune(run: Path, keep_every: int, keep: int) -> None:
    found = list_checkpoints(run)
    needed = {each.step for each in found if each.is_refused or (keep_every and each.step % keep_every == 0)}
    needed |= {each.step for each in (*found[-1:], best_of(found)) if each is not None}
    spread = thin_out([each.step for each in found], needed, keep)
    for checkpoint in found:
        if checkpoint.step not in spread:
            _remove(checkpoint.path)
    for leftover in [*run.glob("checkpoints/*.removed"), *run.glob("checkpoints/*.partial")]:
        remove(leftover, ignore_errors=True)
    for replaced in run.glob(f"checkpoints/*{REPLACED}"):
        if replaced.with_suffix("").exists():
            remove(replaced, ignore_errors=True)
