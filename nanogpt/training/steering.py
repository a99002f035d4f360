"""What a letter changes in a training's progress, and the words that acknowledge it. Knows nothing of the loop."""

from nanogpt.training import mailbox as letters
from nanogpt.training.snapshot import Progress


def apply(letter: letters.Portable | letters.Copy, progress: Progress, is_saved: bool) -> str:
    """Changes the progress as the letter says, and says so in words. `is_saved`: this very step has a checkpoint."""
    match letter:
        case letters.Stop():
            return "stopping" if letter.save else "stopping without a checkpoint"
        case letters.ScaleLearningRate(factor):
            progress.learning_rate_scale *= factor
            return f"learning rate × {factor:g}, now × {progress.learning_rate_scale:g} of its schedule"
        case letters.SetLearningRateScale(scale):
            progress.learning_rate_scale = scale
            return f"learning rate × {scale:g} of its schedule"
        case letters.SetEvalInterval(iterations):
            progress.eval_interval = iterations
            return f"evaluation every {progress.eval_interval:,} iterations"
        case letters.SetMaxIters(iterations):
            progress.max_iters = max(progress.step, iterations)
            return f"last iteration {progress.max_iters:,}"
        case letters.Pause():
            return "paused"
        case letters.Resume():
            return "resumed"
        case letters.Save():
            return "already saved" if is_saved else "saving a checkpoint"
        case letters.Sample():
            return "sampling"
        case letters.Copy():
            return "copying the weights"
