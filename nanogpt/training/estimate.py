"""What a configuration will come to, before anything is built: parameters, memory, tokens, epochs. Imports no torch.

What an architecture or an optimizer takes, its configuration says; tests hold that against real models.
"""

import math
from dataclasses import dataclass

from nanogpt.config import Config


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes that training holds at its fullest, besides what the process itself takes (some 0.3 GB with torch)."""

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        return self.weights + self.gradients + self.optimizer + self.activations


def memory(config: Config, dtype: str = "float32", device: str = "cpu") -> Memory:
    """Return an estimate for one micro-batch. `dtype`: the number format of matrix products. `vocab_size` is set.

    Weights, gradients and what the optimizer remembers are float32 in every format; autocast keeps a copy of the
    weights in 16 bits.
    """
    parameters = config.model.n_parameters()
    return Memory(
        weights=(4 if dtype == "float32" else 6) * parameters,
        gradients=4 * parameters,
        optimizer=config.optimizer.state_bytes(parameters),
        activations=config.model.activation_bytes(config.data.batch_size, dtype, device),
    )


def epochs(config: Config, train_tokens: int) -> float:
    """How often the run sees each training token."""
    return config.schedule.max_iters * config.tokens_per_iteration / train_tokens


def uniform_loss(vocab_size: int) -> float:
    """The loss, in nats per token, of guessing that all tokens are alike: ln V. An untrained model begins there."""
    return math.log(vocab_size)


def steps_worth(config: Config) -> float:
    """The length of the run in optimizer steps, evaluations included: a forward pass is a third of a step's work."""
    schedule, evaluation = config.schedule, config.evaluation
    evaluations = 1 + -(-schedule.max_iters // evaluation.eval_interval)
    batches = 2 * evaluation.eval_iters  # of both splits
    return schedule.max_iters + evaluations * batches / (3 * config.data.gradient_accumulation_steps)
