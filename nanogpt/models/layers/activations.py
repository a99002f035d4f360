"""Activation functions of an MLP, by the name in the settings."""

from collections.abc import Callable
from typing import Final

from torch import Tensor
from torch.nn import functional as F

from nanogpt.models.layers import cpu_gradients
from nanogpt.models.layers.gelu import gelu


def relu_squared(x: Tensor) -> Tensor:
    """Return max(x, 0)² (So et al. 2021)."""
    if cpu_gradients.applies(x):
        return cpu_gradients.ReluSquared.apply(x)  # type: ignore[no-any-return, no-untyped-call]
    return F.relu(x).square()


def swiglu(x: Tensor) -> Tensor:
    """Return SiLU(a) · b (…, n), where a and b are the halves of x (…, 2n) (Shazeer 2020)."""
    a, b = x.chunk(2, dim=-1)
    return F.silu(a) * b


ACTIVATIONS: Final[dict[str, Callable[[Tensor], Tensor]]] = {
    "gelu": gelu,
    "relu": F.relu,
    "relu2": relu_squared,
    "swiglu": swiglu,
}
