"""AdamW with torch's fused kernel.

`torch.optim.AdamW` computes the same, but its first call imports torch's compiler; see `nanogpt.optimizers.base`.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nanogpt.heap import outside_heap
from nanogpt.models.flat_parameters import FlatParameters, flatten, split_like
from nanogpt.optimizers.base import SkippableOptimizer

STATE_NAMES = ("exp_avg", "exp_avg_sq", "step")


class AdamW(SkippableOptimizer):
    """Like `torch.optim.AdamW`; parameters without a gradient stay unchanged.

    flat: the memory that the parameters share, if any. A group whose parameters and gradients are adjacent in it is
    updated as one tensor.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        flat: FlatParameters | None = None,
    ) -> None:
        defaults = {"lr": lr, "betas": betas, "eps": 1e-8, "weight_decay": 0.0, "fused": True}
        self.flat = flat
        self.flat_state: dict[Tensor, list[Tensor]] = {}  # by the first parameter of a group
        super().__init__(list(groups), defaults)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Replace the state; see `torch.optim.Optimizer.load_state_dict`."""
        self.flat_state.clear()
        super().load_state_dict(state_dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        """Drop all gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient. `closure` is not used."""
        for group in self.param_groups:
            if trained := [parameter for parameter in group["params"] if parameter.grad is not None]:
                self.update(trained, group)

    def update(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """Do one step for parameters of a group, each of which has a gradient."""
        weights = self.flat.weights_of(parameters) if self.flat else None
        # what is new, or was trained by another optimizer
        if added := [parameter for parameter in parameters if "exp_avg" not in self.state[parameter]]:
            if weights is not None and len(added) == len(parameters):
                self.add_shared_state(parameters, weights)
            else:
                self.add_separate_states(added)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        gradient = self.flat.gradients_of(parameters) if self.flat else None
        if weights is not None and gradient is not None and (shared := self.shared_state(parameters)):
            averages, squares, steps, first_step = shared
            steps += 1 if self.skip_flag is None else 1 - self.skip_flag
            lists: list[Any] = [[weights], [gradient], [averages], [squares], [], [first_step]]
        else:
            self.flat_state.clear()  # the step counts may differ from now on
            separate = {key: [self.state[parameter][key] for parameter in parameters] for key in STATE_NAMES}
            if self.skip_flag is None:
                torch._foreach_add_(separate["step"], 1)
            else:
                torch._foreach_add_(separate["step"], [1 - self.skip_flag] * len(parameters))
            lists = [parameters, gradients, separate["exp_avg"], separate["exp_avg_sq"], [], separate["step"]]
        torch._fused_adamw_(
            *lists,
            lr=group["lr"],
            beta1=group["betas"][0],
            beta2=group["betas"][1],
            weight_decay=group["weight_decay"],
            eps=group["eps"],
            amsgrad=False,
            maximize=False,
            found_inf=self.skip_flag,
        )

    def add_separate_states(self, parameters: list[nn.Parameter]) -> None:
        """Give each of the parameters a state of zeros."""
        for parameter in parameters:
            state = self.state[parameter]
            state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
            state["exp_avg"] = torch.zeros_like(parameter)
            state["exp_avg_sq"] = torch.zeros_like(parameter)

    def add_shared_state(self, parameters: list[nn.Parameter], weights: Tensor) -> None:
        """Give the parameters, which are adjacent in `weights`, a state of zeros that is adjacent too."""
        with outside_heap():
            averages, squares = torch.zeros_like(weights), torch.zeros_like(weights)
        steps = torch.zeros(len(parameters), dtype=torch.float32, device=weights.device)
        parts = (split_like(averages, parameters), split_like(squares, parameters), steps.unbind())
        for parameter, *values in zip(parameters, *parts, strict=True):
            self.state[parameter].update(zip(STATE_NAMES, values, strict=True))
        self.flat_state[parameters[0]] = [averages, squares, steps, steps[0]]

    def shared_state(self, parameters: list[nn.Parameter]) -> list[Tensor] | None:
        """Return the state of these parameters, one tensor for each of `STATE_NAMES`, and the first step count.

        Return None if their step counts differ. The state of each parameter becomes a view of these tensors.
        """
        shared = self.flat_state.get(parameters[0])
        if shared is None or len(shared[-2]) != len(parameters):
            lists = [[self.state[parameter][key] for parameter in parameters] for key in STATE_NAMES]
            if len({float(step) for step in lists[-1]}) > 1:
                return None
            *moments, steps = map(flatten, lists)
            shared = self.flat_state[parameters[0]] = [*moments, steps, steps[0]]
        return shared
