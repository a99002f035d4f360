"""The rule by which a training diverges, so that it ends or goes back to a checkpoint."""

import math


class DivergenceDetector:
    """Detects a loss that stays high, and not one that only fluctuates.

    A training diverges if, for `WINDOW` steps in a row, the loss is above the loss of a uniform guess (ln vocab_size)
    and more than 1 nat above its lowest running mean over `WINDOW` steps.
    """

    WINDOW = 50

    def __init__(self, vocab_size: int) -> None:
        self._uniform_loss = math.log(vocab_size)
        self._lowest = math.inf
        self._mean = 0.0
        self._steps = self._high_steps = 0

    def add(self, loss: float) -> bool:
        """Add the loss of a step (nats per token). Return whether the training diverges."""
        self._steps += 1
        self._mean += (loss - self._mean) / min(self._steps, self.WINDOW)
        is_high = loss > self._uniform_loss and loss > self._lowest + 1.0
        self._high_steps = self._high_steps + 1 if is_high else 0
        self._lowest = min(self._lowest, self._mean)
        return self._high_steps >= self.WINDOW
