"""What architectures share that have an embedding, any hidden layers, and a head with weights of its own."""

from abc import abstractmethod

from torch import Tensor, nn
from torch.nn import functional as F

from nanogpt.models.base import Cache, LanguageModel, Output, ParameterGroup


def new_head(size: int, vocab_size: int) -> nn.Linear:
    """Return a head from hidden states (…, size) to logits (…, vocab_size), at first nearly uniform."""
    head = nn.Linear(size, vocab_size)
    nn.init.normal_(head.weight, std=0.02)
    nn.init.zeros_(head.bias)
    return head


class UntiedHeadModel(LanguageModel):
    """A model that a subclass completes with `wte`, `head` and `hidden`. C is the size of its hidden states."""

    wte: nn.Embedding
    head: nn.Linear

    @abstractmethod
    def hidden(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """Return the hidden states (B, T, C) for ids (B, T). Advance the cache."""

    def logits(self, ids: Tensor) -> Tensor:
        """Return the logits (B, T, V) of every position."""
        return self.head(self.hidden(ids)).float()  # type: ignore[no-any-return]

    def forward(self, ids: Tensor, targets: Tensor | None = None, cache: Cache | None = None) -> Output:
        """See `LanguageModel.forward`."""
        x = self.hidden(ids, cache)
        if targets is None:
            return self.head(x[:, -1:]).float(), None  # (B, 1, V)
        logits, smoothing = self.head(x).float().flatten(0, 1), self.active_label_smoothing
        return None, F.cross_entropy(logits, targets.flatten(), ignore_index=-1, label_smoothing=smoothing)

    def token_embeddings(self) -> Tensor:
        """Return the token embeddings (V, C)."""
        return self.wte.weight

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return the embeddings, the matrices of the hidden layers, the head, and all vectors."""
        embeddings = [p for module in self.modules() if isinstance(module, nn.Embedding) for p in module.parameters()]
        ends = {*embeddings, *self.head.parameters()}
        hidden = [p for p in self.parameters() if p.dim() == 2 and p not in ends]
        return [
            ParameterGroup("embedding", embeddings, decay=True),
            ParameterGroup("hidden", hidden, decay=True),
            ParameterGroup("head", [p for p in self.head.parameters() if p.dim() == 2], decay=True),
            ParameterGroup("vector", [p for p in self.parameters() if p.dim() == 1], decay=False),
        ]
