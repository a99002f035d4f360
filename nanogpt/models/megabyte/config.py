"""The settings of MEGABYTE, and what follows from them. Imports no torch."""

from dataclasses import dataclass
from math import lcm
from typing import TYPE_CHECKING, ClassVar

from nanogpt.config.components import Capabilities
from nanogpt.config.setting import setting
from nanogpt.errors import SettingError
from nanogpt.models.layers.transformer_config import TransformerConfig

if TYPE_CHECKING:
    from nanogpt.models.megabyte.model import Model


@dataclass(frozen=True, slots=True, kw_only=True)
class Config(TransformerConfig):
    """MEGABYTE (Yu et al. 2023): a global transformer over patches, a local one over the tokens of each patch.

    It is made for bytes, and takes any tokens. In the formulas: P patch_size, D = n_embd the width of the global
    transformer, of which each token of a patch has D / P, and L its blocks; C = local_n_embd, l = local_n_layer.
    """

    name: ClassVar[str] = "megabyte"
    capabilities: ClassVar[Capabilities] = Capabilities(label_smoothing=True, embeddings=True)

    n_layer: int = setting(2, "blocks of the global transformer, over patches", low=1, high=1000, common=True)
    n_embd: int = setting(
        256, "width of the global transformer; a multiple of n_head and patch_size", low=1, high=1_000_000, common=True
    )
    patch_size: int = setting(4, "tokens in a patch", low=1, high=1024, common=True)
    local_n_layer: int = setting(2, "blocks of the local transformer, within a patch", low=1, high=1000, common=True)
    local_n_head: int = setting(4, "attention heads in each block of the local transformer", low=1, high=1000)
    local_n_embd: int = setting(
        128, "width of the local transformer; a multiple of local_n_head", low=1, high=1_000_000, common=True
    )
    strided_inference: bool = setting(
        False, "evaluate and sample with two passes, half a patch apart, for twice the work", weights=False
    )

    def validate(self) -> None:
        """Raise `SettingError` if heads or the tokens of a patch do not have equal shares of a width."""
        for name, divisors in {"n_embd": ("n_head", "patch_size"), "local_n_embd": ("local_n_head",)}.items():
            width, share = getattr(self, name), lcm(*(getattr(self, divisor) for divisor in divisors))
            if width % share:
                values = " and ".join(f"{divisor}={getattr(self, divisor)}" for divisor in divisors)
                raise SettingError(
                    name,
                    f"{name}={width} is not a multiple of {values}: each head, and each token of a patch, takes an "
                    f"equal share; try {name}={max(1, round(width / share)) * share}",
                )

    def build(self) -> "Model":
        """Return a new model; see `ArchitectureConfig.build`."""
        from nanogpt.models.megabyte.model import Model

        return Model(self)

    @property
    def n_patches(self) -> int:
        """The patches of a full window: the start patch, and each complete patch of tokens."""
        return 1 + self.block_size // self.patch_size

    @property
    def global_transformer(self) -> TransformerConfig:
        """The shape of the transformer over patches."""
        return TransformerConfig(
            n_layer=self.n_layer,
            n_head=self.n_head,
            n_embd=self.n_embd,
            dropout=self.dropout,
            block_size=self.n_patches,
        )

    @property
    def local_transformer(self) -> TransformerConfig:
        """The shape of the transformer within a patch, with the head."""
        return TransformerConfig(
            n_layer=self.local_n_layer,
            n_head=self.local_n_head,
            n_embd=self.local_n_embd,
            dropout=self.dropout,
            block_size=self.patch_size,
            vocab_size=self.vocab_size,
        )

    def n_parameters(self) -> int:
        """Return (V + T)·D/P + D + L·(12·D² + 2·D) + D globally, D/P·C between, V·C + C + l·(12·C² + 2·C) + C locally.

        The terms are embeddings and positions, the start patch or start token, the blocks, and the last norm. The local
        embedding is the head too.
        """
        D, C, d = self.n_embd, self.local_n_embd, self.n_embd // self.patch_size
        across = (self.vocab_size + self.block_size) * d + D + self.n_layer * (12 * D * D + 2 * D) + D
        within = self.vocab_size * C + C + self.local_n_layer * (12 * C * C + 2 * C) + C
        return across + d * C + within

    def flops_per_token(self) -> int:
        """Return 6 for each weight that is multiplied, and 12·n·width for each block's attention over n positions.

        Counted as for GPT-2, for K = n_patches positions globally and K·P locally, in a full window of T tokens: both
        begin with the start patch, and the last patch is filled up.
        """
        D, C, d, K, P = self.n_embd, self.local_n_embd, self.n_embd // self.patch_size, self.n_patches, self.patch_size
        patch = self.n_layer * (6 * 12 * D * D + 12 * D * K)
        token = 6 * d * C + self.local_n_layer * (6 * 12 * C * C + 12 * C * P)
        return K * (patch + P * token) // self.block_size + 6 * self.vocab_size * C

    def activation_bytes(self, batch_size: int, dtype: str, device: str) -> int:
        """Return an estimate in bytes: that of both transformers, see `costs.activation_bytes`."""
        across = self.global_transformer.activation_bytes(batch_size, dtype, device)
        return across + self.local_transformer.activation_bytes(batch_size * self.n_patches, dtype, device)
