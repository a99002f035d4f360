"""The settings that all transformers have. Imports no torch."""

import math
from dataclasses import dataclass
from typing import ClassVar

from nanogpt.config.components import ArchitectureConfig
from nanogpt.config.setting import setting
from nanogpt.errors import SettingError
from nanogpt.models.layers import costs


@dataclass(frozen=True, slots=True, kw_only=True)
class TransformerConfig(ArchitectureConfig):
    """`n_layer` blocks of attention and MLP along a residual stream that is `n_embd` wide."""

    chunked_head: ClassVar[bool] = True  # its loss is that of `layers/cross_entropy.py`

    n_layer: int = setting(4, "number of transformer blocks", low=1, high=1000, common=True)
    n_head: int = setting(4, "attention heads in each block", low=1, high=1000, common=True)
    n_embd: int = setting(128, "width of the residual stream; a multiple of n_head", low=1, high=1_000_000, common=True)
    dropout: float = setting(
        0.0, "fraction of activations zeroed while training", low=0, below=1, common=True, weights=False
    )

    def validate(self) -> None:
        """Raise `SettingError` if the heads do not have equal shares of the width."""
        if self.n_embd % self.n_head:
            raise SettingError(
                "n_embd",
                f"n_embd={self.n_embd} is not divisible by n_head={self.n_head}: each head takes an equal share; "
                f"try n_embd={max(1, round(self.n_embd / self.n_head)) * self.n_head}",
            )

    def validate_rotary(self) -> None:
        """Raise `SettingError` for head sizes that rotary positions cannot use."""
        head = self.n_embd // self.n_head
        if head % 2:
            raise SettingError(
                "n_head",
                f"n_embd={self.n_embd} and n_head={self.n_head} make heads of size {head}: rotary positions rotate "
                "pairs, so the size has to be even",
            )

    @property
    def width(self) -> int:
        """The size of a hidden state."""
        return self.n_embd

    @property
    def mlp_numbers(self) -> int:
        """The numbers that an MLP keeps for each token: its hidden state before and after the activation."""
        return 8 * self.n_embd

    def activation_bytes(self, batch_size: int, dtype: str, device: str) -> int:
        """Return an estimate in bytes; see `costs.activation_bytes`."""
        return costs.activation_bytes(
            n_layer=self.n_layer,
            n_head=self.n_head,
            n_embd=self.n_embd,
            mlp_numbers=self.mlp_numbers,
            vocab_size=self.vocab_size,
            block_size=self.block_size,
            batch_size=batch_size,
            chunked_head=self.chunked_head,
            dropout=self.dropout,
            dtype=dtype,
            device=device,
        )

    def compile_estimate(self, dtype: str) -> tuple[float, float]:
        """Return the nanoseconds saved for each token and the seconds of compiling; see `costs.compile_estimate`."""
        return costs.compile_estimate(
            n_layer=self.n_layer, n_embd=self.n_embd, vocab_size=self.vocab_size, dropout=self.dropout, dtype=dtype
        )


def default_mlp_width(n_embd: int, activation: str) -> int:
    """Return the usual width of an MLP's hidden state: 4·n_embd.

    For "swiglu" it is 8/3·n_embd, rounded up to a multiple of 8: its three matrices then have the size of the other
    activations' two (Shazeer 2020).
    """
    return 8 * math.ceil(n_embd / 3) if activation == "swiglu" else 4 * n_embd
