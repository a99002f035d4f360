"""Faster linear layers for a few rows on a CPU, with copies of the weights in another layout and number format.

For such products torch calls a routine that, on some CPUs, reads the weights at a third of the memory bandwidth. oneDNN
with weights in its blocked layout reads them at nearly the full bandwidth, and in bfloat16 it reads half the bytes. All
other operations stay in float32. This works for every `F.linear` in any model.

int8 reads a quarter of the bytes. Each row of a matrix has a scale of its own. x is rounded to 7 bits, with one scale
for all of its rows: CPUs without VNNI add pairs of products in 16 bits.
"""

import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

from nanogpt.errors import UserError
from nanogpt.hardware import cpu_has_bfloat16
from nanogpt.models.base import LanguageModel

# Weights multiplied for each token (attention included) from which a sample of some hundred tokens is faster in
# bfloat16 on a CPU with instructions for it. Below, the conversion takes longer than it saves.
MIN_WEIGHTS_FOR_BFLOAT16 = 20_000_000
# The same for int8, on an EPYC with AVX2: at 124 million weights a step takes 0.4 times as long as in float32, at 25
# million the same.
MIN_WEIGHTS_FOR_INT8 = 50_000_000
# Up to this length oneDNN sums a dot product in one order; beyond, it uses another order for a single vector.
SAME_ORDER_LENGTH = 1024


def resolve_sampling_dtype(asked: str, model: LanguageModel) -> tuple[str, str]:
    """Return the number format of the factors of matrix products in generation, and the reason.

    Training has its own rule: `nanogpt.hardware.resolve_dtype`.

    asked: "auto", "float32", "bfloat16" or "int8". "auto" is never int8, which costs some of the model's quality. Raise
    `UserError` for int8 if it is not possible here.
    """
    if asked == "int8" and model.config.capabilities.counted:
        raise UserError(f"dtype=int8: the architecture {model.config.name} has no weights to round; use float32")
    if asked == "int8" and model.device.type != "cpu":
        raise UserError(f"dtype=int8: it is computed on a CPU, and the model is on {model.device}; use --device=cpu")
    if asked == "int8" and not can_quantize(model):
        raise UserError("dtype=int8: not with this build of torch; use float32 or bfloat16")
    if asked != "auto":
        return asked, "as asked"
    if model.device.type != "cpu":
        return "float32", "bfloat16 is only known to be faster on CPUs"
    if not can_pack(model, "bfloat16") or not cpu_has_bfloat16():
        return "float32", "this CPU has no native bfloat16, or this torch no layout for it"
    multiplied = model.config.flops_per_token() // 6
    if multiplied < MIN_WEIGHTS_FOR_BFLOAT16:
        return "float32", (
            f"bfloat16 is faster from {MIN_WEIGHTS_FOR_BFLOAT16 / 1e6:.0f} million weights, "
            f"this model has {multiplied / 1e6:.1f} million"
        )
    return "bfloat16", "this CPU has bfloat16 instructions, and reads half the bytes"


def can_pack(model: LanguageModel, dtype: str) -> bool:
    """Return whether this torch can convert the model's weights to oneDNN's layout in `dtype`."""
    first = next(model.parameters(), None)
    return bool(
        first is not None
        and first.device.type == "cpu"
        and first.dtype == torch.float32
        and torch.backends.mkldnn.is_available()  # type: ignore[no-untyped-call]
        and hasattr(torch.ops.mkldnn, "_linear_pointwise")
        and hasattr(torch.ops.mkldnn, "_reorder_linear_weight")
        and (dtype == "float32" or torch.ops.mkldnn._is_mkldnn_bf16_supported())
    )


def can_quantize(model: LanguageModel) -> bool:
    """Return whether this torch can multiply the model's weights in int8."""
    first = next(model.parameters(), None)
    return bool(
        first is not None
        and first.device.type == "cpu"
        and first.dtype == torch.float32
        and torch.backends.quantized.engine in ("fbgemm", "x86", "onednn")
    )


class PackedLinears(TorchFunctionMode):
    """Inside this context `F.linear` uses copies of the weights, made at first use. The weights must not change.

    rows: the usual number of rows of x. dtype: the format of the copies, of x and of the products; the products of int8
    are in float32. use_onednn: whether to use oneDNN's layout (see `can_pack`).
    """

    def __init__(self, rows: int, dtype: torch.dtype, use_onednn: bool) -> None:
        super().__init__()
        self._rows, self._dtype, self._use_onednn = rows, dtype, use_onednn
        self._copies: dict[tuple[int, int, str], tuple[Tensor, Tensor | None, Callable[[Tensor], Tensor]]] = {}

    def linear(
        self, weight: Tensor, bias: Tensor | None = None, activation: str = "none"
    ) -> Callable[[Tensor], Tensor]:
        """Return the function from x (…, in) to activation(x·weightᵀ + bias) (…, out) in the dtype of x.

        activation: "none" or "gelu" (the tanh form). weight: (out, in).
        """
        key = id(weight), id(bias), activation
        if key not in self._copies:  # keeping weight and bias keeps their ids unique
            self._copies[key] = weight, bias, self._pack(weight.detach(), bias, activation)
        return self._copies[key][2]

    def _pack(self, weight: Tensor, bias: Tensor | None, activation: str) -> Callable[[Tensor], Tensor]:
        dtype = self._dtype
        if dtype == torch.int8:
            return add_bias_and_activation(int8_product(weight), bias, activation)
        weight = weight.to(dtype)
        if not self._use_onednn:
            return add_bias_and_activation(lambda x: F.linear(x.to(dtype), weight).to(x.dtype), bias, activation)
        packed, op = torch.ops.mkldnn._reorder_linear_weight(weight, self._rows), torch.ops.mkldnn._linear_pointwise
        if dtype == torch.float32:
            return lambda x: op(x, packed, bias, activation, [], "tanh")

        def product(x: Tensor) -> Tensor:
            rounded = x.to(dtype)
            # Another order of summation hardly matters in float32, but changes a text when it is rounded to 8 bits.
            if is_single := x.numel() == x.size(-1) > SAME_ORDER_LENGTH:
                rounded = rounded.view(1, -1).repeat(2, 1)
            y: Tensor = op(rounded, packed, None, "none", [], "").to(x.dtype)
            return y[0].view(*x.shape[:-1], -1) if is_single else y

        return add_bias_and_activation(product, bias, activation)

    def __torch_function__(self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is F.linear and not kwargs:
            x, weight, *bias = args
            return self.linear(weight, *bias)(x)
        return func(*args, **(kwargs or {}))


def int8_product(weight: Tensor) -> Callable[[Tensor], Tensor]:
    """Return the function from x (…, in) to x·weightᵀ (…, out) with both factors in int8. weight: (out, in)."""
    scales = weight.abs().amax(1).double() / 127  # (out)
    if not scales.isfinite().all():  # of a training that diverged: the result shall show it
        return lambda x: F.linear(x, weight)
    scales = scales.where(scales > 0, 1.0)
    with warnings.catch_warnings(action="ignore"):  # torch's advice to use another package for it
        rounded = torch.quantize_per_channel(weight, scales, torch.zeros_like(scales).long(), 0, torch.qint8)
        packed = torch.ops.quantized.linear_prepack(rounded, None)
    product = torch.ops.quantized.linear_dynamic
    return lambda x: product(x, packed, True)


def add_bias_and_activation(
    product: Callable[[Tensor], Tensor], bias: Tensor | None, activation: str
) -> Callable[[Tensor], Tensor]:
    """Return the product with bias and activation, both in float32."""

    def layer(x: Tensor) -> Tensor:
        y = product(x)
        if bias is not None:
            y = y.add_(bias)
        return F.gelu(y, approximate="tanh") if activation == "gelu" else y

    return product if bias is None and activation == "none" else layer
