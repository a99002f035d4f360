"""The learning rate of each step. Knows nothing of torch."""

import math

from nanogpt.config import Config


def learning_rate(config: Config, step: int, max_iters: int) -> float:
    """The rate for the step after `step` complete ones: linear warm-up, then a cosine down to `min_lr`, which holds.

    The cosine ends at `lr_decay_iters`, or at `max_iters` (which may have been changed while training) where that is
    not set. After Loshchilov & Hutter 2016, as nanoGPT has it.
    """
    highest, schedule = config.optimizer.learning_rate, config.schedule
    if not schedule.decay_lr:
        return highest
    warmup = schedule.warmup_iters
    if step < warmup:
        return highest * (step + 1) / (warmup + 1)
    end = max_iters if schedule.lr_decay_iters is None else schedule.lr_decay_iters
    if step >= end:
        return config.min_lr
    progress = (step - warmup) / (end - warmup)  # 0 to 1
    return config.min_lr + (highest - config.min_lr) * (1 + math.cos(math.pi * progress)) / 2
