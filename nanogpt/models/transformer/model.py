"""The transformer (Vaswani et al. 2017) as a language model: its decoder alone, over a short window.

It has learned positions, LayerNorm before attention and MLP, ReLU, and an untied head with a bias. Dropout acts on
attention weights, on what attention and MLP add to the residual stream, and on the embeddings.

In the shapes: B batch, T positions, C = n_embd.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn

from nanogpt.models.layers.dropout import Dropout
from nanogpt.models.layers.transformer_block import MLP, Block, CausalSelfAttention, init_transformer
from nanogpt.models.layers.untied_head import new_head
from nanogpt.models.layers.untied_transformer import UntiedTransformer

if TYPE_CHECKING:
    from nanogpt.models.transformer.config import Config


def new_block(config: "Config") -> Block[CausalSelfAttention]:
    """Return a block of attention and an MLP with ReLU."""
    C, dropout = config.n_embd, config.dropout
    attn = CausalSelfAttention(C, config.n_head, config.n_head, bias=True, dropout=dropout)
    mlp = MLP(C, "relu", bias=True, dropout=dropout)
    return Block(C, attn, mlp, norm="layer", bias=True)


class Model(UntiedTransformer):
    """Embeddings of tokens and positions, blocks, a last norm, head."""

    config: "Config"

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = Dropout(config.dropout)
        self.h = nn.ModuleList(new_block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd)
        self.head = new_head(config.n_embd, config.vocab_size)
        init_transformer(self, config.n_layer)

    def embed(self, ids: Tensor, past: int) -> Tensor:
        """See `UntiedTransformer.embed`: the sum of both embeddings."""
        positions = torch.arange(past, past + ids.size(1), device=ids.device)  # (T)
        return self.drop(self.wte(ids) + self.wpe(positions))  # type: ignore[no-any-return]

    def positions(self) -> tuple[Tensor, float]:
        """See `UntiedTransformer.positions`."""
        return self.wpe.weight, 1.0

    def crop_block_size(self, block_size: int) -> None:
        """See `LanguageModel.crop_block_size`; the embeddings of later positions are dropped."""
        super().crop_block_size(block_size)
        self.wpe.weight = nn.Parameter(self.wpe.weight.detach()[:block_size].clone())
        self.wpe.num_embeddings = block_size
