"""The settings of WaveNet, and what follows from them. Imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.components import ArchitectureConfig, Capabilities
from nanogpt.config.setting import setting

if TYPE_CHECKING:
    from nanogpt.models.wavenet.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ArchitectureConfig):
    """WaveNet (van den Oord et al. 2016): gated dilated causal convolutions with residual and skip paths."""

    name: ClassVar[str] = "wavenet"
    capabilities: ClassVar[Capabilities] = Capabilities(label_smoothing=True, embeddings=True)

    block_size: int = setting(16, "context window in tokens", low=1, high=10_000_000, common=True)
    n_layer: int = setting(4, "residual layers; layer i has the dilation 2^i", low=1, high=30, common=True)
    kernel_size: int = setting(2, "positions that one convolution combines", low=2, high=64, common=True)
    n_embd: int = setting(256, "channels of the embedding and of every layer", low=1, high=1_000_000, common=True)
    dropout: float = setting(
        0.0, "fraction of activations zeroed while training", low=0, below=1, common=True, weights=False
    )

    def build(self) -> "Model":
        """Return a new model; see `ArchitectureConfig.build`."""
        from nanogpt.models.wavenet.model import Model

        return Model(self)

    @property
    def width(self) -> int:
        """The number of channels."""
        return self.n_embd

    @property
    def receptive_field(self) -> int:
        """The number of tokens that a prediction depends on, 1 + (k - 1)·(1 + Σ 2^i), if the window has as many."""
        return 1 + (self.kernel_size - 1) * int(2**self.n_layer)

    def n_parameters(self) -> int:
        """Return V·C + (k·C² + C) + L·(2·(k·C² + C) + 2·(C² + C)) + (C·V + V)."""
        V, C, k = self.vocab_size, self.n_embd, self.kernel_size
        convolution, pointwise = k * C * C + C, C * C + C
        return V * C + convolution + self.n_layer * 2 * (convolution + pointwise) + (C * V + V)

    def flops_per_token(self) -> int:
        """Return 6 for each weight that is multiplied: 2 forward and 4 backward (Kaplan et al. 2020)."""
        C, k = self.n_embd, self.kernel_size
        return 6 * C * ((k + self.n_layer * 2 * (k + 1)) * C + self.vocab_size)

    def activation_bytes(self, batch_size: int, dtype: str, device: str) -> int:
        """Return the bytes of the layers' activations and of the logits with their gradients, in float32."""
        numbers = (self.n_layer * (self.kernel_size + 9) + 4) * self.n_embd + 2 * self.vocab_size
        return 4 * batch_size * self.block_size * numbers
