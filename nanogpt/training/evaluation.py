"""The mean loss over a split. It does not use the random state of training: more evaluations change nothing else."""

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
from nanogpt.training.distributed import all_reduce_sum
from nanogpt.training.runtime import Runtime

REPORT_INTERVAL_S = 1.0  # between two `Evaluating` events


@dataclass(slots=True)
class EvaluationProgress:
    """Reports the progress of an evaluation of `total` batches, once every `REPORT_INTERVAL_S`."""

    step: int
    total: int
    done: int = 0
    reported_at: float = field(default_factory=time.monotonic)

    def advance(self) -> Iterator[Evaluating]:
        """Count one more batch; yield the progress if it is time."""
        self.done += 1
        if time.monotonic() - self.reported_at >= REPORT_INTERVAL_S:
            self.reported_at = time.monotonic()
            yield Evaluating(step=self.step, done=self.done, total=self.total)


@torch.no_grad()
def evaluate(
    forward: Forward,
    tokens: NDArray[np.unsignedinteger],
    config: Config,
    n_batches: int,
    runtime: Runtime,
) -> Generator[None, None, tuple[float, int]]:
    """Return the mean cross-entropy (nats per token) and the number of tokens of `n_batches` fixed batches, 0 for all.

    Yields after each batch, so that the caller can apply commands. Batches are divided among the processes.
    """
    device, world = runtime.device, runtime.world
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
        with runtime.autocast():
            loss = compute_loss(forward, torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device))
        sums += torch.stack((loss.double() * counted, torch.tensor(float(counted), device=loss.device))).to(sums.device)
        yield
    loss_sum, count = all_reduce_sum(sums, world).tolist()
    return loss_sum / count, int(count)
