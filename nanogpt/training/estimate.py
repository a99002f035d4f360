"""What a configuration will come to, before anything is built: parameters, memory, tokens, epochs. Imports no torch.

The formulas are those of the files in `models/`; tests hold them against real models.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass

from nanogpt.config import Config, ModelConfig

AT_ONCE, NUMBERS = 1024, 1 << 22  # as in `models/parts/cross_entropy.py`


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


def n_parameters(model: ModelConfig) -> int:
    """Trainable parameters, a tied head counted once. `vocab_size` is set.

    For an architecture without a formula here one is put together without memory, which imports torch.
    """
    if formula := FORMULAS.get(model.architecture):
        return formula(model)
    from nanogpt import models
    from nanogpt.models.parts.shapes import shapes_alone

    with shapes_alone():
        return models.create(model).n_parameters()  # type: ignore[no-any-return]


def _of_gpt2(model: ModelConfig) -> int:
    C, biases = model.n_embd, int(model.bias)
    norm = C + biases * C
    attention = 4 * C * C + biases * 4 * C  # q, k, v and the projection
    mlp = 8 * C * C + biases * 5 * C
    return (model.vocab_size + model.block_size) * C + model.n_layer * (attention + mlp + 2 * norm) + norm


def _of_modern(model: ModelConfig) -> int:
    C, V = model.n_embd, model.vocab_size
    block = 12 * C * C + 2 * 3 * C + 2  # matrices, two short convolutions, how much of the first embedding
    grams = sum(min(2**15, int(V**n)) for n in range(2, model.ngram + 1))
    return (2 * V + grams) * C + model.n_layer * block  # embedding, head, several tokens together


FORMULAS: dict[str, Callable[[ModelConfig], int]] = {"gpt2": _of_gpt2, "modern": _of_modern}


def memory(config: Config, dtype: str = "float32", device: str = "cpu") -> Memory:
    """An estimate for AdamW and one micro-batch. `dtype`: the number format of matrix products. `vocab_size` is set.

    Weights, gradients and two moments are float32 in every format; autocast keeps a copy of the weights in 16 bits.
    A block keeps for its backward pass, for each token: its input, two normalised inputs, q, k, v, the attention's
    result twice, the residual between, the MLP's 4·C before and after GELU: 16·C numbers, some of them in 16 bits
    under autocast (36·C bytes). On a CPU it also keeps its n_head·T attention weights. Dropout adds a byte for each
    number that it may zero: two of a block's C, and on a CPU the attention weights. The head keeps two rows of V for
    each token; on a CPU one for `AT_ONCE` of them alone, and the gradient of its weights.
    """
    model, parameters = config.model, n_parameters(config.model)
    half = dtype != "float32"
    block = (36 if half else 64) * model.n_embd
    attended = model.n_head * model.block_size if device == "cpu" else 0
    block += (2 if half else 4) * attended
    if model.dropout:
        block += 2 * model.n_embd + attended
    in_passing = 32 * model.n_embd  # gradients of one block's activations
    tokens, V = config.data.batch_size * model.block_size, model.vocab_size
    if device == "cpu":
        number, added_up = (2 if half else 4), (4 if tokens > AT_ONCE else 0)
        head = number * V * min(tokens, AT_ONCE) + 4 * min(tokens * V, NUMBERS) + (number + added_up) * V * model.n_embd
    else:
        head = tokens * (10 if half else 8) * V
    return Memory(
        weights=(6 if half else 4) * parameters,
        gradients=4 * parameters,
        optimizer=8 * parameters,
        activations=tokens * (model.n_layer * block + in_passing + 8 * model.n_embd) + head,
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
