"""SGD with a quick start."""

from collections.abc import Callable
from inspect import unwrap

import torch

from nanogpt.optimizers.base import Optimizer


class Sgd(Optimizer, torch.optim.SGD):
    """`torch.optim.SGD` that does not import torch's compiler."""

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Update all parameters that have a gradient. `closure` is not used."""
        unwrap(torch.optim.SGD.step)(self)
