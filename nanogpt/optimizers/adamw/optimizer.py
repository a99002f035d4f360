"""AdamW by the kernel that torch has for it.

torch's own class gives the same, but imports torch's compiler at its first call: as long as importing torch itself.
"""

from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor, nn

from nanogpt.models.flat_parameters import FlatParameters, flatten
from nanogpt.optimizers.base import GuardedOptimizer

STATE = ("exp_avg", "exp_avg_sq", "step")


class AdamW(GuardedOptimizer):
    """`groups` as for `torch.optim.AdamW`; parameters without a gradient stay as they are.

    flat: the memory that the parameters share, if any. A group whose parameters are neighbours in it, and whose
    gradients are too, moves as one.
    """

    def __init__(
        self,
        groups: Iterable[dict[str, Any]],
        *,
        lr: float,
        betas: tuple[float, float],
        flat: FlatParameters | None = None,
    ) -> None:
        known = {"lr": lr, "betas": betas, "eps": 1e-8, "weight_decay": 0.0, "fused": True}
        self.flat = flat
        self.flat_state: dict[Tensor, list[Tensor]] = {}  # by a group's first parameter, the state of all in one
        super().__init__(list(groups), known)

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        self.param_groups.append(self.defaults | param_group)

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        self.flat_state.clear()
        super().load_state_dict(state_dict)

    def zero_grad(self, set_to_none: bool = True) -> None:
        for group in self.param_groups:
            for parameter in group["params"]:
                parameter.grad = None

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            if moved := [parameter for parameter in group["params"] if parameter.grad is not None]:
                self.move(moved, group)

    def move(self, parameters: list[nn.Parameter], group: dict[str, Any]) -> None:
        """One step for parameters of a group, each with its gradient."""
        for parameter in parameters:
            if "exp_avg" not in (state := self.state[parameter]):  # none, or another optimizer's
                state["step"] = torch.zeros((), dtype=torch.float32, device=parameter.device)
                state["exp_avg"] = torch.zeros_like(parameter)
                state["exp_avg_sq"] = torch.zeros_like(parameter)
        gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
        weights = self.flat.weights_of(parameters) if self.flat else None
        gradient = self.flat.gradients_of(parameters) if self.flat else None
        if weights is not None and gradient is not None and (state_of_all := self.as_one(parameters)):
            averages, squares, steps, first_step = state_of_all
            steps += 1 if self.skip is None else 1 - self.skip
            lists: list[Any] = [[weights], [gradient], [averages], [squares], [], [first_step]]
        else:
            separate = {key: [self.state[parameter][key] for parameter in parameters] for key in STATE}
            if self.skip is None:
                torch._foreach_add_(separate["step"], 1)
            else:
                torch._foreach_add_(separate["step"], [1 - self.skip] * len(parameters))
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
            found_inf=self.skip,
        )

    def as_one(self, parameters: list[nn.Parameter]) -> list[Tensor] | None:
        """The state of all these parameters, a tensor for each name in `STATE`, and the first step; None where their
        steps differ."""
        known = self.flat_state.get(parameters[0])
        if known is None or len(known[-2]) != len(parameters):
            lists = [[self.state[parameter][key] for parameter in parameters] for key in STATE]
            if len({float(step) for step in lists[-1]}) > 1:
                return None
            *moments, steps = map(flatten, lists)
            known = self.flat_state[parameters[0]] = [*moments, steps, steps[0]]
        return known
