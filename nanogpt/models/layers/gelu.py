"""GPT-2's GELU, x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))), at the price of the error function on a CPU in 16 bits.

There torch takes as long for the hyperbolic tangent as for a matrix product. The error function, which the formula
approximates, is within 0.0005 of it, and bfloat16 rounds a number above 0.13 by as much.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from nanogpt.models.layers.dropout import cheap


def gelu(x: Tensor) -> Tensor:
    return F.gelu(x, approximate=form_in(x.dtype) if cheap(x) else "tanh")


def form_in(dtype: torch.dtype) -> str:
    """torch's name for the form that is computed in `dtype` on a CPU."""
    return "none" if dtype == torch.bfloat16 else "tanh"
