"""The settings of the transformer, and what follows from them. Imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.components import Capabilities
from nanogpt.config.setting import setting
from nanogpt.models.layers.transformer_config import TransformerConfig

if TYPE_CHECKING:
    from nanogpt.models.transformer.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(TransformerConfig):
    """The decoder of Vaswani et al. 2017 alone, norms before attention and MLP, dropout of attention weights."""

    name: ClassVar[str] = "transformer"
    capabilities: ClassVar[Capabilities] = Capabilities(
        decoding_backend=True,
        label_smoothing=True,
        document_mask=True,
        attention=True,
        logit_lens=True,
        embeddings=True,
    )
    chunked_head: ClassVar[bool] = False

    block_size: int = setting(10, "context window in tokens", low=1, high=10_000_000, common=True)
    n_layer: int = setting(2, "number of transformer blocks", low=1, high=1000, common=True)

    def build(self) -> "Model":
        """Return a new model; see `ArchitectureConfig.build`."""
        from nanogpt.models.transformer.model import Model

        return Model(self)

    def n_parameters(self) -> int:
        """Return V·C + T·C + L·(12·C² + 13·C) + 2·C + (C·V + V).

        In a block attention has 4·C² + 4·C, the MLP 8·C² + 5·C, and two norms 4·C.
        """
        V, C = self.vocab_size, self.n_embd
        return V * C + self.block_size * C + self.n_layer * (12 * C * C + 13 * C) + 2 * C + (C * V + V)

    def flops_per_token(self) -> int:
        """Return 6 for each weight in a matrix product (Kaplan et al. 2020), and 12·L·C·T for attention."""
        C = self.n_embd
        weights = self.n_layer * 12 * C * C + C * self.vocab_size
        return 6 * weights + 12 * self.n_layer * C * self.block_size
