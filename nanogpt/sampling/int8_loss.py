"""The loss of a model in int8, and how much higher it is than in float32."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F

from nanogpt.models.base import Forward, LanguageModel, Output, evaluation_mode
from nanogpt.sampling.packed_linear import PackedLinears


def int8_forward(model: LanguageModel) -> Forward:
    """Return the function from ids and targets (B, T) to (None, loss) in int8, the mean over targets that are not -1.

    model: in evaluation mode, as `resolve_sampling_dtype` accepts it for int8; its weights must not change. Each row is
    computed alone: its vectors have one scale in int8, and its logits (T, V) are the only ones in memory.
    """
    packed = PackedLinears(1, torch.int8, use_onednn=False)
    every_position = model.config.capabilities.every_position

    def loss(ids: Tensor, targets: Tensor) -> Tensor:
        with packed:
            logits = model.logits(ids) if every_position else model(ids)[0]  # (1, T or 1, V)
        assert logits is not None
        targets = targets[:, -logits.size(1) :]
        return F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten(), ignore_index=-1, reduction="sum")

    def forward(ids: Tensor, targets: Tensor) -> Output:
        rows = [loss(ids[row : row + 1], targets[row : row + 1]) for row in range(len(ids))]
        return None, torch.stack(rows).sum() / (targets != -1).sum()

    return forward


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
