"""Normalisations of a hidden state, by the name in the settings."""

from torch import Tensor, nn
from torch.nn import functional as F

NORM_EPS = 1e-5  # added to the variance


def norm(x: Tensor) -> Tensor:
    """Return x (…, n) with mean 0 and variance 1 over its last dimension (LayerNorm without weights)."""
    return F.layer_norm(x, (x.size(-1),))


class RMSNorm(nn.LayerNorm):
    """x / √(mean(x²) + eps) · weight (Zhang & Sennrich 2019): LayerNorm without a mean and without a bias."""

    def __init__(self, size: int, eps: float = NORM_EPS) -> None:
        super().__init__(size, eps, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (…, size) for x (…, size)."""
        return F.rms_norm(x, self.normalized_shape, self.weight, self.eps)


class NoNorm(nn.LayerNorm):
    """The identity, for a model without normalisation."""

    def __init__(self, size: int) -> None:
        super().__init__(size, elementwise_affine=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return x."""
        return x


def new_norm(name: str, size: int, bias: bool, eps: float = NORM_EPS) -> nn.LayerNorm:
    """Return "layer", with or without a bias, "rms", which has none, or "none"."""
    if name == "none":
        return NoNorm(size)
    return RMSNorm(size, eps) if name == "rms" else nn.LayerNorm(size, eps, bias=bias)
