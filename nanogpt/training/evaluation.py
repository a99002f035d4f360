"""The mean loss over a split. It does not use the random state of training: more evaluations change nothing else."""

import time
from collections.abc import Generator, Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice

import torch

from nanogpt import hardware
from nanogpt.config import Config
from nanogpt.data.batches import (
    Ids,
    check_ids,
    count_windows,
    evaluation_batches,
    last_position_batches,
    sliding_batches,
)
from nanogpt.data.token_files import Tokens
from nanogpt.events import Evaluating
from nanogpt.models.base import Forward, LanguageModel, compute_loss
from nanogpt.training.distributed import World, all_reduce_sum
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


def evaluate(
    forward: Forward,
    tokens: Tokens,
    config: Config,
    n_batches: int,
    runtime: Runtime,
) -> Generator[None, None, tuple[float, int]]:
    """Return the mean cross-entropy (nats per token) and the number of tokens of `n_batches` fixed batches, 0 for all.

    Yields after each batch, so that the caller can apply commands. Batches are divided among the processes.
    """
    batches = evaluation_batches(
        tokens, config.model.block_size, config.data.batch_size, n_batches, seed=config.system.seed
    )
    where = runtime.device, runtime.dtype, runtime.world
    return (yield from mean_loss(forward, batches, config.model.vocab_size, *where))


def evaluate_split(
    model: LanguageModel,
    tokens: Tokens,
    *,
    stride: int,
    batch_size: int,
    device: str,
    dtype: str,
    step: int = 0,
    forward: Forward | None = None,
) -> Generator[Evaluating, None, tuple[float, int]]:
    """Return the mean cross-entropy (nats per token) over a whole split, and the number of tokens: all but the first.

    The split is read in windows of block_size tokens, one every `stride` tokens; see `sliding_batches`. An architecture
    without the capability `every_position` needs stride = 1. model: on `device`, in evaluation mode. forward: another
    computation of its loss. Yield the progress about once a second; closing the iterator cancels. Raise `UserError` for
    ids outside the model's vocabulary.
    """
    config = model.config
    windows, first = count_windows(len(tokens), config.block_size, stride), 0
    if config.capabilities.every_position:
        batches = sliding_batches(tokens, config.block_size, batch_size, stride)
    elif stride == 1:
        first = min(config.block_size, len(tokens) - 1)  # windows of fewer tokens; the last of them is a whole one
        batches = last_position_batches(tokens, config.block_size, batch_size)
    else:
        raise ValueError(f"stride={stride}: {config.name} predicts only the last position of a window")
    forward = forward or model.training_backend(device, getattr(torch, dtype)) or model
    evaluation = mean_loss(forward, batches, config.vocab_size, device, dtype, World())
    progress = EvaluationProgress(step, first + -(-(windows - bool(first)) // batch_size))
    while True:
        try:
            next(evaluation)
        except StopIteration as end:
            result: tuple[float, int] = end.value
            return result
        yield from progress.advance()


@torch.no_grad()
def mean_loss(
    forward: Forward, batches: Iterable[tuple[Ids, Ids]], vocab_size: int, device: str, dtype: str, world: World
) -> Generator[None, None, tuple[float, int]]:
    """Return the mean cross-entropy (nats per token) over the targets that are not -1, and their number.

    Yields after each batch. Batches are divided among the processes, which all yield equally often.
    """
    sums = torch.zeros(2, dtype=torch.float64, device="cpu" if device == "mps" else device)  # loss, tokens
    remaining = iter(batches)
    while together := list(islice(remaining, world.size)):
        is_extra = world.rank >= len(together)  # in the last round: all processes compute equally many batches
        inputs, targets = together[0 if is_extra else world.rank]
        check_ids(inputs, vocab_size)
        check_ids(targets, vocab_size)
        counted = 0 if is_extra else int((targets >= 0).sum())
        with hardware.autocast(device, dtype):
            loss = compute_loss(forward, torch.from_numpy(inputs).to(device), torch.from_numpy(targets).to(device))
        sums[0] += loss.to(sums.device).double() * counted  # in this order: mps has no float64
        sums[1] += counted
        yield
    loss_sum, count = all_reduce_sum(sums, world).tolist()
    return loss_sum / count, int(count)
