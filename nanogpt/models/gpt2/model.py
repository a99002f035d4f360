"""GPT-2 as published (Radford et al. 2019): learned positions, pre-norm, tanh-GELU, tied head. Reads top to bottom.

In the shapes: B batch, T positions, C = n_embd, nh = n_head,
hs = C / nh the head size, V = vocab_size, S = positions seen so far, cache included.
"""

import math
from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanogpt.errors import SettingError
from nanogpt.models import base
from nanogpt.models.base import DecodeStep, LanguageModel, Linear, Output, ParameterGroup, TrainingBackend
from nanogpt.models.layers.attention import causal_attention
from nanogpt.models.layers.cross_entropy import cross_entropy
from nanogpt.models.layers.dropout import Dropout
from nanogpt.models.layers.gelu import gelu

if TYPE_CHECKING:
    from nanogpt.models.flat_parameters import FlatParameters
    from nanogpt.models.gpt2.config import Config


class Cache(base.Cache):
    """Keys and values of the positions seen so far; `length` of the block_size places are filled in."""

    def __init__(self, config: "Config", batch_size: int, like: Tensor) -> None:
        shape = (config.n_layer, 2, batch_size, config.n_head, config.block_size, config.n_embd // config.n_head)
        self.keys_values = like.new_empty(shape)  # (n_layer, 2, B, nh, block_size, hs)
        self.length = 0

    def extend(self, layer: int, k: Tensor, v: Tensor) -> tuple[Tensor, Tensor]:
        """Stores k, v (B, nh, T, hs) behind what is there and returns all: two (B, nh, S, hs)."""
        end = self.length + k.size(2)
        stored = self.keys_values[layer]
        stored[0, :, :, self.length : end] = k
        stored[1, :, :, self.length : end] = v
        return stored[0, :, :, :end], stored[1, :, :, :end]

    def copy_from(self, one: "Cache") -> None:
        """Takes over for each of its samples what `one` of a single sample holds."""
        self.length = one.length
        self.keys_values[:, :, :, :, : self.length] = one.keys_values[:, :, :, :, : self.length]


class CausalSelfAttention(nn.Module):
    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = Dropout(config.dropout)
        self.n_head = config.n_head
        self.dropout = config.dropout

    def forward(self, x: Tensor, cache: Cache | None = None, layer: int = 0) -> Tensor:
        B, T, C = x.shape
        q, k, v = self.c_attn(x).split(C, dim=2)  # 3 × (B, T, C)
        q = q.view(B, T, self.n_head, -1).transpose(1, 2)  # (B, nh, T, hs)
        k = k.view(B, T, self.n_head, -1).transpose(1, 2)  # (B, nh, T, hs)
        v = v.view(B, T, self.n_head, -1).transpose(1, 2)  # (B, nh, T, hs)
        past = 0 if cache is None else cache.length
        if cache is not None:
            k, v = cache.extend(layer, k, v)  # (B, nh, S, hs)
        if not past:
            y = causal_attention(q, k, v, self.dropout if self.training else 0.0)  # (B, nh, T, hs)
        else:  # position i of the new ones sees past + i + 1 positions
            mask = torch.ones(T, past + T, dtype=torch.bool, device=x.device).tril(past) if T > 1 else None
            y = F.scaled_dot_product_attention(q, k, v, mask)  # (B, nh, T, hs)
        y = y.transpose(1, 2).reshape(B, T, C)  # (B, T, C)
        return self.resid_dropout(self.c_proj(y))  # type: ignore[no-any-return]


class MLP(nn.Module):
    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        x = gelu(self.c_fc(x))  # (B, T, 4C)
        return self.dropout(self.c_proj(x))  # type: ignore[no-any-return]  # (B, T, C)


class Block(nn.Module):
    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cache: Cache | None = None, layer: int = 0) -> Tensor:
        x = x + self.attn(self.ln_1(x), cache, layer)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class Model(LanguageModel):
    config: "Config"

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.initialise()

    def initialise(self) -> None:
        """Normal(0, 0.02); projections into the residual stream less by √(2·n_layer), as many add up there."""
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                residual = name.endswith("c_proj.weight")
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.config.n_layer) if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def hidden(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """The last block's normalised output for ids (B, T): (B, T, C). Advances the cache."""
        T, past = ids.size(1), cache.length if cache is not None else 0
        if past + T > self.config.block_size:
            raise ValueError(f"{past} + {T} positions do not fit block_size={self.config.block_size}")
        positions = torch.arange(past, past + T, device=ids.device)  # (T)
        x = self.drop(self.wte(ids) + self.wpe(positions))  # (B, T, C)
        for layer, block in enumerate(self.h):
            x = block(x, cache, layer)
        if cache is not None:
            cache.length += T
        return self.ln_f(x)  # type: ignore[no-any-return]

    def forward(self, ids: Tensor, targets: Tensor | None = None, cache: Cache | None = None) -> Output:
        x = self.hidden(ids, cache)
        if targets is None:
            return F.linear(x[:, -1:], self.wte.weight), None  # (B, 1, V)
        return None, cross_entropy(x, self.wte.weight, targets)

    def logits(self, ids: Tensor) -> Tensor:
        return F.linear(self.hidden(ids), self.wte.weight)  # (B, T, V)

    def new_cache(self, batch_size: int) -> Cache:
        return Cache(self.config, batch_size, like=self.wte.weight)

    def parameter_groups(self) -> list[ParameterGroup]:
        matrices = [p for p in self.h.parameters() if p.dim() == 2]
        vectors = [p for p in self.parameters() if p.dim() == 1]
        return [
            ParameterGroup("embedding", [*self.wte.parameters(), *self.wpe.parameters()], decay=True),
            ParameterGroup("hidden", matrices, decay=True),
            ParameterGroup("vector", vectors, decay=False),
        ]

    def crop_block_size(self, block_size: int) -> None:
        """Keep the first `block_size` positions. Raise `SettingError` where there are fewer."""
        if block_size > self.config.block_size:
            raise SettingError(
                "block_size",
                f"block_size={block_size}: these weights have only {self.config.block_size} positions",
            )
        self.config = replace(self.config, block_size=block_size)
        self.wpe.weight = nn.Parameter(self.wpe.weight.detach()[:block_size].clone())
        self.wpe.num_embeddings = block_size

    def training_backend(
        self, device: str, dtype: torch.dtype, flat: "FlatParameters | None" = None
    ) -> TrainingBackend | None:
        if device != "cpu" or dtype == torch.float32:
            return None
        from nanogpt.models.gpt2.cpu_training import CpuTraining

        return CpuTraining(self, dtype, flat)

    def decoding_backend(self, cache: Cache, linear: Linear | None = None) -> DecodeStep | None:
        from nanogpt.models.gpt2.cpu_decoding import decode_step

        return decode_step(self, cache, linear)
