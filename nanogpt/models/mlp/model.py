"""A multilayer perceptron over a window of tokens (Bengio et al. 2003, "A Neural Probabilistic Language Model").

Each position is predicted from its own window: the token itself and the block_size - 1 tokens before it. Windows that
begin before the text are padded with zeros. So every position is trained, and none sees a later token.

In the shapes: B batch, T positions, E = n_embd, H = n_hidden, V = vocab_size, W = block_size.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanogpt.models.base import Cache
from nanogpt.models.layers.untied_head import UntiedHeadModel, new_head

if TYPE_CHECKING:
    from nanogpt.models.mlp.config import Config


class BatchNorm(nn.BatchNorm1d):
    """Batch normalisation. A single row has no variance, and is normalised by the running mean and variance.

    So are all rows if the layer is frozen, as beside adapters: its running mean and variance stay as they are.
    """

    def forward(self, x: Tensor) -> Tensor:
        """Return (N, H) for x (N, H)."""
        if len(x) > 1 and self.weight.requires_grad:
            return super().forward(x)
        return F.batch_norm(x, self.running_mean, self.running_var, self.weight, self.bias, eps=self.eps)


class Model(UntiedHeadModel):
    """Embeddings of W tokens, side by side, then one hidden layer with tanh."""

    config: "Config"

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.fc = nn.Linear(config.block_size * config.n_embd, config.n_hidden)
        norms = {"none": nn.Identity, "batch": BatchNorm, "layer": nn.LayerNorm}
        self.norm = norms[config.norm](config.n_hidden)
        self.head = new_head(config.n_hidden, config.vocab_size)

    def hidden(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """Return the hidden states (B, T, H) for ids (B, T), each from its own window."""
        B, T, W = *ids.shape, self.config.block_size
        if T > W:
            raise ValueError(f"{T} positions do not fit block_size={W}")
        x = F.pad(self.wte(ids), (0, 0, W - 1, 0))  # (B, W - 1 + T, E)
        windows = x.unfold(1, W, 1).transpose(2, 3).reshape(B * T, -1)  # (B·T, W·E)
        return torch.tanh(self.norm(self.fc(windows))).view(B, T, -1)
