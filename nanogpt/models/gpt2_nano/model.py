"""A small GPT as people build it by hand: fixed sinusoidal positions (Vaswani et al. 2017), LayerNorm before attention
and MLP, ReLU, an untied head with a bias. Its heads are concatenated straight into the residual stream, without a
projection. With 12 layers, 8 heads, 512 channels and 9,157 tokens it has 44 million parameters.

In the shapes: B batch, T positions, C = n_embd.
"""

import math
from typing import TYPE_CHECKING

from torch import Tensor, nn

from nanogpt.models.layers.dropout import Dropout
from nanogpt.models.layers.positions import sinusoidal_positions
from nanogpt.models.layers.transformer_block import MLP, AttentionHeads, Block, init_transformer
from nanogpt.models.layers.untied_head import new_head
from nanogpt.models.layers.untied_transformer import UntiedTransformer

if TYPE_CHECKING:
    from nanogpt.models.gpt2_nano.config import Config


def new_block(config: "Config") -> Block[AttentionHeads]:
    """Return a block of attention without a projection, and an MLP with ReLU."""
    C, dropout = config.n_embd, config.dropout
    attn = AttentionHeads(C, config.n_head, config.n_head, bias=False, dropout=dropout)
    mlp = MLP(C, "relu", bias=True, dropout=dropout)
    return Block(C, attn, mlp, norm="layer", bias=True)


class Model(UntiedTransformer):
    """Embedding and positions, blocks, a last norm, head."""

    config: "Config"

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.drop = Dropout(config.dropout)
        self.h = nn.ModuleList(new_block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.head = new_head(config.n_embd, config.vocab_size)
        init_transformer(self, config.n_layer)

    def embed(self, ids: Tensor, past: int) -> Tensor:
        """See `UntiedTransformer.embed`: embeddings times √C, and positions."""
        T, C = ids.size(1), self.config.n_embd
        x = self.wte(ids)  # (B, T, C)
        return self.drop(x * math.sqrt(C) + sinusoidal_positions(past, T, C, like=x))  # type: ignore[no-any-return]

    def positions(self) -> tuple[Tensor, float]:
        """See `UntiedTransformer.positions`."""
        T, C = self.config.block_size, self.config.n_embd
        return sinusoidal_positions(0, T, C, like=self.wte.weight), math.sqrt(C)
