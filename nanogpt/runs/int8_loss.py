"""What int8 costs a model in bits per byte, on the validation split of its run."""

import math
from pathlib import Path
from typing import TYPE_CHECKING

from nanogpt.data.text_size import text_size
from nanogpt.errors import UserError
from nanogpt.loss_units import bits_per
from nanogpt.runs.evaluation import open_run_dataset
from nanogpt.tokenizers.base import completed

if TYPE_CHECKING:
    from nanogpt.models.base import LanguageModel

WINDOWS, LONGEST = 4, 256  # windows, and tokens of each: more hardly changes the difference of two losses


def measure_int8_loss(run: Path, model: "LanguageModel") -> tuple[float, int] | None:
    """Return by how many bits per byte int8 raises the loss, and on how many tokens that was measured.

    The windows are spread over the validation split. None if the data set is not here, if the architecture predicts the
    last position only, or if the training diverged.
    """
    from nanogpt.sampling.int8_loss import int8_loss

    try:
        dataset = open_run_dataset(run)
        tokens = dataset.split("val")
        dataset.check_ids("val")
        size = completed(text_size(dataset, "val"))
    except UserError:
        return None
    length = min(model.config.block_size, LONGEST, len(tokens) - 1)
    if length < 1 or not size.bytes or not model.config.capabilities.every_position:
        return None
    last = len(tokens) - 1 - length
    starts = sorted({last * number // (WINDOWS - 1) for number in range(WINDOWS)})
    nats = int8_loss(model, ([int(id) for id in tokens[start : start + length + 1]] for start in starts))
    return (bits_per(nats, size.tokens, size.bytes), length * len(starts)) if math.isfinite(nats) else None
