"""What optimizers share: parameter groups put together from the model's, and steps that are skipped on the device."""

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from nanogpt.models.base import LanguageModel, ParameterGroup


class GuardedOptimizer(torch.optim.Optimizer):
    """An optimizer that can skip a step without the host knowing.

    Where `skip` (a float32 scalar on the parameters' device) is 1, `step` leaves the parameters and its own state
    exactly as they are, whatever the gradients are; where it is 0 or None, it moves them. So nothing has to wait for a
    GPU to say that its gradients are finite.
    """

    skip: Tensor | None = None


def merged(
    model: "LanguageModel", alike: Callable[["ParameterGroup"], Hashable], **settings: Callable[["ParameterGroup"], Any]
) -> list[dict[str, Any]]:
    """Return the model's parameters as torch's optimizers take them, in as few groups as possible.

    Groups for which `alike` gives the same become one, its parameters in the model's own order. `settings` give what
    else stands in a group, from one of the model's; each group also has its `learning_rate_scale`.
    """
    places: dict[nn.Parameter, int] = {parameter: place for place, parameter in enumerate(model.parameters())}
    found: dict[Hashable, dict[str, Any]] = {}
    for group in model.parameter_groups():
        one = found.setdefault(
            (alike(group), group.learning_rate_scale),
            {"params": [], "learning_rate_scale": group.learning_rate_scale}
            | {name: value(group) for name, value in settings.items()},
        )
        one["params"] += group.parameters
    for one in found.values():
        one["params"].sort(key=places.__getitem__)
    return list(found.values())
