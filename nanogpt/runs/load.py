"""A trained model with its tokenizer, out of a run or a checkpoint, ready to write. Knows nothing of training."""

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
    """`model` is on `device` in evaluation mode; `val_loss` is None where its step was not evaluated."""

    model: LanguageModel
    tokenizer: Tokenizer
    run: str
    step: int
    val_loss: float | None
    device: str


def load_model(
    source: str | None = None, which: str = "best", device: str = "auto", runs_dir: str | Path | None = None
) -> LoadedModel:
    """The model of a run (by name or path; None: the newest), or of a checkpoint folder, which then is its own `which`.

    Raises `UserError` for what is not there, damaged, or does not fit together.
    """
    run, path = checkpoints.locate(source, which, runs_dir)
    snapshot = checkpoints.read(path, weights_only=True)
    tokenizer = load_tokenizer(run)
    if tokenizer.vocab_size > snapshot.model_config.vocab_size:
        raise UserError(
            f"the tokenizer in {run} has {tokenizer.vocab_size:,} tokens, but the model knows "
            f"{snapshot.model_config.vocab_size:,}: they are not of one run"
        )
    device = hardware.resolve_device(device)
    model = model_from(snapshot, str(path)).to(device).eval()
    progress = snapshot.progress
    evaluated = progress.evaluated_at == progress.step
    return LoadedModel(model, tokenizer, run.name, progress.step, progress.val_loss if evaluated else None, device)


def load_tokenizer(run: Path) -> Tokenizer:
    """The tokenizer that the run was trained with. Raises `UserError`."""
    return tokenizers.load(run / "tokenizer.json")


def model_from(snapshot: Snapshot, source: str) -> LanguageModel:
    """Return a model with the snapshot's weights, on the CPU.

    Raise `UserError` naming `source` where they are not those of its configuration, before any memory is taken.
    """
    with on_meta_device():
        check_weights(snapshot.model_config.build(), snapshot.model, source)
    model = snapshot.model_config.build()
    restore_weights(model, snapshot.model, source)
    return model
