"""Units of a loss: nats per token, perplexity, bits per character, bits per byte.

Training computes nats per token, which depend on the tokenizer: a token of several characters is harder to predict.
Bits per byte do not, so they compare models with different vocabularies.

`better_loss` is the validation loss by which checkpoints and runs are compared.
"""

import math
from dataclasses import dataclass
from typing import Literal, get_args

LossUnit = Literal["loss", "perplexity", "bits per character", "bits per byte"]
UNITS: tuple[LossUnit, ...] = get_args(LossUnit)


@dataclass(frozen=True, slots=True)
class TextSize:
    """The size of a text: its tokens, its characters, and its bytes in UTF-8."""

    tokens: int
    characters: int
    bytes: int


def better_loss(val_loss: float, ema_val_loss: float | None) -> float:
    """Return the validation loss of the better weights: the raw ones, or the averaged ones (None: there are none).

    One that is not finite is left out if the other one is.
    """
    finite = [loss for loss in (val_loss, ema_val_loss) if loss is not None and math.isfinite(loss)]
    return min(finite, default=val_loss)


def perplexity(loss: float) -> float:
    """Return the perplexity of a loss in nats per token."""
    return math.exp(loss) if loss < 700 else math.inf


def bits_per(loss: float, tokens: int, units: int) -> float:
    """Return a loss in nats per token as bits per character or byte, of which `tokens` tokens have `units`."""
    return loss * tokens / units / math.log(2)


def convert(loss: float | None, unit: LossUnit, text: TextSize | None) -> float | None:
    """Return a loss in nats per token in another unit; None if it or the size of its text is not known."""
    if loss is None or unit == "loss":
        return loss
    if unit == "perplexity":
        return perplexity(loss)
    return (
        None
        if text is None
        else bits_per(loss, text.tokens, text.bytes if unit == "bits per byte" else text.characters)
    )
