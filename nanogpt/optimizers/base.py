"""What optimizers share: the model's parameter groups, put together as an optimizer wants them."""

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING, Any

from torch import nn

if TYPE_CHECKING:
    from nanogpt.models.base import LanguageModel, ParameterGroup


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
