"""WaveNet (van den Oord et al. 2016) over tokens in place of audio samples.

A causal convolution is followed by layers with dilation 1, 2, 4, …: so few layers see far back. Each layer multiplies
a tanh filter with a sigmoid gate (equation 2 of the paper), adds one projection of the product to its input (residual)
and another to the sum that the head reads (skip). The residual stream after the last layer is added to that sum too:
otherwise the last residual projection would do nothing.

In the shapes: B batch, T positions, C = n_embd, V = vocab_size, k = kernel_size.
"""

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanogpt.models import base
from nanogpt.models.layers.dropout import Dropout
from nanogpt.models.layers.untied_head import UntiedHeadModel, new_head

if TYPE_CHECKING:
    from nanogpt.models.wavenet.config import Config


class Cache(base.Cache):
    """The last inputs (B, reach, C) of each convolution: a step costs the same at every position."""

    def __init__(self, model: "Model", batch_size: int) -> None:
        weight = model.wte.weight
        self.length = 0
        self.recent = [weight.new_zeros(batch_size, each.reach, weight.size(1)) for each in model.convolutions()]

    def copy_from(self, single: Self) -> None:
        """Fill each of its samples with the content of `single`, the cache of one sample."""
        self.length = single.length
        for recent, one in zip(self.recent, single.recent, strict=True):
            recent[:] = one


class CausalConvolution(nn.Module):
    """A convolution over a position and the k - 1 positions before it that are `dilation` apart.

    It is one matrix product over those k positions, side by side, the earliest first. Zeros precede the first position.
    What is further back than a window is long is always zero: it is neither padded nor kept in the cache.
    """

    def __init__(self, size: int, out: int, kernel_size: int, dilation: int, block_size: int) -> None:
        super().__init__()
        self.linear = nn.Linear(kernel_size * size, out)
        self.distances = [tap * dilation for tap in reversed(range(kernel_size))]
        self.reach = min(self.distances[0], block_size - 1)

    def forward(self, x: Tensor, recent: Tensor | None = None) -> Tensor:
        """Return (B, T, out) for x (B, T, C). recent: (B, reach, C), the positions before x, which is updated."""
        T, reach = x.size(1), self.reach
        if recent is None:
            padded = F.pad(x, (0, 0, reach, 0))  # (B, reach + T, C)
        else:
            padded = torch.cat((recent.to(x.dtype), x), dim=1)
            recent.copy_(padded[:, T:])
        taps = [
            padded[:, reach - distance : reach - distance + T] if distance <= reach else torch.zeros_like(x)
            for distance in self.distances
        ]
        return self.linear(torch.cat(taps, dim=2))  # type: ignore[no-any-return]


class Layer(nn.Module):
    """A gated convolution with a residual and a skip output."""

    def __init__(self, config: "Config", dilation: int) -> None:
        super().__init__()
        C = config.n_embd
        self.filter_gate = CausalConvolution(C, 2 * C, config.kernel_size, dilation, config.block_size)
        self.residual = nn.Linear(C, C)
        self.skip = nn.Linear(C, C)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, recent: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Return the residual stream and what is added to the skip sum, both (B, T, C), for x (B, T, C)."""
        filtered, gate = self.filter_gate(x, recent).chunk(2, dim=2)
        z = self.dropout(torch.tanh(filtered) * torch.sigmoid(gate))
        return x + self.residual(z), self.skip(z)


class Model(UntiedHeadModel):
    """Embedding, a causal convolution, dilated layers, and a head over the sum of their skip outputs."""

    config: "Config"

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.first = CausalConvolution(config.n_embd, config.n_embd, config.kernel_size, 1, config.block_size)
        self.layers = nn.ModuleList(Layer(config, 2**number) for number in range(config.n_layer))
        self.head = new_head(config.n_embd, config.vocab_size)

    def convolutions(self) -> list[CausalConvolution]:
        """Return all convolutions, in the order in which they are applied."""
        return [module for module in self.modules() if isinstance(module, CausalConvolution)]

    def hidden(self, ids: Tensor, cache: base.Cache | None = None) -> Tensor:
        """Return ReLU of the sum (B, T, C) of the skip outputs and the residual stream. Advances the cache."""
        T, state = ids.size(1), None if cache is None else Cache.check(cache)
        past = 0 if state is None else state.length
        if past + T > self.config.block_size:
            raise ValueError(f"{past} + {T} positions do not fit block_size={self.config.block_size}")
        recent = [None] * (1 + self.config.n_layer) if state is None else state.recent
        x = self.first(self.wte(ids), recent[0])  # (B, T, C)
        skips = torch.zeros_like(x)
        for layer, before in zip(self.layers, recent[1:], strict=True):
            x, skip = layer(x, before)
            skips = skips + skip
        if state is not None:
            state.length += T
        return F.relu(skips + x)

    def new_cache(self, batch_size: int) -> Cache:
        """Return an empty cache for `batch_size` samples."""
        return Cache(self, batch_size)
