"""The settings of the modern GPT, and what follows from them. Imports no torch."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.components import Capabilities
from nanogpt.config.setting import setting
from nanogpt.models.layers.transformer_config import TransformerConfig

if TYPE_CHECKING:
    from nanogpt.models.modern.model import Model

MAX_NGRAM_ROWS = 2**15  # of the embedding of each n; with more n-grams than that, some share a row


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(TransformerConfig):
    """RoPE, normalised queries and keys, ReLU², short convolutions, n-gram embeddings, a soft-capped head."""

    name: ClassVar[str] = "modern"
    capabilities: ClassVar[Capabilities] = Capabilities(
        decoding_backend=True,
        label_smoothing=True,
        document_mask=True,
        attention=True,
        logit_lens=True,
        embeddings=True,
    )
    look_back: ClassVar[int] = 3  # previous positions in a short convolution
    hash_multiplier: ClassVar[int] = 1_000_003  # odd, so that every token of an n-gram influences its row
    rotary_base: ClassVar[float] = 1024.0  # of the frequencies; 10,000 in the paper
    logit_cap: ClassVar[float] = 15.0  # logits stay within ±logit_cap

    ngram: int = setting(2, "longest n-gram with its own embedding", low=1, high=4, common=True)
    ngram_dropout: float = setting(
        0.0,
        "probability that an n-gram's embedding is left out at a position while training",
        low=0,
        below=1,
        weights=False,
    )
    token_replacement: float = setting(
        0.0, "share of tokens that are read as random ones while training", low=0, below=1, weights=False
    )
    stochastic_depth: float = setting(
        0.0,
        "probability that a block's attention or MLP is skipped for a sequence while training",
        low=0,
        below=1,
        weights=False,
    )
    temperature_scaling: float = setting(
        1.0,
        "temperature by which the logits are divided, except while training",
        low=0.1,
        high=10,
        weights=False,
    )

    def validate(self) -> None:
        """Raise `SettingError` for head sizes that RoPE cannot use."""
        TransformerConfig.validate(self)
        self.validate_rotary()

    def build(self) -> "Model":
        """Return a new model; see `ArchitectureConfig.build`."""
        from nanogpt.models.modern.model import Model

        return Model(self)

    def ngram_rows(self, n: int) -> int:
        """Return the number of rows of the embedding of n-grams."""
        return min(MAX_NGRAM_ROWS, int(self.vocab_size**n))

    def n_parameters(self) -> int:
        """Return (2·V + n-gram rows)·C for embeddings and head, and L·(12·C² + 6·C + 2) for the blocks."""
        C = self.n_embd
        # matrices, two short convolutions, how much of the first embedding is mixed in
        block = 12 * C * C + 2 * self.look_back * C + 2
        return (2 * self.vocab_size + self._all_ngram_rows()) * C + self.n_layer * block

    def flops_per_token(self) -> int:
        """Return 6 for each weight that is multiplied, and 12·n_layer·C·T for attention, as for GPT-2."""
        looked_up = (self.vocab_size + self._all_ngram_rows()) * self.n_embd
        return 6 * (self.n_parameters() - looked_up) + 12 * self.n_layer * self.n_embd * self.block_size

    def _all_ngram_rows(self) -> int:
        return sum(self.ngram_rows(n) for n in range(2, self.ngram + 1))
