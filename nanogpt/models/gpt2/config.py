"""The settings of GPT-2, and what follows from them. Imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.components import Capabilities
from nanogpt.config.setting import setting
from nanogpt.models.layers.transformer_config import TransformerConfig

if TYPE_CHECKING:
    from nanogpt.models.gpt2.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(TransformerConfig):
    """GPT-2 (Radford et al. 2019): learned positions, pre-norm, GELU, tied head."""

    name: ClassVar[str] = "gpt2"
    capabilities: ClassVar[Capabilities] = Capabilities(decoding_backend=True, label_smoothing=True)

    bias: bool = setting(False, "biases in Linear and LayerNorm, as GPT-2 has them")

    def build(self) -> "Model":
        """Return a new model; see `ArchitectureConfig.build`."""
        from nanogpt.models.gpt2.model import Model

        return Model(self)

    def n_parameters(self) -> int:
        """Return V·C + T·C + L·(12·C² + 2·C) + C without biases, and with them L·11·C + C more."""
        C, biases = self.n_embd, int(self.bias)
        norm = C + biases * C
        attention = 4 * C * C + biases * 4 * C  # q, k, v and the projection
        mlp = 8 * C * C + biases * 5 * C
        return (self.vocab_size + self.block_size) * C + self.n_layer * (attention + mlp + 2 * norm) + norm

    def flops_per_token(self) -> int:
        """Return 6 for each weight that is multiplied, and 12·n_layer·C·T for attention scores and their use.

        A multiplication takes 2 forward and 4 backward (Kaplan et al. 2020), the embedding counting as the head; for
        attention see Chowdhery et al. 2022, appendix B.
        """
        positions = self.block_size * self.n_embd
        return 6 * (self.n_parameters() - positions) + 12 * self.n_layer * self.n_embd * self.block_size
