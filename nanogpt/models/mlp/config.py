"""The settings of the multilayer perceptron, and what follows from them. Imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.components import ArchitectureConfig, Capabilities
from nanogpt.config.setting import setting

if TYPE_CHECKING:
    from nanogpt.models.mlp.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ArchitectureConfig):
    """Multilayer perceptron (Bengio et al. 2003): the embeddings of a window, one hidden layer, the next token."""

    name: ClassVar[str] = "mlp"
    capabilities: ClassVar[Capabilities] = Capabilities(cache=False, crop=False, label_smoothing=True, embeddings=True)

    block_size: int = setting(10, "tokens that the next one is predicted from", low=1, high=10_000, common=True)
    n_embd: int = setting(200, "size of a token's embedding", low=1, high=1_000_000, common=True)
    n_hidden: int = setting(200, "units of the hidden layer", low=1, high=10_000_000, common=True)
    norm: str = setting("none", "normalisation of the hidden layer", choices=("none", "batch", "layer"), common=True)

    def build(self) -> "Model":
        """Return a new model; see `ArchitectureConfig.build`."""
        from nanogpt.models.mlp.model import Model

        return Model(self)

    @property
    def width(self) -> int:
        """The number of hidden units."""
        return self.n_hidden

    def n_parameters(self) -> int:
        """Return V·E + (T·E·H + H) + (H·V + V), and 2·H more with a norm."""
        V, E, H = self.vocab_size, self.n_embd, self.n_hidden
        return V * E + (self.block_size * E * H + H) + (H * V + V) + (2 * H if self.norm != "none" else 0)

    def flops_per_token(self) -> int:
        """Return 6 for each weight that is multiplied: 2 forward and 4 backward (Kaplan et al. 2020)."""
        return 6 * self.n_hidden * (self.block_size * self.n_embd + self.vocab_size)

    def activation_bytes(self, batch_size: int, dtype: str, device: str) -> int:
        """Return the bytes of the windows, the hidden layer and the logits with their gradients, in float32."""
        numbers = self.block_size * self.n_embd + 3 * self.n_hidden + 2 * self.vocab_size
        return 4 * batch_size * self.block_size * numbers
