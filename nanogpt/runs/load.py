"""Load a trained model and its tokenizer from a run or a checkpoint, for sampling."""

from dataclasses import dataclass
from pathlib import Path

from nanogpt import hardware, tokenizers
from nanogpt.errors import UserError
from nanogpt.models.base import LanguageModel
from nanogpt.models.meta_device import on_meta_device
from nanogpt.runs import checkpoints
from nanogpt.tokenizers import Tokenizer
from nanogpt.training.snapshot import Snapshot, check_weights, restore_weights


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """`model` is on `device` in evaluation mode; `val_loss` (nats per token) is None if its step was not evaluated."""

    model: LanguageModel
    tokenizer: Tokenizer
    run: str
    step: int
    val_loss: float | None
    device: str


def load_model(
    source: str | None = None, which: str = "best", device: str = "auto", runs_dir: str | Path | None = None
) -> LoadedModel:
    """Load the model of a run (by name or path; None: the newest), or of a checkpoint's folder, which needs no `which`.

    Raise `UserError` if it does not exist, is damaged, or the tokenizer does not fit the model.
    """
    run, path = checkpoints.locate(source, which, runs_dir)
    snapshot = checkpoints.read(path, weights_only=True)
    tokenizer = load_tokenizer(run)
    if tokenizer.vocab_size > snapshot.model_config.vocab_size:
        raise UserError(
            f"the tokenizer in {run} has {tokenizer.vocab_size:,} tokens, but the model has "
            f"{snapshot.model_config.vocab_size:,}: they are not from the same run"
        )
    device = hardware.resolve_device(device)
    model = model_from(snapshot, str(path)).to(device).eval()
    progress = snapshot.progress
    evaluated = progress.evaluated_at == progress.step
    return LoadedModel(model, tokenizer, run.name, progress.step, progress.val_loss if evaluated else None, device)


def load_tokenizer(run: Path) -> Tokenizer:
    """Return the tokenizer that the run was trained with. Raise `UserError`."""
    return tokenizers.load(run / "tokenizer.json")


def model_from(snapshot: Snapshot, source: str) -> LanguageModel:
    """Return a model with the snapshot's weights, on the CPU.

    Raise `UserError`, which names `source`, if they do not fit its configuration, before any memory is allocated.
    """
    with on_meta_device():
        check_weights(snapshot.model_config.build(), snapshot.model, source)
    model = snapshot.model_config.build()
    restore_weights(model, snapshot.model, source)
    return model
