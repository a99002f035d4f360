"""SGD with a quick start."""

from inspect import unwrap
from typing import Any

import torch

from nanogpt.optimizers.base import QuickStartOptimizer


class Sgd(QuickStartOptimizer, torch.optim.SGD):
    """`torch.optim.SGD` that does not import torch's compiler."""

    @torch.no_grad()
    def step(self, closure: Any = None) -> Any:
        """Update all parameters that have a gradient; see `torch.optim.SGD.step`."""
        return unwrap(torch.optim.SGD.step)(self, closure)
