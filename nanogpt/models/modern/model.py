"""A small GPT as one would build it now: learns in a tenth of the tokens that GPT-2's block needs. Reads top to bottom.

What differs from GPT-2, each from a published finding:
- rotary positions (RoPE, Su et al. 2021) in place of learned ones; queries and keys normalised (Henry et al. 2020)
- norms without weights (Groeneveld et al. 2024), ReLU² in the MLP (So et al. 2021), no biases
- a short causal convolution before attention and MLP shows each position the three before it (So et al. 2021;
  Allen-Zhu 2025), and embeddings of the last two, three, … `ngram` tokens together are added to that of the last one
- each block mixes the first embedding back in; projections into the residual stream and the head start at zero; the
  head has weights of its own, and its logits are softly capped (Jordan et al. 2024, the NanoGPT speedrun)

In the shapes: B batch, T positions, C = n_embd, nh = n_head,
hs = C / nh the head size, V = vocab_size, S = positions seen so far, cache included.
"""

from dataclasses import replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanogpt.errors import SettingError
from nanogpt.models import base
from nanogpt.models.base import LanguageModel, Output, ParameterGroup
from nanogpt.models.layers.attention import causal_attention
from nanogpt.models.layers.cross_entropy import capped, cross_entropy
from nanogpt.models.layers.dropout import Dropout

if TYPE_CHECKING:
    from nanogpt.models.modern.config import Config

SPREAD = 1_000_003  # odd, so that every token of several has a say in the row that they come to
CAP = 15.0  # logits stay within ±CAP


class Cache(base.Cache):
    """What generation remembers of the positions seen so far; `length` of the block_size places are filled in."""

    def __init__(self, config: "Config", batch_size: int, like: Tensor) -> None:
        shape = (config.n_layer, 2, batch_size, config.n_head, config.block_size, config.n_embd // config.n_head)
        self.keys_values = like.new_zeros(shape)  # (n_layer, 2, B, nh, block_size, hs)
        self.recent = like.new_zeros(config.n_layer, 2, batch_size, config.look_back, config.n_embd)
        self.last_ids: Tensor | None = None  # (B, ngram - 1)
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
        self.recent[:] = one.recent
        self.last_ids = None if one.last_ids is None else one.last_ids.repeat(self.keys_values.size(2), 1)


def norm(x: Tensor) -> Tensor:
    return F.layer_norm(x, (x.size(-1),))


class ShortConvolution(nn.Module):
    """Adds to each position a weighted sum of the three before it, channel by channel; weights start at zero."""

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.look_back = config.look_back
        self.weight = nn.Parameter(torch.zeros(config.look_back, 1, config.n_embd))

    def forward(self, x: Tensor, recent: Tensor | None = None) -> Tensor:
        """x: (B, T, C). recent (B, look_back, C): the positions before x; nothing there is zeros. It is brought up
        to date."""
        look_back = self.look_back
        before = x.new_zeros(x.size(0), look_back, x.size(2)) if recent is None else recent
        seen = torch.cat((before.to(x.dtype), x), dim=1)  # (B, look_back + T, C)
        if recent is not None:
            recent.copy_(seen[:, -look_back:])
        weight = self.weight.to(x.dtype)
        for back in range(1, look_back + 1):
            x = x + seen[:, look_back - back : seen.size(1) - back] * weight[back - 1]
        return x


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """RoPE: turns each pair of numbers of x (B, T, …, hs) by an angle that grows with the position."""
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


class CausalSelfAttention(nn.Module):
    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.n_head = config.n_head

    def forward(self, x: Tensor, turns: tuple[Tensor, Tensor], cache: Cache | None = None, layer: int = 0) -> Tensor:
        B, T, C = x.shape
        qkv = self.c_attn(x).view(B, T, 3, self.n_head, -1)  # (B, T, 3, nh, hs)
        qk, v = rotate(norm(qkv[:, :, :2]), *turns).to(qkv.dtype), qkv[:, :, 2]
        q, k, v = qk[:, :, 0].transpose(1, 2), qk[:, :, 1].transpose(1, 2), v.transpose(1, 2)  # 3 × (B, nh, T, hs)
        if cache is None:
            y = causal_attention(q, k, v)  # (B, nh, T, hs)
        else:
            past, mask = cache.length, None
            k, v = cache.extend(layer, k, v)  # (B, nh, S, hs)
            if past and T > 1:  # position i of the new ones sees past + i + 1 positions
                mask = torch.ones(T, past + T, dtype=torch.bool, device=x.device).tril(past)
            y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=not past and T > 1)
        return self.c_proj(y.transpose(1, 2).reshape(B, T, C))  # type: ignore[no-any-return]


class MLP(nn.Module):
    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return self.c_proj(F.relu(self.c_fc(x)).square())  # type: ignore[no-any-return]


class Block(nn.Module):
    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.tensor([1.0, 0.0]))
        self.conv_1 = ShortConvolution(config)
        self.attn = CausalSelfAttention(config)
        self.conv_2 = ShortConvolution(config)
        self.mlp = MLP(config)
        self.dropout = Dropout(config.dropout)

    def forward(
        self, x: Tensor, first: Tensor, turns: tuple[Tensor, Tensor], cache: Cache | None = None, layer: int = 0
    ) -> Tensor:
        recent = (None, None) if cache is None else cache.recent[layer]
        x = self.mix[0] * x + self.mix[1] * first
        x = x + self.dropout(self.attn(self.conv_1(norm(x), recent[0]), turns, cache, layer))
        return x + self.dropout(self.mlp(self.conv_2(norm(x), recent[1])))  # type: ignore[no-any-return]


class Model(LanguageModel):
    config: "Config"

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.grams = nn.ModuleList(nn.Embedding(config.rows(n), config.n_embd) for n in range(2, config.ngram + 1))
        self.drop = Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.initialise()

    def initialise(self) -> None:
        """Zero for all that adds to the residual stream and for the head: a fresh model gives every token alike."""
        nn.init.normal_(self.wte.weight)
        nn.init.zeros_(self.head.weight)
        for gram in self.grams:
            nn.init.zeros_(gram.weight)  # type: ignore[arg-type]
        bound = self.config.n_embd**-0.5
        for name, parameter in self.h.named_parameters():
            if name.endswith("c_proj.weight"):
                nn.init.zeros_(parameter)
            elif name.endswith(("c_attn.weight", "c_fc.weight")):
                nn.init.uniform_(parameter, -bound, bound)

    def turns(self, past: int, T: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Cosine and sine of the angles of RoPE at positions past … past + T - 1: two (T, 1, 1, hs / 2)."""
        half = self.config.n_embd // self.config.n_head // 2
        speeds = 1024.0 ** -torch.linspace(0, 1, half + 1, device=like.device)[:-1]
        angles = torch.arange(past, past + T, device=like.device)[:, None, None, None] * speeds
        return angles.cos().to(like.dtype), angles.sin().to(like.dtype)

    def hidden(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """The last block's normalised output for ids (B, T): (B, T, C). Advances the cache."""
        T, past = ids.size(1), cache.length if cache is not None else 0
        if past + T > self.config.block_size:
            raise ValueError(f"{past} + {T} positions do not fit block_size={self.config.block_size}")
        x = first = self.drop(norm(self.embedded(ids, cache)))  # (B, T, C)
        turns = self.turns(past, T, x)
        for layer, block in enumerate(self.h):
            x = block(x, first, turns, cache, layer)
        if cache is not None:
            cache.length += T
        return norm(x)

    def embedded(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """What is known of each token from itself and the `ngram` - 1 before it: (B, T, C). At the window's start its
        first token stands for those before it."""
        before, T = self.config.ngram - 1, ids.size(1)
        last = cache.last_ids if cache is not None else None
        seen = torch.cat((ids[:, :1].expand(-1, before) if last is None else last, ids), dim=1)  # (B, before + T)
        if cache is not None:
            cache.last_ids = seen[:, seen.size(1) - before :]
        x = self.wte(ids)  # (B, T, C)
        for n, gram in enumerate(self.grams, 2):
            step = self.config.vocab_size if self.config.vocab_size**n == gram.num_embeddings else SPREAD
            row = sum(seen[:, before - back : before - back + T] * step**back for back in range(n))  # (B, T)
            x = x + gram(row % gram.num_embeddings)
        return x  # type: ignore[no-any-return]

    def capped(self, x: Tensor) -> Tensor:
        return capped(self.head(x).float(), CAP)  # (B, T, V)

    def forward(self, ids: Tensor, targets: Tensor | None = None, cache: Cache | None = None) -> Output:
        x = self.hidden(ids, cache)
        if targets is None:
            return self.capped(x[:, -1:]), None  # (B, 1, V)
        return None, cross_entropy(x, self.head.weight, targets, CAP)

    def logits(self, ids: Tensor) -> Tensor:
        return self.capped(self.hidden(ids))  # (B, T, V)

    def new_cache(self, batch_size: int) -> Cache:
        return Cache(self.config, batch_size, like=self.wte.weight)

    def parameter_groups(self) -> list[ParameterGroup]:
        matrices = [p for p in self.h.parameters() if p.dim() == 2]
        convolutions = [p for p in self.h.parameters() if p.dim() == 3]
        mixes = [p for p in self.h.parameters() if p.dim() == 1]
        return [
            ParameterGroup("embedding", [*self.wte.parameters(), *self.grams.parameters()], decay=True),
            ParameterGroup("hidden", matrices, decay=True),
            ParameterGroup("vector", convolutions, decay=True),
            ParameterGroup("vector", mixes, decay=False),
            ParameterGroup("head", [*self.head.parameters()], decay=True),
        ]

    def crop_block_size(self, block_size: int) -> None:
        """Shortens the window; nothing else depends on it. Raises `SettingError` where it would be longer."""
        if block_size > self.config.block_size:
            raise SettingError(
                "block_size",
                f"block_size={block_size}: these weights have only {self.config.block_size} positions",
            )
        self.config = replace(self.config, block_size=block_size)
