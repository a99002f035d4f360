"""Models without values, or without memory, for their weights."""

from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


@contextmanager
def on_meta_device() -> Generator[None, None, None]:
    """Build models inside this on torch's meta device: they have shapes and no values, and draw no random numbers."""
    with torch.device("meta"), Uninitialised():
        yield


class Uninitialised(TorchFunctionMode):
    """Skip `torch.nn.init` in this thread: models that are built inside this get their weights from elsewhere.

    No random numbers are drawn, which a training in another thread would miss. On the meta device they would import
    torch's compiler, which takes seconds.
    """

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__module__", "") == "torch.nn.init":
            return kwargs["tensor"] if kwargs and "tensor" in kwargs else args[0]
        return func(*args, **(kwargs or {}))
