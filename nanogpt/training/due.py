"""What is due at a step: an evaluation, a checkpoint, a sample, the end."""

from typing import Literal

from nanogpt.config import Config
from nanogpt.training.early_stopping import is_over
from nanogpt.training.snapshot import Progress


def reason_to_finish(progress: Progress, config: Config) -> Literal["max_iters", "patience"] | None:
    """Return why training is complete at this step; None if it is not."""
    if progress.step >= progress.max_iters:
        return "max_iters"
    return "patience" if is_over(progress, config.evaluation.patience) else None


def evaluation_is_due(progress: Progress, config: Config) -> bool:
    """Return whether to evaluate now: at a multiple of `eval_interval` and at the end, once."""
    if progress.evaluated_at == progress.step:
        return False
    if progress.step >= progress.max_iters or config.evaluation.eval_only:
        return True
    # With an interval longer than the run, evaluate only at its end.
    return progress.step % progress.eval_interval == 0 and progress.eval_interval <= progress.max_iters


def checkpoint_is_due(progress: Progress, config: Config) -> bool:
    """Return whether this step is to be saved: at a multiple of `checkpoint_interval`, and after the best evaluation.

    With `always_save_checkpoint`, after every evaluation.
    """
    checkpoint = config.checkpoint
    on_interval = bool(checkpoint.checkpoint_interval) and progress.step % checkpoint.checkpoint_interval == 0
    evaluated = progress.evaluated_at == progress.step
    after_evaluation = evaluated and (checkpoint.always_save_checkpoint or progress.best_step == progress.step)
    return progress.step > 0 and (on_interval or after_evaluation)


def sample_is_due(progress: Progress, config: Config) -> bool:
    """Return whether this step gets a sample: at a multiple of `sample_interval`."""
    every = config.evaluation.sample_interval
    return bool(every) and progress.step % every == 0
