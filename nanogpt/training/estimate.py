"""Estimates from a configuration alone: memory, epochs, the length of a run. Imports no torch.

The configurations of architecture and optimizer estimate their own part; tests compare that with real models.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from nanogpt.config import Config

COUNTED = "counted in one pass over the text: the settings of optimizer and schedule have no effect"


@dataclass(frozen=True, slots=True)
class Memory:
    """The bytes that a process of a training needs at its maximum, besides its program (about 0.3 GB with torch)."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """The sum in bytes."""
        return self.weights + self.gradients + self.optimizer + self.activations


def memory(config: Config, dtype: str = "float32", device: str = "cpu", processes: int = 0) -> Memory:
    """Return the estimate for each process of a configuration whose `vocab_size` is set.

    dtype: the number format of matrix products. Weights, gradients and the state of the optimizer are always float32;
    autocast keeps a copy of the weights in 16 bits, and weight averaging one in float32.
    processes: how many train together; 0: as many as the configuration says. With sharding=fsdp they divide the state,
    and each also collects the parameters of two blocks at a time, and of the embeddings.
    """
    processes = processes or config.system.processes
    is_sharded = config.system.sharding == "fsdp" and processes > 1
    parameters = -(-config.model.n_parameters() // (processes if is_sharded else 1))
    trained = 0 if config.checkpoint.lora_rank else parameters  # adapters are small beside large weights
    weights = ((4 if dtype == "float32" else 6) + (4 if config.optimizer.ema_decay else 0)) * parameters
    return Memory(
        weights=weights + (4 * _collected_parameters(config) if is_sharded else 0),
        gradients=4 * trained,
        optimizer=config.optimizer.state_bytes(trained),
        activations=config.model.activation_bytes(micro_batch(config, processes), dtype, device),
    )


def micro_batch(config: Config, processes: int) -> int:
    """Return the sequences of a process's largest micro-batch: see `World.micro_batches`."""
    rows, batch_size = config.sequences, config.data.batch_size
    share, parts = math.ceil(rows / processes), math.ceil(rows / (processes * batch_size))
    return math.ceil(share / parts)


def _collected_parameters(config: Config) -> int:
    """Return how many parameters a sharded process has besides its part: of two blocks, and of the embeddings."""
    total, embeddings = config.model.n_parameters(), config.model.vocab_size * config.model.width
    blocks = int(config.model.shape().get("n_layer", 1))
    return min(total, embeddings + 2 * (total - embeddings) // blocks)


def steps(config: Config, train_tokens: int) -> int:
    """Return the number of steps: `max_iters`, or for a counted model those of one pass over `train_tokens` tokens."""
    if config.model.capabilities.counted:
        return math.ceil(train_tokens / config.tokens_per_iteration)
    return config.schedule.max_iters


def epochs(config: Config, train_tokens: int) -> float:
    """Return how many times the run trains on each of `train_tokens` tokens."""
    if config.model.capabilities.counted:
        return 1.0
    return config.schedule.max_iters * config.tokens_per_iteration / train_tokens


def uniform_loss(vocab_size: int) -> float:
    """Return ln V, the loss of a uniform guess in nats per token, at which an untrained model starts."""
    return math.log(vocab_size)


def equivalent_steps(config: Config, tokens: Mapping[str, int]) -> float:
    """Return the work of a run in steps, evaluations included: a forward pass is a third of an optimizer step.

    tokens: how many the splits "train" and "val" have.
    """
    from nanogpt.data.batches import TRAIN_BATCHES, count_evaluation_batches  # imports numpy

    if config.model.capabilities.counted:
        return steps(config, tokens["train"])
    max_iters, interval, n = config.schedule.max_iters, config.evaluation.eval_interval, config.evaluation.eval_iters
    evaluations = 1 if interval > max_iters else 1 + math.ceil(max_iters / interval)
    passes = [("val", n), ("train", n or TRAIN_BATCHES)]
    if config.optimizer.ema_decay:  # the averaged weights are evaluated too
        passes.append(("val", n))
    shape = config.model.block_size, config.data.batch_size
    batches = sum(count_evaluation_batches(tokens[split], *shape, of_split) for split, of_split in passes)
    return max_iters + evaluations * batches / (3 * config.data.gradient_accumulation_steps)
