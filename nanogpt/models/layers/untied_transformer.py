"""A transformer with an untied head: forward pass and cache of architectures that differ in embeddings and blocks.

In the shapes: B batch, T positions, C = n_embd.
"""

from abc import abstractmethod
from collections.abc import Iterable
from typing import Any, cast

from torch import Tensor, nn

from nanogpt.models.base import Cache, DecodeStep, MakeLinear
from nanogpt.models.layers.attention import attention_mask
from nanogpt.models.layers.key_value_cache import KeyValueCache
from nanogpt.models.layers.transformer_block import Block
from nanogpt.models.layers.transformer_config import TransformerConfig
from nanogpt.models.layers.untied_head import UntiedHeadModel


class UntiedTransformer(UntiedHeadModel):
    """Embeddings, blocks, a last norm, head. A subclass makes the parts and says what enters the first block."""

    config: TransformerConfig
    wte: nn.Embedding
    h: nn.ModuleList
    ln_f: nn.LayerNorm

    @abstractmethod
    def embed(self, ids: Tensor, past: int) -> Tensor:
        """Return what enters the first block (B, T, C) for ids (B, T) that follow `past` positions."""

    @abstractmethod
    def positions(self) -> tuple[Tensor, float]:
        """Return what `embed` adds for each position (block_size, C), and the factor of the token embeddings."""

    def hidden(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """Return the normalised output (B, T, C) of the last block for ids (B, T). Advances the cache.

        Raise `ValueError` for more positions than block_size.
        """
        key_values = None if cache is None else KeyValueCache.check(cache)
        T, past = ids.size(1), 0 if cache is None else cache.length
        if past + T > self.config.block_size:
            raise ValueError(f"{past} + {T} positions do not fit block_size={self.config.block_size}")
        x = self.embed(ids, past)  # (B, T, C)
        mask = attention_mask(past, T, x.device, starts=self.document_starts(ids, cache))
        for layer, block in enumerate(self.h):
            x = block(x, None, mask, key_values, layer)
        if cache is not None:
            cache.length += T
        return self.ln_f(x)  # type: ignore[no-any-return]

    def blocks(self) -> list[nn.Module]:
        """See `LanguageModel.blocks`."""
        return list(self.h)

    def readout(self, x: Tensor) -> Tensor:
        """See `LanguageModel.readout`."""
        return self.head(self.ln_f(x)).float()  # type: ignore[no-any-return]

    def new_cache(self, batch_size: int) -> KeyValueCache:
        """Return an empty cache for `batch_size` samples."""
        return KeyValueCache(self.config, batch_size, like=self.wte.weight)

    def decoding_backend(self, cache: Cache, make_linear: MakeLinear | None = None) -> DecodeStep:
        """Return the step of `cpu_decoding.py`. Raise `TypeError` for another architecture's cache."""
        from nanogpt.models.layers.cpu_decoding import Transformer, decode_step

        positions, scale = self.positions()
        parts = Transformer(
            wte=self.wte.weight,
            embedding_scale=scale,
            positions=positions,
            blocks=[(block, self.config.block_size) for block in cast("Iterable[Block[Any]]", self.h)],
            last_norm=self.ln_f,
            head=self.head.weight,
            head_bias=self.head.bias,
        )
        return decode_step(parts, KeyValueCache.check(cache), make_linear)
