"""Early stopping: a training ends after `patience` evaluations in a row without an improvement.

An improvement is a validation loss that is more than `min_delta` below that of the last improvement. The counters are
part of `Progress`, so a run that ended continues exactly with a larger patience.
"""

from nanogpt.events import Health
from nanogpt.formatting import counted
from nanogpt.training.snapshot import Progress


def count_evaluation(progress: Progress, val_loss: float, min_delta: float) -> None:
    """Count the evaluation with this loss (nats per token; one that is not finite is no improvement).

    Called before `best_val_loss` includes it: a checkpoint of an earlier version has only that to compare with.
    """
    last = progress.best_val_loss if progress.improved_val_loss is None else progress.improved_val_loss
    if last is None or val_loss < last - min_delta:
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
    message = (
        f"ended early: no better validation loss in {evaluations}; the best is {progress.best_val_loss:.4f} at "
        f"step {progress.best_step:,}. To continue, resume with a higher patience"
    )
    return Health(step=progress.step, state="patience", message=message)
