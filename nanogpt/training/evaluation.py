"""The mean loss over a split. Uses no random state of training's, so evaluating more often changes nothing else."""

import time
from collections.abc import Generator, Iterator
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray

from nanogpt.config import Config
from nanogpt.data.batches import check_ids, evaluation_batches
from nanogpt.events import Evaluating
from nanogpt.models.base import Forward, compute_loss
from nanogpt.training.distributed import total
from nanogpt.training.runtime import Runtime

TELL_S = 1.0


@dataclass(slots=True)
class EvaluationProgress:
    """Says every second how far an evaluation is, of `total` batches."""

    step: int
    total: int
    done: int = 0
    told_at: float = field(default_factory=time.monotonic)

    def batch(self) -> Iterator[Evaluating]:
        """Counts a batch more."""
        self.done += 1
        if time.monotonic() - self.told_at >= TELL_S:
            self.told_at = time.monotonic()
            yield Evaluating(step=self.step, done=self.done, total=self.total)


@torch.no_grad()
def evaluate(
    forward: Forward,
    tokens: NDArray[np.unsignedinteger],
    config: Config,
    n_batches: int,
    machine: Runtime,
) -> Generator[None, None, tuple[float, int]]:
    """(mean cross-entropy in nats per token, number of tokens) over `n_batches` fixed batches, or all for 0; yields
    after each batch, so that a long evaluation need not be deaf.

    `forward(ids, targets)` gives (…, mean loss over the targets that are not -1). Batches are shared among processes.
    """
    device, world = machine.device, machine.world
    sums = torch.zeros(2, dtype=torch.float64, device="cpu" if device == "mps" else device)  # loss, tokens
    batches = evaluation_batches(
        tokens, config.model.block_size, config.data.batch_size, n_batches, seed=config.system.seed
    )
    for number, (inputs, targets) in enumerate(batches):
        if number % world.size != world.rank:
            continue
        check_ids(inputs, config.model.vocab_size)
        check_ids(targets, config.model.vocab_size)
        counted = int((targets >= 0).sum())
        with machine.autocast():
            loss = compute_loss(forward, torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device))
        sums += torch.stack((loss.double() * counted, torch.tensor(float(counted), device=loss.device))).to(sums.device)
        yield
    loss_sum, count = total(sums, world).tolist()
    return loss_sum / count, int(count)
