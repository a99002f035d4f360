"""Long short-term memory (Hochreiter and Schmidhuber 1997; forget gates: Gers et al. 2000; dropout between layers:
Zaremba et al. 2014). Equal to `torch.nn.LSTM`, whose second bias it does without.

In the shapes: B batch, T positions, C = n_embd, V = vocab_size.
"""

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn

from nanogpt.models import base
from nanogpt.models.base import DecodeStep, MakeLinear
from nanogpt.models.layers.dropout import Dropout
from nanogpt.models.layers.untied_head import UntiedHeadModel, new_head
from nanogpt.models.lstm.cells import run_cells

if TYPE_CHECKING:
    from nanogpt.models.lstm.config import Config


class Cache(base.Cache):
    """Hidden and cell state (B, C) of each layer after `length` positions, which is all that an LSTM remembers."""

    def __init__(self, n_layer: int, batch_size: int, like: Tensor) -> None:
        self.length = 0
        self.h = like.new_zeros(n_layer, batch_size, like.size(1))
        self.c = torch.zeros_like(self.h)

    def copy_from(self, single: Self) -> None:
        """Fill each of its samples with the content of `single`, the cache of one sample."""
        self.length = single.length
        self.h[:], self.c[:] = single.h, single.c


class Layer(nn.Module):
    """A layer of LSTM cells. Maps x (B, T, C) to the hidden states (B, T, C)."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.input = nn.Linear(size, 4 * size)
        self.recurrent = nn.Linear(size, 4 * size, bias=False)
        bound = size**-0.5
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -bound, bound)
        with torch.no_grad():
            self.input.bias[size : 2 * size] = 1.0  # a new cell remembers (Jozefowicz et al. 2015)

    def forward(self, x: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return the hidden states (B, T, C) for x, and the last hidden and cell state (B, C).

        h, c: (B, C), the states before x.
        """
        return run_cells(self.input(x), self.recurrent, h, c)


class Model(UntiedHeadModel):
    """Embedding, layers of LSTM cells, head."""

    config: "Config"

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.layers = nn.ModuleList(Layer(config.n_embd) for _ in range(config.n_layer))
        self.dropout = Dropout(config.dropout)
        self.head = new_head(config.n_embd, config.vocab_size)

    def hidden(self, ids: Tensor, cache: base.Cache | None = None) -> Tensor:
        """Return the hidden states (B, T, C) of the last layer for ids (B, T). Advances the cache."""
        state = self.new_cache(len(ids)) if cache is None else Cache.check(cache)
        if state.length + ids.size(1) > self.config.block_size:
            raise ValueError(f"{state.length} + {ids.size(1)} positions do not fit block_size={self.config.block_size}")
        x = self.dropout(self.wte(ids))  # (B, T, C)
        for number, layer in enumerate(self.layers):
            x, h, c = layer(x, state.h[number], state.c[number])
            x = self.dropout(x)
            if cache is not None:
                state.h[number], state.c[number] = h, c
        state.length += ids.size(1)
        return x  # type: ignore[no-any-return]

    def new_cache(self, batch_size: int) -> Cache:
        """Return the state before the first position for `batch_size` samples."""
        return Cache(self.config.n_layer, batch_size, like=self.wte.weight)

    def decoding_backend(self, cache: base.Cache, make_linear: MakeLinear | None = None) -> DecodeStep:
        """Return the step of `cpu_decoding.py`. Raise `TypeError` for another architecture's cache."""
        from nanogpt.models.lstm.cpu_decoding import decode_step

        return decode_step(self, Cache.check(cache), make_linear)
