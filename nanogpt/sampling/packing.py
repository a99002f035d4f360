"""Matrix products of a few rows on a CPU, with weights laid out as they are multiplied. Knows nothing of architectures.

What torch calls for such a product reads the weights at a third of the memory's speed on some CPUs; oneDNN, with a copy
of them in blocks of its own, at most of it. Whatever goes through `F.linear` gains, in any model.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode


def packs(model: Any) -> bool:
    """Whether this torch can do it for the model."""
    one = next(model.parameters())
    return bool(
        one.device.type == "cpu"
        and one.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
    )


class Packed(TorchFunctionMode):
    """Within it, `F.linear` uses a copy of each weight, made when it is first met. Weights must not change meanwhile.

    rows: the number of rows that are multiplied at once.
    """

    def __init__(self, rows: int) -> None:
        super().__init__()
        self._rows = rows
        self._copies: dict[int, tuple[Tensor, Tensor]] = {}  # the weight is kept, so that its id stays its own

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.linear and not kwargs:
            x, weight, *bias = args
            if id(weight) not in self._copies:
                copy = torch.ops.mkldnn._reorder_linear_weight(weight.detach(), self._rows)
                self._copies[id(weight)] = weight, copy
            packed = self._copies[id(weight)][1]
            return torch.ops.mkldnn._linear_pointwise(x, packed, bias[0] if bias else None, "none", [], "")
        return func(*args, **(kwargs or {}))
