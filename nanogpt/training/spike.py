"""When a loss has run away: the rule by which a training ends, or goes back to a checkpoint."""

import math


class Spike:
    """Tells a loss that ran away from one that wavers: for `WORSE_STEPS` steps in a row it was above that of guessing
    (ln of the vocabulary), and a nat above the lowest mean that it had over as many steps or, before that, at first."""

    WORSE_STEPS = 50

    def __init__(self, vocab_size: int) -> None:
        self._guessing = math.log(vocab_size)
        self._lowest = math.inf
        self._mean = 0.0
        self._seen = self._worse = 0

    def add(self, loss: float) -> bool:
        """Whether the loss has run away, with this step's."""
        self._seen += 1
        self._mean += (loss - self._mean) / min(self._seen, self.WORSE_STEPS)
        above = loss > self._guessing and loss > self._lowest + 1.0
        self._worse = self._worse + 1 if above else 0
        self._lowest = min(self._lowest, self._mean)
        return self._worse >= self.WORSE_STEPS
