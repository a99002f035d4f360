"""Matrix products of a few rows, with copies of the weights in the format and layout in which they are multiplied
fastest. Knows nothing of architectures.

What torch calls for such a product on a CPU reads the weights at a third of the memory's speed on some; oneDNN, with a
copy of them in blocks of its own, at most of it, and in bfloat16 it reads half as much. All else stays in float32.
Whatever goes through `F.linear` gains, in any model.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from nanogpt.hardware import cpu_multiplies_bfloat16
from nanogpt.models.base import LanguageModel

# Weights multiplied for a token, attention counted as such, from which some hundred tokens of one sample are written
# faster in bfloat16 on a CPU that has it.
WORTH_BFLOAT16 = 20_000_000
# Up to so many products oneDNN adds up in one order; beyond, it has another one for a vector that comes alone.
SUMMED_ALIKE = 1024


def number_format(asked: str, model: LanguageModel) -> tuple[str, str]:
    """(the format of the factors of matrix products while the model writes, why). asked: "auto", "float32" or
    "bfloat16"."""
    if asked != "auto":
        return asked, "as asked"
    if next(model.parameters()).device.type != "cpu":
        return "float32", "bfloat16 is measured to pay on CPUs alone"
    if not packs(model, "bfloat16") or not cpu_multiplies_bfloat16():
        return "float32", "this CPU has no native bfloat16, or this torch no layout for it"
    multiplied = model.config.flops_per_token() // 6
    if multiplied < WORTH_BFLOAT16:
        return "float32", (
            f"bfloat16 pays from {WORTH_BFLOAT16 / 1e6:.0f} million weights on, here {multiplied / 1e6:.1f} million"
        )
    return "bfloat16", "this CPU multiplies it natively, and it is half the bytes to read"


def packs(model: LanguageModel, dtype: str) -> bool:
    """Whether this torch can lay out the model's weights in that format for oneDNN here."""
    one = next(model.parameters())
    return bool(
        one.device.type == "cpu"
        and one.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and (dtype == "float32" or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


class Packed(TorchFunctionMode):
    """Within it, `F.linear` uses a copy of each weight, made when it is first met. Weights must not change meanwhile.

    rows: the number of rows that are mostly multiplied at once; dtype: what weights, vectors and their products are
    rounded to; layout: whether oneDNN's is to be used (see `packs`).
    """

    def __init__(self, rows: int, dtype: torch.dtype, layout: bool) -> None:
        super().__init__()
        self._rows, self._dtype, self._layout = rows, dtype, layout
        self._made: dict[tuple[int, int, str], tuple[Tensor, Tensor | None, Callable[[Tensor], Tensor]]] = {}

    def linear(
        self, weight: Tensor, bias: Tensor | None = None, activation: str = "none"
    ) -> Callable[[Tensor], Tensor]:
        """What makes of x (…, in) x·weightᵀ + bias (…, out), and its GELU (the tanh form) where `activation` is "gelu"
        and not "none", in the dtype of x."""
        key = id(weight), id(bias), activation
        if key not in self._made:  # weight and bias are kept, so that their ids stay their own
            self._made[key] = weight, bias, self._laid_out(weight.detach().to(self._dtype), bias, activation)
        return self._made[key][2]

    def _laid_out(self, copy: Tensor, bias: Tensor | None, activation: str) -> Callable[[Tensor], Tensor]:
        dtype = self._dtype
        if not self._layout:
            return finished(lambda x: F.linear(x.to(dtype), copy).to(x.dtype), bias, activation)
        packed, op = torch.ops.mkldnn._reorder_linear_weight(copy, self._rows), torch.ops.mkldnn._linear_pointwise
        if dtype == torch.float32:
            return lambda x: op(x, packed, bias, activation, [], "tanh")

        def product(x: Tensor) -> Tensor:
            rounded = x.to(dtype)
            # In float32 the order hardly matters; a sum rounded otherwise to 8 bits leads to another text before long.
            if alone := x.numel() == x.size(-1) > SUMMED_ALIKE:
                rounded = rounded.view(1, -1).repeat(2, 1)
            y: Tensor = op(rounded, packed, None, "none", [], "").to(x.dtype)
            return y[0].view(*x.shape[:-1], -1) if alone else y

        return finished(product, bias, activation)

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.linear and not kwargs:
            x, weight, *bias = args
            return self.linear(weight, *bias)(x)
        return func(*args, **(kwargs or {}))


def finished(product: Callable[[Tensor], Tensor], bias: Tensor | None, activation: str) -> Callable[[Tensor], Tensor]:
    """The product with its bias and its activation, both in float32."""

    def layer(x: Tensor) -> Tensor:
        y = product(x)
        if bias is not None:
            y = y.add_(bias)
        return F.gelu(y, approximate="tanh") if activation == "gelu" else y

    return product if bias is None and activation == "none" else layer
