"""A bigram model: the next token follows from the last one alone, by one table of logits."""

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from nanogpt.config import ArchitectureConfig, Capabilities, setting
from nanogpt.models.base import Cache, LanguageModel, Output, ParameterGroup


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(ArchitectureConfig):
    """A table of logits for each last token."""

    name: ClassVar[str] = "bigram"
    capabilities: ClassVar[Capabilities] = Capabilities(cache=False)

    spread: float = setting(0.02, "standard deviation of the first logits", low=0, high=10, common=True)

    def build(self) -> "Model":
        return Model(self)

    def n_parameters(self) -> int:
        return self.vocab_size**2

    def flops_per_token(self) -> int:
        return 0  # a row is looked up, nothing is multiplied

    def activation_bytes(self, batch_size: int, dtype: str, device: str) -> int:
        return 8 * batch_size * self.block_size * self.vocab_size

    @property
    def width(self) -> int:
        return self.vocab_size


class Model(LanguageModel):
    config: Config

    def __init__(self, config: Config) -> None:
        super().__init__()
        self.config = config
        self.table = nn.Embedding(config.vocab_size, config.vocab_size)
        nn.init.normal_(self.table.weight, std=config.spread)

    def forward(self, ids: Tensor, targets: Tensor | None = None, cache: Cache | None = None) -> Output:
        if ids.size(1) > self.config.block_size:
            raise ValueError(f"{ids.size(1)} positions do not fit block_size={self.config.block_size}")
        if targets is None:
            return self.table(ids[:, -1:]), None  # (B, 1, V)
        return None, F.cross_entropy(self.table(ids).flatten(0, 1), targets.flatten(), ignore_index=-1)

    def logits(self, ids: Tensor) -> Tensor:
        self(ids)  # which checks the length
        logits: Tensor = self.table(ids)  # (B, T, V)
        return logits

    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup("embedding", list(self.parameters()), decay=True)]
