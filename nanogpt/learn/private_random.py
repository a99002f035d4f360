"""Random numbers of a model from a generator instead of torch's global random state.

The process of a lesson may train a run in another thread, whose random numbers a lesson must not change.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

_DRAWS = {
    Tensor.normal_,
    Tensor.uniform_,
    Tensor.bernoulli_,
    Tensor.random_,
    Tensor.exponential_,
    torch.bernoulli,
    torch.multinomial,
    torch.normal,
    torch.rand,
    torch.randint,
    torch.randn,
    torch.randperm,
}


class PrivateRandom(TorchFunctionMode):
    """Inside this context, and in this thread only, random numbers come from `generator`.

    Initialisation (`torch.nn.init`) and this package's dropout on a CPU draw with the functions that are replaced. Do
    not `yield` inside the context: the consumer would run in it too.
    """

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.generator = generator

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        draws = func in _DRAWS or (getattr(func, "__module__", "") == "torch.nn.init" and "generator" in kwargs)
        if draws and kwargs.get("generator") is None:
            kwargs["generator"] = self.generator
        return func(*args, **kwargs)
