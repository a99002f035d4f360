"""What int8 costs a model: how much higher its loss is than in float32."""

from collections.abc import Iterable, Sequence

import torch
from torch.nn import functional as F

from nanogpt.models.base import LanguageModel
from nanogpt.sampling.decoding import evaluation_mode
from nanogpt.sampling.packed_linear import PackedLinears


@torch.inference_mode()
def int8_loss(model: LanguageModel, windows: Iterable[Sequence[int]]) -> float:
    """Return by how many nats per token int8 raises the mean loss over windows of equal length.

    For architectures with the capability `every_position`. nan if the model's training diverged.
    """
    packed, differences = PackedLinears(1, torch.int8, use_onednn=False), []
    with evaluation_mode(model):
        for window in windows:
            ids = torch.tensor(window)
            exact = model.logits(ids[None, :-1])[0].float()  # (T, V)
            with packed:
                rounded = model.logits(ids[None, :-1])[0].float()
            differences.append(float(F.cross_entropy(rounded, ids[1:]) - F.cross_entropy(exact, ids[1:])))
    return sum(differences) / len(differences)
