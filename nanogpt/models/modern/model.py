"""A small GPT of today's design, which learns from a tenth of the tokens that GPT-2 needs. Reads top to bottom.

It differs from GPT-2 in these points, each a published finding:
- rotary positions (RoPE, Su et al. 2021) in place of learned ones; queries and keys normalised (Henry et al. 2020)
- norms without weights (Groeneveld et al. 2024), ReLU² in the MLP (So et al. 2021), no biases
- a short causal convolution before attention and MLP mixes in the three previous positions (So et al. 2021; Allen-Zhu
  2025), and embeddings of the last 2, 3, … `ngram` tokens are added to the embedding of the last token
- each block mixes the first embedding back in; projections into the residual stream and the head start at zero; the
  head is not tied, and its logits are softly capped (Jordan et al. 2024, the NanoGPT speedrun)
- for small texts that are read many times: tokens replaced by random ones, n-grams left out, and stochastic depth
  (Huang et al. 2016), only in training; temperature scaling (Guo et al. 2017), only outside it, because a network that
  knows its text by heart is too sure of other texts

In the shapes: B batch, T positions, C = n_embd, nh = n_head, hs = C / nh the head size, V = vocab_size, S = positions
including those in the cache.
"""

from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanogpt.models import base
from nanogpt.models.base import DecodeStep, LanguageModel, MakeLinear, Output, ParameterGroup
from nanogpt.models.layers import cpu_gradients
from nanogpt.models.layers.activations import relu_squared
from nanogpt.models.layers.attention import attention_mask, causal_attention
from nanogpt.models.layers.cross_entropy import cross_entropy, softcap
from nanogpt.models.layers.dropout import Dropout, RowDropout
from nanogpt.models.layers.key_value_cache import KeyValueCache
from nanogpt.models.layers.norms import norm
from nanogpt.models.layers.positions import apply_rotary, rotary_angles

if TYPE_CHECKING:
    from nanogpt.models.modern.config import Config


class Cache(KeyValueCache):
    """Keys and values, and what the short convolutions and the n-grams need of the last positions.

    recent: (n_layer, 2, B, look_back, C), the last inputs of the convolutions before attention and before the MLP.
    last_ids: (B, ngram - 1), None before the first position.
    """

    def __init__(self, config: "Config", batch_size: int, like: Tensor) -> None:
        super().__init__(config, batch_size, like)
        self.recent = like.new_zeros(config.n_layer, 2, batch_size, config.look_back, config.n_embd)
        self.last_ids: Tensor | None = None

    def copy_from(self, single: Self) -> None:
        """Fill each of its samples with the content of `single`, the cache of one sample."""
        super().copy_from(single)
        self.recent[:] = single.recent
        self.last_ids = None if single.last_ids is None else single.last_ids.repeat(self.keys_values.size(2), 1)


class ShortConvolution(nn.Module):
    """Adds to each position a weighted sum of the `look_back` positions before it, for each channel; starts at zero."""

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.look_back = config.look_back
        self.weight = nn.Parameter(torch.zeros(config.look_back, 1, config.n_embd))

    def forward(self, x: Tensor, recent: Tensor | None = None, starts: Tensor | None = None) -> Tensor:
        """Return (B, T, C) for x (B, T, C).

        recent: (B, look_back, C), the positions before x, which is updated; None for zeros. starts: from
        `document_starts`; positions before the document count as zeros.
        """
        look_back = self.look_back
        if recent is None and starts is None and cpu_gradients.applies(x):
            return cpu_gradients.CausalConvolution.apply(x, self.weight.to(x.dtype))  # type: ignore[no-any-return, no-untyped-call]
        before = x.new_zeros(x.size(0), look_back, x.size(2)) if recent is None else recent
        padded = torch.cat((before.to(x.dtype), x), dim=1)  # (B, look_back + T, C)
        if recent is not None:
            recent.copy_(padded[:, -look_back:])
        weight = self.weight.to(x.dtype)
        positions = torch.arange(x.size(1), device=x.device)
        for back in range(1, look_back + 1):
            earlier = padded[:, look_back - back : padded.size(1) - back] * weight[back - 1]
            x = x + (earlier if starts is None else earlier * (positions - back >= starts)[..., None])
        return x


class CausalSelfAttention(nn.Module):
    """Multi-head attention with rotary positions and normalised queries and keys. Maps x (B, T, C) to the same."""

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.n_head = config.n_head

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor],
        mask: Tensor | None = None,
        cache: Cache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """Return (B, T, C). With a cache, x continues its positions, and k and v are appended to its `layer`.

        mask: see `attention_mask`; only without a cache.
        """
        B, T, C = x.shape
        qkv = self.c_attn(x).view(B, T, 3, self.n_head, -1)  # (B, T, 3, nh, hs)
        qk, v = apply_rotary(norm(qkv[:, :, :2]), *rotary).to(qkv.dtype), qkv[:, :, 2]
        q, k, v = qk[:, :, 0].transpose(1, 2), qk[:, :, 1].transpose(1, 2), v.transpose(1, 2)  # 3 × (B, nh, T, hs)
        if cache is None:
            y = causal_attention(q, k, v, mask=mask)  # (B, nh, T, hs)
        else:
            past, mask = cache.length, None
            k, v = cache.extend(layer, k, v)  # (B, nh, S, hs)
            if past and T > 1:  # new position i attends to past + i + 1 positions
                mask = torch.ones(T, past + T, dtype=torch.bool, device=x.device).tril(past)
            y = F.scaled_dot_product_attention(q, k, v, mask, is_causal=not past and T > 1)
        return self.c_proj(y.transpose(1, 2).reshape(B, T, C))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two linear layers with ReLU² between them, C to 4·C to C."""

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, C) for x (B, T, C)."""
        return self.c_proj(relu_squared(self.c_fc(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Mixes in the first embedding, then adds attention and MLP to the residual stream."""

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.mix = nn.Parameter(torch.tensor([1.0, 0.0]))
        self.conv_1 = ShortConvolution(config)
        self.attn = CausalSelfAttention(config)
        self.conv_2 = ShortConvolution(config)
        self.mlp = MLP(config)
        self.dropout = Dropout(config.dropout)
        self.depth_dropout = RowDropout(config.stochastic_depth, dims=1, scaled=True)

    def forward(
        self,
        x: Tensor,
        first: Tensor,
        rotary: tuple[Tensor, Tensor],
        starts: Tensor | None = None,
        mask: Tensor | None = None,
        cache: Cache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """Return (B, T, C) for x and the first embedding, both (B, T, C). starts, mask: of the documents."""
        recent = (None, None) if cache is None else cache.recent[layer]
        x = self.mix[0] * x + self.mix[1] * first
        attended = self.attn(self.conv_1(norm(x), recent[0], starts), rotary, mask, cache, layer)
        x = x + self.depth_dropout(self.dropout(attended))
        return x + self.depth_dropout(self.dropout(self.mlp(self.conv_2(norm(x), recent[1], starts))))  # type: ignore[no-any-return]


class Model(LanguageModel):
    """The modern GPT."""

    config: "Config"

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        self.grams = nn.ModuleList(
            nn.Embedding(config.ngram_rows(n), config.n_embd) for n in range(2, config.ngram + 1)
        )
        self.drop = Dropout(config.dropout)
        # not scaled: what follows is a norm
        self.ngram_dropout = RowDropout(config.ngram_dropout, dims=2, scaled=False)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        self.init_weights()

    def init_weights(self) -> None:
        """Set the head and all that adds to the residual stream to zero, so that every token is equally likely."""
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

    def rotary_angles(self, past: int, T: int, like: Tensor) -> tuple[Tensor, Tensor]:
        """Return cosine and sine of RoPE's angles at positions past … past + T - 1: two (T, 1, 1, hs / 2)."""
        cos, sin = rotary_angles(past, T, self.config.n_embd // self.config.n_head, self.config.rotary_base, like)
        return cos[:, None, None], sin[:, None, None]

    def hidden(self, ids: Tensor, cache: Cache | None = None) -> Tensor:
        """Return the input (B, T, C) of the head for ids (B, T). Advances the cache."""
        T, past = ids.size(1), cache.length if cache is not None else 0
        if past + T > self.config.block_size:
            raise ValueError(f"{past} + {T} positions do not fit block_size={self.config.block_size}")
        starts = self.document_starts(ids, cache)
        ids = self.with_random_tokens(ids)
        x = first = self.drop(norm(self.embed(ids, cache, starts)))  # (B, T, C)
        rotary = self.rotary_angles(past, T, x)
        mask = None if starts is None else attention_mask(0, T, x.device, starts=starts)
        for layer, block in enumerate(self.h):
            x = block(x, first, rotary, starts, mask, cache, layer)
        if cache is not None:
            cache.length += T
        return self.head_input(x)

    def with_random_tokens(self, ids: Tensor) -> Tensor:
        """Return ids (B, T), in training mode some of them replaced by random ones."""
        share = self.config.token_replacement
        if not (self.training and share):
            return ids
        random = torch.randint_like(ids, self.config.vocab_size)
        return torch.where(torch.rand(ids.shape, device=ids.device) < share, random, ids)

    def embed(self, ids: Tensor, cache: Cache | None = None, starts: Tensor | None = None) -> Tensor:
        """Return the sum (B, T, C) of the embeddings of each token and of the n-grams that end with it.

        Before the start of the window, or of the document with `starts`, its first token is repeated. Updates the
        cache's `last_ids`.
        """
        before, T = self.config.ngram - 1, ids.size(1)
        last = cache.last_ids if cache is not None else None
        context = torch.cat((ids[:, :1].expand(-1, before) if last is None else last, ids), dim=1)  # (B, before + T)
        if cache is not None:
            cache.last_ids = context[:, context.size(1) - before :]
        earlier = [context[:, before - back : before - back + T] for back in range(before + 1)]  # (B, T) each
        if starts is not None:
            positions = torch.arange(T, device=ids.device)
            earlier = [ids.gather(1, torch.maximum(positions - back, starts)) for back in range(before + 1)]
        x = self.wte(ids)  # (B, T, C)
        for n, gram in enumerate(self.grams, 2):
            is_exact = self.config.vocab_size**n == gram.num_embeddings  # a row for every n-gram
            multiplier = self.config.vocab_size if is_exact else self.config.hash_multiplier
            row = sum(earlier[back] * multiplier**back for back in range(n))  # (B, T)
            x = x + self.ngram_dropout(gram(row % gram.num_embeddings))
        return x  # type: ignore[no-any-return]

    def head_input(self, x: Tensor) -> Tensor:
        """Return the normalised output (B, T, C) of a block, divided by the temperature unless in training mode."""
        temperature = 1.0 if self.training else self.config.temperature_scaling
        return norm(x) if temperature == 1 else norm(x) / temperature

    def head_logits(self, x: Tensor) -> Tensor:
        """Return the capped logits (B, T, V) in float32 for the output x (B, T, C) of `hidden`."""
        return softcap(self.head(x).float(), self.config.logit_cap)  # (B, T, V)

    def forward(self, ids: Tensor, targets: Tensor | None = None, cache: base.Cache | None = None) -> Output:
        """See `LanguageModel.forward`."""
        x = self.hidden(ids, None if cache is None else Cache.check(cache))
        if targets is None:
            return self.head_logits(x[:, -1:]), None  # (B, 1, V)
        return None, cross_entropy(x, self.head.weight, targets, self.config.logit_cap, self.active_label_smoothing)

    def logits(self, ids: Tensor) -> Tensor:
        """Return the logits (B, T, V) of every position."""
        return self.head_logits(self.hidden(ids))  # (B, T, V)

    def blocks(self) -> list[nn.Module]:
        """See `LanguageModel.blocks`."""
        return list(self.h)

    def readout(self, x: Tensor) -> Tensor:
        """See `LanguageModel.readout`."""
        return self.head_logits(self.head_input(x))

    def token_embeddings(self) -> Tensor:
        """Return the token embeddings (V, C), without those of n-grams."""
        return self.wte.weight

    def new_cache(self, batch_size: int) -> Cache:
        """Return an empty cache for `batch_size` samples."""
        return Cache(self.config, batch_size, like=self.wte.weight)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return embeddings, the matrices of the blocks, convolutions, mixing weights, and the head."""
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

    def decoding_backend(self, cache: base.Cache, make_linear: MakeLinear | None = None) -> DecodeStep:
        """Return the step of `cpu_decoding.py`. Raise `TypeError` for another architecture's cache."""
        from nanogpt.models.modern.cpu_decoding import decode_step

        return decode_step(self, Cache.check(cache), make_linear)
