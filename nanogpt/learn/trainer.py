"""A short training loop for lessons, over the models and the AdamW of this package.

    trainer = Trainer(build_model("gpt2", vocab_size=65, seed=1, n_layer=1), windows(ids, 32, 16), learning_rate=1e-3)
    for step in trainer.train(100):
        print(step.number, step.loss)

It runs on the CPU in float32 and draws all random numbers from its own generator, so that a training in the same
process is not changed. A step uses one thread: these models are small, and several threads that wait for each other
take ten times as long if another process is busy.
"""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from nanogpt.config import ARCHITECTURE, OPTIMIZER, component
from nanogpt.learn.private_random import PrivateRandom
from nanogpt.models.base import LanguageModel, compute_loss, evaluation_mode
from nanogpt.sampling.threads import threads
from nanogpt.training.clipping import clip_gradients

Batch = tuple[Tensor, Tensor]  # ids and targets, (B, T) int64
NextBatch = Callable[[torch.Generator], Batch]


@dataclass(frozen=True, slots=True)
class Step:
    """One step of training, counted from 1: the loss (nats per token) and the norm of the gradient, both before the
    update and before clipping."""

    number: int
    loss: float
    gradient_norm: float


class Trainer:
    """The state of a training: `step` does one step, `train` yields several."""

    def __init__(
        self,
        model: LanguageModel,
        next_batch: NextBatch,
        *,
        learning_rate: float,
        seed: int = 1337,
        weight_decay: float = 0.1,
        grad_clip: float = 1.0,
        schedule: Callable[[int], float] = lambda step: 1.0,
    ) -> None:
        """Begin a training.

        next_batch: draws a batch; see `windows`. grad_clip: the largest norm of the gradient; 0: no clipping. schedule:
        the factor of the learning rate, from the number of steps done.
        """
        self.model = model.train()
        self.next_batch = next_batch
        self.learning_rate = learning_rate
        self.schedule = schedule
        self.grad_clip = grad_clip
        self.random = torch.Generator().manual_seed(seed)
        self.steps = 0
        settings = component(OPTIMIZER, "adamw")(learning_rate=learning_rate, weight_decay=weight_decay)
        self.optimizer: torch.optim.Optimizer = settings.build(model, torch.float32)

    def train(self, steps: int) -> Iterator[Step]:
        """Do `steps` steps, and yield each."""
        for _ in range(steps):
            yield self.step()

    def step(self) -> Step:
        """Do one step on the next batch."""
        batch = self.next_batch(self.random)
        with PrivateRandom(self.random):
            loss = self.gradients(batch)
        return self.update(loss)

    def gradients(self, batch: Batch) -> float:
        """Compute the gradients of a batch, and return its loss (nats per token)."""
        self.optimizer.zero_grad()
        with threads(1):
            loss = compute_loss(self.model, *batch)
            loss.backward()  # type: ignore[no-untyped-call]
        return float(loss.detach())

    def update(self, loss: float) -> Step:
        """Update the weights with the gradients of `gradients`, whose loss is given."""
        for group in self.optimizer.param_groups:
            rate = self.learning_rate * self.schedule(self.steps)
            group["lr"] = rate * group.get("learning_rate_scale", 1.0)
        with threads(1):
            norm = float(clip_gradients(list(self.model.parameters()), self.grad_clip or math.inf))
            self.optimizer.step()
        self.steps += 1
        return Step(self.steps, loss, norm)


def build_model(architecture: str, *, vocab_size: int, seed: int, **settings: Any) -> LanguageModel:
    """Return a new model of an architecture by its name, with the settings of its `Config`.

    Raise `SettingError` for settings that do not fit each other.
    """
    config = component(ARCHITECTURE, architecture)(vocab_size=vocab_size, **settings)
    with PrivateRandom(torch.Generator().manual_seed(seed)):
        model: LanguageModel = config.build()
    return model


def windows(ids: Tensor, block_size: int, batch_size: int) -> NextBatch:
    """Return a function that draws windows of ids (n,) at random places, and the next id at each position."""

    def next_batch(random: torch.Generator) -> Batch:
        starts = torch.randint(len(ids) - block_size, (batch_size,), generator=random)
        rows = ids[starts[:, None] + torch.arange(block_size + 1)]  # (B, T + 1)
        return rows[:, :-1], rows[:, 1:]

    return next_batch


def fixed_windows(ids: Tensor, block_size: int, count: int) -> Batch:
    """Return at most `count` windows of ids (n,) at equal distances, which measure a loss always on the same tokens."""
    last = len(ids) - block_size - 1
    starts = torch.linspace(0, last, min(count, last + 1)).long()
    rows = ids[starts[:, None] + torch.arange(block_size + 1)]
    return rows[:, :-1], rows[:, 1:]


@torch.no_grad()
def mean_loss(model: LanguageModel, batch: Batch) -> float:
    """Return the loss (nats per token) without dropout. The weights and the mode of the model stay."""
    with threads(1), evaluation_mode(model):
        return float(compute_loss(model, *batch))
