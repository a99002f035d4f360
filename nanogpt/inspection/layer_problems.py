"""Problems of layers, by simple rules from the measurements of `layer_health.py`.

The layer "" is the whole model.

A problem has to hold in two measurements in a row, so that a single outlier is not reported. It is over at the first
one in which it does not hold. The rules about the start look at step 1 alone.

- dead units: half of the units that one of the layer's matrices reads hardly vary from token to token.
- no gradient: the gradient is zero, so the layer does not learn.
- large updates: an update changes the weights by more than 7 % of their size; 0.1 % is usual, and up to 3 % at the end
  of a warm-up. The whole model has this problem if the median of its layers has; after step 100 also a single layer
  whose share is ten times the median. Layers that start at zero grow fast before.
- large activations: they are not finite, or their deviation is above 10,000.
- large first loss: at step 1 the loss is more than 0.5 nats above ln(vocab_size), that of a uniform guess. The whole
  model has this one.
- large start: before training, the layer's output is ten times as large as that of the same layer in the median block.
"""

import math
import re
from collections.abc import Iterator, Mapping
from statistics import median

from nanogpt.events import Event, LayerHealth, LayerProblem, Started, Step
from nanogpt.inspection.observer import Observer

MANY_DEAD = 0.5  # share of the units
LARGE_UPDATE = -1.15  # log10 of update / weights
SETTLED = 100  # steps after which a single layer is compared with the others
LARGE_ACTIVATION = 1e4
LARGE_START = 10.0  # times the median of the blocks
LARGE_LOSS = 0.5  # nats above a uniform guess

MESSAGES: Mapping[str, tuple[str, str]] = {  # what it is, and what to try
    "dead units": (
        "{figure:.0%} of its units hardly vary from token to token",
        "lower the learning rate, use GELU in place of ReLU, or look at the initialisation",
    ),
    "no gradient": ("its gradient is zero: it does not learn", "look whether the layer is frozen, dead or unused"),
    "large updates": (
        "an update changes the weights by {figure:.0%} of their size; about 0.1 % is usual",
        "lower the learning rate, or warm up for longer",
    ),
    "large activations": (
        "its output has grown to a deviation of {figure:.2g}",
        "lower the learning rate, clip gradients, or add a norm before the layer",
    ),
    "large first loss": (
        "the first loss is {figure:.2f}; a uniform guess among all tokens would cost {uniform:.2f}",
        "initialise the weights smaller, those of the head first",
    ),
    "large start": (
        "before training its output is {figure:.0f} times as large as that of the other blocks",
        "initialise its weights smaller",
    ),
}


def find_problems(health: LayerHealth) -> dict[tuple[str, str], float]:
    """Return the figure of each problem in one measurement, by layer and problem, a key of `MESSAGES`."""
    found: dict[tuple[str, str], float] = {}
    has_gradients = any(health.gradient_norm)
    starts = _relative_to_blocks(health) if health.step == 1 else {}
    usual_update = median([ratio for ratio in health.update_ratio if ratio is not None] or [-math.inf])
    if usual_update > LARGE_UPDATE:
        found["", "large updates"] = 10**usual_update
    for number, layer in enumerate(health.layers):
        dead, update = health.dead_units[number], health.update_ratio[number]
        std, mean = health.activation_std[number], health.activation_mean[number]
        if dead is not None and dead >= MANY_DEAD:
            found[layer, "dead units"] = dead
        if has_gradients and not health.gradient_norm[number]:
            found[layer, "no gradient"] = 0.0
        if update is not None and health.step >= SETTLED and update > max(LARGE_UPDATE, usual_update + 1):
            found[layer, "large updates"] = 10**update
        if std is not None and (std > LARGE_ACTIVATION or not math.isfinite(std + (mean or 0.0))):
            found[layer, "large activations"] = std
        if starts.get(layer, 0.0) >= LARGE_START:
            found[layer, "large start"] = starts[layer]
    return found


def _relative_to_blocks(health: LayerHealth) -> dict[str, float]:
    """Return the deviation of each layer's output by the median of the layers whose names differ in numbers only."""
    groups: dict[str, dict[str, float]] = {}
    for layer, std in zip(health.layers, health.activation_std, strict=True):
        if std:
            groups.setdefault(re.sub(r"\d+", "#", layer), {})[layer] = std
    return {
        layer: std / middle
        for those in groups.values()
        if len(those) > 2 and (middle := median(those.values()))
        for layer, std in those.items()
    }


class LayerProblemObserver(Observer):
    """Yields `LayerProblem` when a problem of a layer begins, and when it is over."""

    def __init__(self) -> None:
        self._suspected: set[tuple[str, str]] = set()  # in the measurement before
        self._active: set[tuple[str, str]] = set()
        self._uniform = math.inf  # the loss of a uniform guess, if training starts from random weights

    def on_event(self, event: Event) -> Iterator[LayerProblem]:
        match event:
            case Started():  # the first, or one after a rollback, whose problems are new ones
                self._suspected.clear()
                self._active.clear()
                self._uniform = math.log(event.vocab_size) if event.step == 0 else math.inf
            case Step(step=1, loss=loss) if loss > self._uniform + LARGE_LOSS:
                self._active.add(("", "large first loss"))
                yield self._begin(1, "", "large first loss", loss)
            case LayerHealth():
                yield from self._judge(event)

    def _judge(self, health: LayerHealth) -> Iterator[LayerProblem]:
        found = find_problems(health)
        first_loss = {("", "large first loss")} if health.step == 1 else set()  # of this very step: over at the next
        for layer, problem in sorted(self._active - found.keys() - first_loss):
            self._active.remove((layer, problem))
            yield LayerProblem(step=health.step, layer=layer, problem=problem, message="", advice="", over=True)
        for key, figure in found.items():
            if (key in self._suspected or key[1] == "large start") and key not in self._active:
                self._active.add(key)
                yield self._begin(health.step, *key, figure)
        self._suspected = set(found)

    def _begin(self, step: int, layer: str, problem: str, figure: float) -> LayerProblem:
        message, advice = MESSAGES[problem]
        message = message.format(figure=figure, uniform=self._uniform)
        return LayerProblem(step=step, layer=layer, problem=problem, message=message, advice=advice, over=False)


def describe(problem: LayerProblem) -> str:
    """Return the event as one sentence, which begins with `subject`."""
    return f"{subject(problem)} {'over' if problem.over else f'{problem.message} ({problem.advice})'}"


def subject(problem: LayerProblem) -> str:
    """Return the layer and its problem in words, which are the same when it begins and when it is over."""
    return f"{problem.layer or 'the model'}: {problem.problem}:"
