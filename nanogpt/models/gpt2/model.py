"""GPT-2 as published (Radford et al. 2019): learned positions, pre-norm, tanh-GELU, tied head. Reads top to bottom.

In the shapes: B batch, T positions, C = n_embd, nh = n_head, hs = C / nh the head size, V = vocab_size, S = positions
including those in the cache.
"""

import math
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanogpt.models.base import Cache, DecodeStep, LanguageModel, MakeLinear, Output, ParameterGroup, TrainingBackend
from nanogpt.models.layers.attention import causal_attention
from nanogpt.models.layers.cross_entropy import cross_entropy
from nanogpt.models.layers.dropout import Dropout
from nanogpt.models.layers.gelu import gelu
from nanogpt.models.layers.key_value_cache import KeyValueCache

if TYPE_CHECKING:
    from nanogpt.models.flat_parameters import FlatParameters
    from nanogpt.models.gpt2.config import Config


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a position attends to itself and earlier ones. Maps x (B, T, C) to the same."""

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=config.bias)
        self.resid_dropout = Dropout(config.dropout)
        self.n_head = config.n_head
        self.dropout = config.dropout

    def forward(self, x: Tensor, cache: KeyValueCache | None = None, layer: int = 0) -> Tensor:
        """Return (B, T, C). With a cache, x continues its positions, and k and v are appended to its `layer`."""
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
        else:  # new position i attends to past + i + 1 positions
            mask = torch.ones(T, past + T, dtype=torch.bool, device=x.device).tril(past) if T > 1 else None
            y = F.scaled_dot_product_attention(q, k, v, mask)  # (B, nh, T, hs)
        y = y.transpose(1, 2).reshape(B, T, C)  # (B, T, C)
        return self.resid_dropout(self.c_proj(y))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two linear layers with a GELU between them, C to 4·C to C."""

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=config.bias)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=config.bias)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, C) for x (B, T, C)."""
        x = gelu(self.c_fc(x))  # (B, T, 4C)
        return self.dropout(self.c_proj(x))  # type: ignore[no-any-return]  # (B, T, C)


class Block(nn.Module):
    """Attention and MLP, each of which adds to the residual stream and reads it through a LayerNorm."""

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.mlp = MLP(config)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None, layer: int = 0) -> Tensor:
        """Return (B, T, C) for x (B, T, C); for the cache see `CausalSelfAttention.forward`."""
        x = x + self.attn(self.ln_1(x), cache, layer)
        return x + self.mlp(self.ln_2(x))  # type: ignore[no-any-return]


class Model(LanguageModel):
    """GPT-2."""

    config: "Config"

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, bias=config.bias)
        self.init_weights()

    def init_weights(self) -> None:
        """Draw matrices from Normal(0, 0.02), divided by √(2·n_layer) if they project into the residual stream.

        That is the number of projections that add up there. Biases are zero, norms the identity.
        """
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                residual = name.endswith("c_proj.weight")
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * self.config.n_layer) if residual else 0.02)
            elif name.endswith("bias"):
                nn.init.zeros_(parameter)

    def hidden(self, ids: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Return the normalised output (B, T, C) of the last block for ids (B, T). Advances the cache."""
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
        """See `LanguageModel.forward`."""
        x = self.hidden(ids, None if cache is None else KeyValueCache.check(cache))
        if targets is None:
            return F.linear(x[:, -1:], self.wte.weight), None  # (B, 1, V)
        return None, cross_entropy(x, self.wte.weight, targets, smoothing=self.active_label_smoothing)

    def logits(self, ids: Tensor) -> Tensor:
        """Return the logits (B, T, V) of every position."""
        return F.linear(self.hidden(ids), self.wte.weight)  # (B, T, V)

    def new_cache(self, batch_size: int) -> KeyValueCache:
        """Return an empty cache for `batch_size` samples."""
        return KeyValueCache(self.config, batch_size, like=self.wte.weight)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return embeddings (the tied head among them), the matrices of the blocks, and all vectors."""
        matrices = [p for p in self.h.parameters() if p.dim() == 2]
        vectors = [p for p in self.parameters() if p.dim() == 1]
        return [
            ParameterGroup("embedding", [*self.wte.parameters(), *self.wpe.parameters()], decay=True),
            ParameterGroup("hidden", matrices, decay=True),
            ParameterGroup("vector", vectors, decay=False),
        ]

    def crop_block_size(self, block_size: int) -> None:
        """See `LanguageModel.crop_block_size`; the embeddings of later positions are dropped."""
        super().crop_block_size(block_size)
        self.wpe.weight = nn.Parameter(self.wpe.weight.detach()[:block_size].clone())
        self.wpe.num_embeddings = block_size

    def training_backend(
        self, device: str, dtype: torch.dtype, flat: "FlatParameters | None" = None
    ) -> TrainingBackend | None:
        """Return `CpuTraining` on a CPU in 16 bits."""
        if device != "cpu" or dtype == torch.float32:
            return None
        from nanogpt.models.gpt2.cpu_training import CpuTraining

        return CpuTraining(self, dtype, flat)

    def decoding_backend(self, cache: Cache, make_linear: MakeLinear | None = None) -> DecodeStep | None:
        """Return the step of `cpu_decoding`. Raise `TypeError` for another architecture's cache."""
        from nanogpt.models.gpt2.cpu_decoding import decode_step

        return decode_step(self, KeyValueCache.check(cache), make_linear)
