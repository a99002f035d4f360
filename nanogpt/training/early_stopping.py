"""Early stopping: a training ends after `patience` evaluations in a row without an improvement.

An improvement is a validation loss that is more than `min_delta` below that of the last improvement. With averaged
weights it is the lower one of both losses. The counters are part of `Progress`, so a run that ended continues exactly
with a larger patience.
"""

import math

from nanogpt.events import Health
from nanogpt.formatting import counted
from nanogpt.training.snapshot import Progress


def is_lower(val_loss: float, best: float | None) -> bool:
    """Return whether a loss is finite, and lower than the best one if that is a number."""
    return math.isfinite(val_loss) and (best is None or not best <= val_loss)


def count_evaluation(progress: Progress, val_loss: float, min_delta: float) -> None:
    """Count the evaluation with this loss (nats per token; one that is not finite is no improvement).

    Called before `best_val_loss` includes it: a checkpoint of an earlier version has only that to compare with.
    """
    last = progress.best_val_loss if progress.improved_val_loss is None else progress.improved_val_loss
    if is_lower(val_loss, None if last is None else last - min_delta):
        progress.improved_val_loss, progress.evaluations_without_improvement = val_loss, 0
    else:
        progress.improved_val_loss = last
        progress.evaluations_without_improvement += 1


def is_over(progress: Progress, patience: int) -> bool:
    """Return whether the training ends here; never with a patience of 0."""
    return 0 < patience <= progress.evaluations_without_improvement


def early_stopping_event(progress: Progress) -> Health:
    """Return the event that training ends because the validation loss has not improved."""
    evaluations = counted(progress.evaluations_without_improvement, "evaluation")
    best = "it was never a finite number"
    if progress.best_val_loss is not None:
        best = f"the best is {progress.best_val_loss:.4f} at step {progress.best_step:,}"
    message = (
        f"ended early: no better validation loss in {evaluations}; {best}. To continue, resume with a higher patience"
    )
    return Health(step=progress.step, state="patience", message=message)
