"""The settings of the LSTM, and what follows from them. Imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.components import ArchitectureConfig, Capabilities
from nanogpt.config.setting import setting

if TYPE_CHECKING:
    from nanogpt.models.lstm.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ArchitectureConfig):
    """Long short-term memory (Hochreiter and Schmidhuber 1997), with forget gates (Gers et al. 2000)."""

    name: ClassVar[str] = "lstm"
    capabilities: ClassVar[Capabilities] = Capabilities(decoding_backend=True, label_smoothing=True, embeddings=True)

    n_layer: int = setting(1, "layers of cells, one above the other", low=1, high=100, common=True)
    n_embd: int = setting(256, "size of an embedding and of the hidden state", low=1, high=1_000_000, common=True)
    dropout: float = setting(
        0.0, "fraction of activations zeroed while training", low=0, below=1, common=True, weights=False
    )

    def build(self) -> "Model":
        """Return a new model; see `ArchitectureConfig.build`."""
        from nanogpt.models.lstm.model import Model

        return Model(self)

    @property
    def width(self) -> int:
        """The size of the hidden state."""
        return self.n_embd

    def n_parameters(self) -> int:
        """Return V·C + L·(8·C² + 4·C) + (C·V + V)."""
        V, C = self.vocab_size, self.n_embd
        return V * C + self.n_layer * (8 * C * C + 4 * C) + (C * V + V)

    def flops_per_token(self) -> int:
        """Return 6 for each weight that is multiplied: 2 forward and 4 backward (Kaplan et al. 2020)."""
        return 6 * self.n_embd * (self.n_layer * 8 * self.n_embd + self.vocab_size)

    def activation_bytes(self, batch_size: int, dtype: str, device: str) -> int:
        """Return the bytes of all gates and states, and of the logits with their gradients, in float32."""
        return 4 * batch_size * self.block_size * (self.n_layer * 16 * self.n_embd + 2 * self.vocab_size)
