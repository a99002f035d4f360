"""The settings of GPT-2 nano, and what follows from them. Imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.components import Capabilities
from nanogpt.config.setting import setting
from nanogpt.models.layers.transformer_config import TransformerConfig

if TYPE_CHECKING:
    from nanogpt.models.gpt2_nano.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(TransformerConfig):
    """A GPT with fixed sinusoidal positions, ReLU, an untied head with a bias, and no projection after attention."""

    name: ClassVar[str] = "gpt2_nano"
    capabilities: ClassVar[Capabilities] = Capabilities(
        decoding_backend=True,
        label_smoothing=True,
        document_mask=True,
        attention=True,
        logit_lens=True,
        embeddings=True,
    )
    chunked_head: ClassVar[bool] = False

    block_size: int = setting(1024, "context window in tokens", low=1, high=10_000_000, common=True)
    n_layer: int = setting(12, "number of transformer blocks", low=1, high=1000, common=True)
    n_head: int = setting(8, "attention heads in each block", low=1, high=1000, common=True)
    n_embd: int = setting(512, "width of the residual stream; a multiple of n_head", low=1, high=1_000_000, common=True)

    def build(self) -> "Model":
        """Return a new model; see `ArchitectureConfig.build`."""
        from nanogpt.models.gpt2_nano.model import Model

        return Model(self)

    def n_parameters(self) -> int:
        """Return V·C + L·(11·C² + 9·C) + 2·C + (C·V + V): q, k, v 3·C², MLP 8·C² + 5·C, two norms 4·C."""
        V, C = self.vocab_size, self.n_embd
        return V * C + self.n_layer * (11 * C * C + 9 * C) + 2 * C + (C * V + V)

    def flops_per_token(self) -> int:
        """Return 6 for each weight in a matrix product (Kaplan et al. 2020), and 12·L·C·T for attention."""
        C = self.n_embd
        weights = self.n_layer * 11 * C * C + C * self.vocab_size
        return 6 * weights + 12 * self.n_layer * C * self.block_size
