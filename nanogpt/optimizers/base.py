"""Parts that optimizers share: merging of parameter groups, and steps that are skipped on the device."""

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from nanogpt.models.base import LanguageModel, ParameterGroup


class SkippableOptimizer(torch.optim.Optimizer):
    """An optimizer that can skip a step without synchronizing host and device.

    skip_flag: a float32 scalar on the parameters' device, or None. If it is 1, `step` leaves the parameters and the
    state of the optimizer unchanged, whatever the gradients are; if it is 0 or None, `step` updates them. So the host
    does not wait to learn whether the gradients on a GPU are finite.
    """

    skip_flag: Tensor | None = None


def merge_groups(
    model: "LanguageModel", key: Callable[["ParameterGroup"], Hashable], **settings: Callable[["ParameterGroup"], Any]
) -> list[dict[str, Any]]:
    """Return the model's parameter groups in the format of `torch.optim`, merged into as few as possible.

    Groups with the same `key` and `learning_rate_scale` become one, with the parameters in the model's order. settings:
    the other entries of a group, each computed from one of the model's groups.
    """
    order: dict[nn.Parameter, int] = {parameter: place for place, parameter in enumerate(model.parameters())}
    merged: dict[Hashable, dict[str, Any]] = {}
    for group in model.trained_groups():
        target = merged.setdefault(
            (key(group), group.learning_rate_scale),
            {"params": [], "learning_rate_scale": group.learning_rate_scale}
            | {name: value(group) for name, value in settings.items()},
        )
        target["params"] += group.parameters
    for target in merged.values():
        target["params"].sort(key=order.__getitem__)
    return list(merged.values())
