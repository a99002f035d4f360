"""The logit lens: what each layer of a model would predict if it were the last (nostalgebraist 2020)."""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nanogpt.errors import UserError
from nanogpt.inspection.layers import check_finite, temporary_hooks
from nanogpt.models.base import LanguageModel, evaluation_mode


@dataclass(frozen=True, slots=True)
class LensLayer:
    """The most likely next tokens after each position, read from one layer.

    `ids` and `probabilities` are (T, k), the most likely first. `target_probability` (T - 1,) is that of the token that
    does come next.
    """

    name: str
    ids: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    target_probability: NDArray[np.float32]


@torch.no_grad()
def logit_lens(model: LanguageModel, ids: Tensor, k: int = 5) -> list[LensLayer]:
    """Return what each layer would predict for ids (T,), the first layer first.

    Raise `UserError` for an architecture without the capability, and for weights that are not finite.
    """
    if not model.config.capabilities.logit_lens:
        raise UserError(f"predictions of each layer are not shown for the architecture {model.config.name}")
    outputs: dict[str, Tensor] = {}
    names = {module: name for name, module in model.named_modules()}

    def keep(block: nn.Module, _given: object, output: Tensor) -> None:
        outputs[names[block]] = output

    with evaluation_mode(model), temporary_hooks() as hooks:
        hooks += [block.register_forward_hook(keep) for block in model.blocks()]
        model(ids[None])
        check_finite(outputs.values())
        return [_read(name, torch.softmax(model.readout(x)[0].float(), -1), ids, k) for name, x in outputs.items()]


def _read(name: str, probabilities: Tensor, ids: Tensor, k: int) -> LensLayer:
    top = probabilities.topk(min(k, probabilities.size(-1)))
    target = probabilities[:-1].gather(1, ids[1:, None])[:, 0]  # (T - 1,)
    return LensLayer(name, top.indices.cpu().numpy(), top.values.cpu().numpy(), target.cpu().numpy())
