"""What int8 costs a model: more bits per byte on the validation split of its run."""

import math
from pathlib import Path

import torch
from torch.nn import functional as F

from nanogpt.data.text_size import text_size
from nanogpt.errors import UserError
from nanogpt.loss_units import bits_per
from nanogpt.models.base import LanguageModel
from nanogpt.runs.evaluation import open_run_dataset
from nanogpt.sampling.decoding import evaluation_mode
from nanogpt.sampling.packed_linear import PackedLinears
from nanogpt.tokenizers.base import completed

WINDOWS, LONGEST = 4, 256  # windows, and tokens of each: more hardly changes the difference of two losses


@torch.inference_mode()
def int8_loss(run: Path, model: LanguageModel) -> tuple[float, int] | None:
    """Return by how many bits per byte int8 raises the loss, and on how many tokens that was measured.

    The windows are spread over the validation split. None if the data set is not here, or the architecture predicts the
    last position only.
    """
    try:
        dataset = open_run_dataset(run)
        tokens = dataset.split("val")
        size = completed(text_size(dataset, "val"))
    except UserError:
        return None
    length = min(model.config.block_size, LONGEST, len(tokens) - 1)
    if length < 1 or not size.bytes or not model.config.capabilities.every_position:
        return None
    last = len(tokens) - 1 - length
    starts = sorted({last * number // (WINDOWS - 1) for number in range(WINDOWS)})
    packed, differences = PackedLinears(length, torch.int8, use_onednn=False), []
    with evaluation_mode(model):
        for start in starts:
            window = torch.tensor([int(id) for id in tokens[start : start + length + 1]])
            ids, targets = window[None, :-1], window[1:]
            exact = F.cross_entropy(model.logits(ids)[0].float(), targets)
            with packed:
                rounded = model.logits(ids)
            differences.append(float(F.cross_entropy(rounded[0].float(), targets) - exact))
    mean = sum(differences) / len(differences)
    return (bits_per(mean, size.tokens, size.bytes), length * len(starts)) if math.isfinite(mean) else None
