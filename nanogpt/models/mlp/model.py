"""A multilayer perceptron over a window of tokens (Bengio et al. 2003, "A Neural Probabilistic Language Model").

Each position is predicted from its own window: the token itself and the block_size - 1 tokens before it. Windows that
begin before the text are padded with zeros. So every position is trained, and none sees a later token.

In the shapes: B batch, T positions, E = n_embd, H = n_hidden, V = vocab_size, W = block_size.
"""

from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanogpt.models.base import Cache, LanguageModel, Output, ParameterGroup

if TYPE_CHECKING:
    from nanogpt.models.mlp.config import Config


class Model(LanguageModel):
    """Embeddings of W tokens, side by side, then one hidden layer with tanh."""

    config: "Config"

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.hidden = nn.Linear(config.block_size * config.n_embd, config.n_hidden)
        norms = {"none": nn.Identity, "batch": nn.BatchNorm1d, "layer": nn.LayerNorm}
        self.norm = norms[config.norm](config.n_hidden)
        self.head = nn.Linear(config.n_hidden, config.vocab_size)
        nn.init.normal_(self.head.weight, std=0.02)
        nn.init.zeros_(self.head.bias)

    def logits(self, ids: Tensor) -> Tensor:
        """Return the logits (B, T, V) of every position."""
        B, T, W = *ids.shape, self.config.block_size
        if T > W:
            raise ValueError(f"{T} positions do not fit block_size={W}")
        x = F.pad(self.wte(ids), (0, 0, W - 1, 0))  # (B, W - 1 + T, E)
        windows = x.unfold(1, W, 1).transpose(2, 3).reshape(B * T, -1)  # (B·T, W·E)
        h = torch.tanh(self.norm(self.hidden(windows)))  # (B·T, H)
        return self.head(h).float().view(B, T, -1)  # type: ignore[no-any-return]

    def forward(self, ids: Tensor, targets: Tensor | None = None, cache: Cache | None = None) -> Output:
        """See `LanguageModel.forward`."""
        logits = self.logits(ids)
        if targets is None:
            return logits[:, -1:], None  # (B, 1, V)
        return None, F.cross_entropy(logits.flatten(0, 1), targets.flatten(), ignore_index=-1)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the embedding, the hidden matrix, the head, and the biases with the norm."""
        vectors = [p for p in self.parameters() if p.dim() == 1]
        return [
            ParameterGroup("embedding", [*self.wte.parameters()], decay=True),
            ParameterGroup("hidden", [p for p in self.hidden.parameters() if p.dim() == 2], decay=True),
            ParameterGroup("head", [p for p in self.head.parameters() if p.dim() == 2], decay=True),
            ParameterGroup("vector", vectors, decay=False),
        ]
