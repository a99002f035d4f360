"""The cache of keys and values with which a transformer decodes."""

from typing import Self

from torch import Tensor

from nanogpt.models.base import Cache
from nanogpt.models.layers.transformer_config import TransformerConfig


class KeyValueCache(Cache):
    """Keys and values of all layers for B samples, with `length` of block_size positions filled in.

    keys_values: (n_layer, 2, B, nh, block_size, hs), hs = n_embd / n_head, in the dtype and on the device of `like`.
    nh: `n_head`, the number of heads of keys and values; None for the number of all heads.
    """

    def __init__(self, config: TransformerConfig, batch_size: int, like: Tensor, n_head: int | None = None) -> None:
        heads, size = n_head or config.n_head, config.n_embd // config.n_head
        shape = (config.n_layer, 2, batch_size, heads, config.block_size, size)
        self.keys_values = like.new_empty(shape)
        self.length = 0

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Append k, v (B, nh, T, hs) to a layer and return all of its keys and values: two (B, nh, S, hs).

        `length` stays: the model advances it after its last layer.
        """
        end = self.length + k.size(2)
        stored = self.keys_values[layer]
        stored[0, :, :, self.length : end] = k
        stored[1, :, :, self.length : end] = v
        return stored[0, :, :, :end], stored[1, :, :, :end]

    def copy_from(self, single: Self) -> None:
        """Fill each of its samples with the content of `single`, the cache of one sample."""
        self.length = single.length
        self.keys_values[:, :, :, :, : self.length] = single.keys_values[:, :, :, :, : self.length]
