"""The gradient noise scale (McCandlish et al. 2018, "An Empirical Model of Large-Batch Training", appendix A.1).

The gradient of a batch of B sequences is the true gradient G plus noise: its expected squared norm is |G|² + S/B, where
S is the trace of the covariance of the gradient of one sequence. The squared norms at two batch sizes, those of the
micro-batches and of their mean, give both unknowns, and S/|G|² is the simple noise scale. Both are averaged over
several measurements before they are divided, because each alone is noisy.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from nanogpt.config import Config
from nanogpt.events import Event, GradientNoise, Notice, Started
from nanogpt.inspection.observer import Observer

if TYPE_CHECKING:
    from torch import Tensor, nn

    from nanogpt.models.base import LanguageModel

WINDOW = 20  # measurements that are averaged
MIN_MEASUREMENTS = 5  # before a batch size is judged


class GradientNoiseObserver(Observer):
    """Yields `GradientNoise` every `noise_interval` steps, and a `Notice` when the verdict on the batch size changes.

    A measurement keeps a copy of the gradients from one micro-batch to the next.
    """

    def __init__(self, config: Config) -> None:
        self.interval = config.evaluation.noise_interval
        self._rows: list[int] = []  # sequences of the micro-batches of this step
        self._batch = config.sequences
        self._squares: list[float] = []  # squared gradient norms of the micro-batches of this step
        self._previous: dict[nn.Parameter, Tensor] = {}  # gradients up to the previous micro-batch
        self._measured: deque[tuple[float, float]] = deque(maxlen=WINDOW)
        self._verdict = ""

    def before_micro_batch(self, model: "LanguageModel", step: int, number: int, ids: "Tensor") -> None:
        if number == 0:
            self._squares, self._rows, self._previous = [], [], {}
        self._rows.append(len(ids))

    def after_micro_batch(self, model: "LanguageModel", step: int, number: int, factor: float) -> None:
        gradients = {p: p.grad for p in model.parameters() if p.grad is not None}
        added = (each - self._previous[p] if p in self._previous else each for p, each in gradients.items())
        self._squares.append(squared_norm(added) / factor**2)
        self._previous = {p: each.clone() for p, each in gradients.items()}

    def before_update(self, model: "LanguageModel", step: int) -> Iterator[Event]:
        self._previous = {}
        of_batch = squared_norm(p.grad for p in model.parameters() if p.grad is not None)
        of_micro_batch = sum(self._squares) / len(self._squares)
        if not math.isfinite(of_batch + of_micro_batch):  # a gradient overflowed in float16: the step is skipped
            return
        rows = sum(self._rows) / len(self._rows)
        self._measured.append(signal_and_noise(of_micro_batch, of_batch, rows, self._batch))
        signal, noise = (sum(values) / len(values) for values in zip(*self._measured, strict=True))
        scale = noise / signal if signal > 0 and noise > 0 else None
        yield GradientNoise(
            step=step,
            signal=signal,
            noise=noise,
            noise_scale=scale,
            batch_size=self._batch,
            measurements=len(self._measured),
        )
        if scale is not None and len(self._measured) >= MIN_MEASUREMENTS:
            verdict, text = judge(self._batch, scale)
            if verdict != self._verdict:
                self._verdict = verdict
                yield Notice(level="info", text=text)

    def on_event(self, event: Event) -> Iterable[Event]:
        if isinstance(event, Started):  # after a rollback the weights are others
            self._measured.clear()
        return ()


def signal_and_noise(small_square: float, large_square: float, small: float, large: int) -> tuple[float, float]:
    """Return unbiased estimates of |G|² and S from the squared gradient norms of batches of two sizes (sequences)."""
    signal = (large * large_square - small * small_square) / (large - small)
    noise = (small_square - large_square) / (1 / small - 1 / large)
    return signal, noise


def judge(batch: int, scale: float) -> tuple[str, str]:
    """Return a short verdict on a batch of so many sequences at this noise scale, and the sentence that says it."""
    ratio = batch / scale
    text = f"a batch of {batch:,} sequences is {ratio:.2g} of the gradient noise scale, about {scale:,.0f}: "
    if ratio < 0.5:
        return "small", text + "larger batches would still pay"
    if ratio <= 2:
        return "even", text + "a good compromise between fewer steps and less data"
    return "large", text + "smaller batches would learn as much from less data"


def squared_norm(tensors: "Iterable[Tensor]") -> float:
    """Return the sum of the squares of all numbers."""
    return float(sum(tensor.float().square().sum() for tensor in tensors))
