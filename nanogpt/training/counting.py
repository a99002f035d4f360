"""The training of a model that is counted: one pass over the training split, then one evaluation and one checkpoint.

Each step counts as many tokens as a step of another training sees, so that progress, pause, stop and checkpoints are
the same. A checkpoint holds all counts so far, and a resume continues at its token. A run that was killed before its
first checkpoint starts again.
"""

import math
from dataclasses import dataclass, replace

import torch

from nanogpt.config import Config
from nanogpt.data.token_files import Tokens
from nanogpt.optimizers.base import QuickStartOptimizer
from nanogpt.training import estimate
from nanogpt.training.optimizer_step import OptimizerStep, PendingMetrics, StepMetrics
from nanogpt.training.snapshot import Progress


@dataclass(kw_only=True)
class CountingStep(OptimizerStep):
    """A step that counts; it has no loss, gradient or learning rate."""

    tokens: Tokens  # of the training split

    def run(self) -> PendingMetrics:
        """Count the next tokens of the training split."""
        progress, tokens = self.progress, self.tokens
        start, stop = progress.tokens, min(progress.tokens + self.config.tokens_per_iteration, len(tokens))
        with self.throughput.part("forward"):
            self.model.count(tokens, start, stop)
        progress.step, progress.tokens = progress.step + 1, stop
        return math.nan, math.nan, 0.0

    def sync_metrics(self) -> tuple[StepMetrics, None]:
        """Return that the step has no loss, and no problem."""
        self.pending_metrics.clear()
        return (math.nan, math.nan, 0.0), None


def no_optimizer() -> torch.optim.Optimizer:
    """Return an optimizer without parameters and state."""
    return QuickStartOptimizer([{"params": []}], {})


def counting_config(config: Config) -> Config:
    """Return the configuration with the default optimizer and schedule, and with the whole validation split evaluated.

    The split is evaluated only once, so that this costs little.
    """
    default = Config()
    evaluation = replace(config.evaluation, eval_iters=0)
    return replace(config, optimizer=default.optimizer, schedule=default.schedule, evaluation=evaluation)


def counting_progress(config: Config, progress: Progress, train_tokens: int) -> Progress:
    """Return the progress with as many steps as the remaining tokens take, and an evaluation after the last."""
    last = progress.step + estimate.steps(config, train_tokens - progress.tokens)
    return replace(progress, max_iters=last, eval_interval=last + 1)
