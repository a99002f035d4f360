"""GPT-2's GELU, x/2·(1 + tanh(√(2/π)·(x + 0.044715·x³))), computed with the error function on a CPU in bfloat16.

There torch needs as much time for the hyperbolic tangent as for a matrix product. The formula approximates the one with
the error function (Hendrycks & Gimpel 2016) to 0.0005, which is the rounding error of bfloat16 for numbers above 0.13.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from nanogpt.models.layers.dropout import is_eager_cpu


def gelu(x: Tensor) -> Tensor:
    """Return GELU(x), of the shape and dtype of x."""
    return F.gelu(x, approximate=gelu_form(x.dtype) if is_eager_cpu(x) else "tanh")


def gelu_form(dtype: torch.dtype) -> str:
    """Return torch's name of the formula for `dtype` on a CPU: "none" for the error function, or "tanh"."""
    return "none" if dtype == torch.bfloat16 else "tanh"
