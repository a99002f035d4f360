"""Parts that optimizers share: a quick start, merging of parameter groups, and steps skipped on the device."""

from collections.abc import Callable, Hashable
from inspect import unwrap
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn

if TYPE_CHECKING:
    from nanogpt.models.base import LanguageModel, ParameterGroup


class QuickStartOptimizer(torch.optim.Optimizer):
    """`torch.optim.Optimizer` whose first calls do not import torch's compiler, which takes most of a second.

    torch wraps these methods so that its compiler leaves them out; the methods that are wrapped do the same.
    """

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Add a group of parameters; see `torch.optim.Optimizer.add_param_group`."""
        unwrap(torch.optim.Optimizer.add_param_group)(self, param_group)

    def state_dict(self) -> dict[str, Any]:
        """Return the state; see `torch.optim.Optimizer.state_dict`."""
        state: dict[str, Any] = unwrap(torch.optim.Optimizer.state_dict)(self)
        return state

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Replace the state; see `torch.optim.Optimizer.load_state_dict`."""
        unwrap(torch.optim.Optimizer.load_state_dict)(self, state_dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients; see `torch.optim.Optimizer.zero_grad`."""
        unwrap(torch.optim.Optimizer.zero_grad)(self, set_to_none)


class SkippableOptimizer(QuickStartOptimizer):
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
