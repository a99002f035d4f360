"""Load a trained model and its tokenizer from a run or a checkpoint, for sampling."""

from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from nanogpt import hardware, tokenizers
from nanogpt.errors import UserError
from nanogpt.loss_units import better_loss
from nanogpt.models.base import LanguageModel
from nanogpt.models.meta_device import Uninitialised, on_meta_device
from nanogpt.runs import checkpoints, folder
from nanogpt.tokenizers import Tokenizer
from nanogpt.training.snapshot import Snapshot, check_weights, restore_weights

Weights = Literal["auto", "ema", "raw"]


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """`model` is on `device` in evaluation mode; `val_loss` (nats per token) is None if its step was not evaluated.

    is_average: it has the averaged weights of its checkpoint.
    """

    model: LanguageModel
    tokenizer: Tokenizer
    run: str
    step: int
    val_loss: float | None
    device: str
    is_average: bool = False


def load_model(
    source: str | None = None,
    which: str = "best",
    device: str = "auto",
    runs_dir: str | Path | None = None,
    weights: Weights = "auto",
) -> LoadedModel:
    """Load the model of a run (by name or path; None: the newest), or of a checkpoint's folder, which needs no `which`.

    The model has the document mask of its run. weights: the averaged ones, the raw ones, or "auto": the averaged ones
    if the checkpoint has them, unless they had the higher validation loss there. Raise `UserError` if it does not
    exist, is damaged, or the tokenizer does not fit the model.
    """
    run, path = checkpoints.locate(source, which, runs_dir)
    snapshot, val_loss, is_average = read_chosen_weights(path, weights)
    tokenizer = load_tokenizer(run)
    if tokenizer.vocab_size > snapshot.model_config.vocab_size:
        raise UserError(
            f"the tokenizer in {run} has {tokenizer.vocab_size:,} tokens, but the model has "
            f"{snapshot.model_config.vocab_size:,}: they are not from the same run"
        )
    model, device = _placed(model_from(snapshot, str(path)), device)
    model.eval()
    with suppress(UserError):  # a checkpoint's folder may be without its run
        model.document_separator = folder.run_config(run).data.separator
    return LoadedModel(model, tokenizer, run.name, snapshot.progress.step, val_loss, device, is_average)


def _placed(model: LanguageModel, asked: str) -> tuple[LanguageModel, str]:
    """Return the model on the device that is asked for, and the device; for "auto" the CPU if a GPU is full.

    Raise `UserError` if another one is full.
    """
    device = hardware.resolve_device(asked)
    try:
        return model.to(device), device
    except RuntimeError as error:
        if device == "cpu" or not hardware.is_out_of_memory(error):
            raise
        if asked != "auto":
            raise UserError(f"out of memory on {device}: use --device=cpu") from None
    return model.to("cpu"), "cpu"


def read_chosen_weights(path: Path, weights: Weights) -> tuple[Snapshot, float | None, bool]:
    """Return the snapshot of a checkpoint with these weights, their validation loss, and whether they are averaged.

    Raise `UserError` as `load_model` does.
    """
    snapshot = checkpoints.read(path, weights_only=True)
    progress = snapshot.progress
    losses = (progress.val_loss, progress.ema_val_loss) if progress.evaluated_at == progress.step else (None, None)
    raw_loss, average_loss = losses
    is_worse = raw_loss is not None and average_loss is not None and average_loss != better_loss(raw_loss, average_loss)
    average = {} if weights == "raw" or (weights == "auto" and is_worse) else checkpoints.read_average(path)
    if weights == "ema" and not average:
        raise UserError(f"{path} has no averaged weights: train with --ema_decay=0.99, or use --weights=raw")
    if not average:
        return snapshot, raw_loss, False
    return replace(snapshot, model=snapshot.model | average), average_loss, True


def load_tokenizer(run: Path) -> Tokenizer:
    """Return the tokenizer that the run was trained with. Raise `UserError`."""
    return tokenizers.load(run / "tokenizer.json")


def model_from(snapshot: Snapshot, source: str) -> LanguageModel:
    """Return a model with the snapshot's weights, on the CPU.

    Raise `UserError`, which names `source`, if they do not fit its configuration, before any memory is allocated.
    """
    with on_meta_device():
        check_weights(snapshot.model_config.build(), snapshot.model, source)
    with Uninitialised():
        model = snapshot.model_config.build()
    restore_weights(model, snapshot.model, source)
    return model
