"""What a resume must not change, and must not overwrite."""

import shlex
from pathlib import Path

from nanogpt.config import Config
from nanogpt.errors import SettingError, UserError
from nanogpt.events import Saved
from nanogpt.runs import folder
from nanogpt.runs.event_log import events_of


def check_shape_unchanged(run: Path, before: Config, after: Config) -> None:
    """Raise `SettingError` if a setting that gives the weights their shapes differs from the run's."""
    values = after.values()
    for name, was in before.model.shape().items():
        asked = values.get(name, was)
        if was == asked:
            continue
        advice = "train a new run for another shape"
        if name == "block_size" and asked < was and before.model.capabilities.crop:
            advice = (
                f"start a new run from its weights with --init_from={shlex.quote(folder.run_name(run))} "
                f"--block_size={asked} --dataset={shlex.quote(before.data.dataset)}"
            )
        raise SettingError(
            name, f"{name}={asked}: a resumed run keeps its shape, and {run.name} has {name}={was}; {advice}"
        )


def check_adapters_unchanged(run: Path, before: Config, after: Config) -> None:
    """Raise `SettingError` if a setting of the LoRA adapters differs from the run's."""
    for name in ("lora_rank", "lora_alpha"):
        was, asked = getattr(before.checkpoint, name), getattr(after.checkpoint, name)
        if was != asked:
            raise SettingError(
                name,
                f"{name}={asked}: a resumed run keeps its adapters, and {run.name} has {name}={was}; start a new run "
                f"from its weights with --init_from={shlex.quote(folder.run_name(run))}",
            )


def check_never_saved(run: Path, config: Config) -> None:
    """Raise `UserError` if the run had a checkpoint: starting again would overwrite what it learned and recorded."""
    saved = events_of(run, Saved)
    if saved:
        raise UserError(
            f"the run {run.name} saved at step {saved[-1].step:,}, but {run / 'checkpoints'} has no checkpoint "
            "any more: put them back, or train a new run with another name"
        )
    if config.evaluation.eval_only:
        raise UserError(f"the run {run.name} has no checkpoint yet that could be evaluated")
