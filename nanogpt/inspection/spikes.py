"""Spikes: steps at which the loss or the gradient norm jumps, with the layer and the text that caused it.

A step is a spike if its loss is above the median of the last reported steps by more than 10 times their median absolute
deviation and by more than 0.25 nats, or its gradient norm by more than 10 times and twentyfold. Steps during the first
50 reported ones, when all changes fast, and within 5 after a spike are none.

The text that caused it is found by the loss of each sequence of the batch, after the step. The layer is the one whose
gradient grew most in comparison with its own last steps: all norms are computed in one operation and stay on the device
until there is a spike.
"""

import math
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from statistics import median
from typing import TYPE_CHECKING

from nanogpt.events import Event, Spike, Started, Step
from nanogpt.inspection.observer import Observer

if TYPE_CHECKING:
    from torch import Tensor

    from nanogpt.models.base import LanguageModel

WINDOW = 50  # reported steps
FIRST, APART = 50, 5  # reported steps before the first spike, and between two
DEVIATIONS = 10.0  # above the median
MIN_LOSS, MIN_GROWTH = 0.25, 20.0  # nats; times
KEPT_NORMS = 20  # steps
TEXTS = 3  # of a batch, that are kept
TEXT_CHARACTERS = 2000


class SpikeDetector:
    """The losses and gradient norms of the last steps, and `since`, the steps since the start or the last spike."""

    def __init__(self, losses: Iterable[float] = (), grad_norms: Iterable[float] = (), since: int = 0) -> None:
        self.losses = deque(losses, maxlen=WINDOW)
        self.grad_norms = deque(grad_norms, maxlen=WINDOW)
        self.since = since

    def add(self, loss: float, grad_norm: float) -> bool:
        """Add a step; return whether it is a spike. A spike does not count as usual."""
        if not (math.isfinite(loss) and math.isfinite(grad_norm)):
            return False
        self.since += 1
        ready = len(self.losses) >= FIRST and self.since > APART
        if ready and (self._jumped(loss, self.losses, MIN_LOSS) or self._grew(grad_norm)):
            self.since = 0
            return True
        self.losses.append(loss)
        self.grad_norms.append(grad_norm)
        return False

    def _jumped(self, value: float, usual: Iterable[float], least: float) -> bool:
        values = list(usual)
        middle = median(values)
        deviation = median(abs(each - middle) for each in values)
        return value - middle > max(least, DEVIATIONS * deviation)

    def _grew(self, grad_norm: float) -> bool:
        return self._jumped(grad_norm, self.grad_norms, (MIN_GROWTH - 1) * median(self.grad_norms))


class SpikeObserver(Observer):
    """Yields `Spike`. decode: returns the text of token ids."""

    interval = 1

    def __init__(self, decode: Callable[[list[int]], str]) -> None:
        self._decode = decode
        self._detector = SpikeDetector()
        self._batch: list[Tensor] = []  # (B, T + 1) for each micro-batch of this step
        self._norms: deque[Tensor] = deque(maxlen=KEPT_NORMS)  # of all gradients, for each step
        self._spike: Step | None = None

    def before_micro_batch(self, model: "LanguageModel", step: int, number: int, ids: "Tensor") -> None:
        if number == 0:
            self._batch = []
        self._batch.append(ids)

    def before_update(self, model: "LanguageModel", step: int) -> Iterable[Event]:
        import torch

        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        self._norms.append(torch.stack(torch._foreach_norm(gradients)))  # one number for each gradient
        return ()

    def on_event(self, event: Event) -> Iterable[Event]:
        if isinstance(event, Started):  # the first, or one after a rollback
            self._detector, self._spike = SpikeDetector(), None
            self._norms.clear()
        elif isinstance(event, Step) and self._detector.add(event.loss, event.grad_norm):
            self._spike = event
        return ()

    def after_update(self, model: "LanguageModel", step: int) -> Iterator[Spike]:
        spike, self._spike = self._spike, None
        if spike is None or spike.step != step:
            return
        layer, growth = self._fastest_layer(model)
        texts, losses = self._worst_texts(model)
        yield Spike(
            step=step,
            loss=spike.loss,
            usual_loss=median(self._detector.losses),
            grad_norm=spike.grad_norm,
            usual_grad_norm=median(self._detector.grad_norms),
            learning_rate=spike.learning_rate,
            layer=layer,
            layer_growth=growth,
            texts=texts,
            text_losses=losses,
        )

    def _fastest_layer(self, model: "LanguageModel") -> tuple[str, float]:
        """Return the layer whose gradient norm is the highest multiple of its median, and that multiple."""
        import torch

        from nanogpt.inspection.layers import layer_name

        names = [name.rpartition(".")[0] for name, p in model.named_parameters() if p.requires_grad]
        if len(self._norms) < 2 or len(names) != len(self._norms[-1]):
            return "", 0.0
        squares: dict[str, Tensor] = {}  # of each layer, by step
        for name, norms in zip(names, torch.stack(list(self._norms), dim=1).square(), strict=True):
            layer = layer_name(model, name)
            squares[layer] = squares[layer] + norms if layer in squares else norms
        growth = {layer: float((each[-1] / each[:-1].median()).sqrt()) for layer, each in squares.items()}
        finite = {layer: times for layer, times in growth.items() if math.isfinite(times)}
        layer = max(finite, key=finite.__getitem__, default="")
        return layer, finite.get(layer, 0.0)

    def _worst_texts(self, model: "LanguageModel") -> tuple[tuple[str, ...], tuple[float, ...]]:
        """Return the texts of the sequences with the highest losses, and these losses."""
        import torch

        from nanogpt.models.base import evaluation_mode

        losses: list[tuple[float, Tensor]] = []
        with evaluation_mode(model), torch.no_grad():
            for window in torch.cat(self._batch):
                _, loss = model(window[None, :-1], window[None, 1:])
                losses.append((float(loss) if loss is not None else 0.0, window))
        worst = sorted(losses, key=lambda pair: -pair[0])[:TEXTS]
        texts = tuple(self._decode(window.tolist())[:TEXT_CHARACTERS] for _, window in worst)
        return texts, tuple(loss for loss, _ in worst)


def describe(spike: Spike) -> str:
    """Return the event as one sentence."""
    jump = f"the loss jumped from {spike.usual_loss:.3g} to {spike.loss:.3g}"
    if spike.loss - spike.usual_loss <= MIN_LOSS:
        jump = f"the gradient norm jumped from {spike.usual_grad_norm:.2g} to {spike.grad_norm:.2g}"
    layer = f"; the gradient of {spike.layer} grew most, {spike.layer_growth:,.0f}-fold" if spike.layer else ""
    return f"spike at step {spike.step:,}: {jump}{layer}"
