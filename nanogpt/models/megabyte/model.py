"""MEGABYTE (Yu et al. 2023, "Predicting Million-byte Sequences with Multiscale Transformers"). Reads top to bottom.

The text is divided into patches of P tokens. A global transformer has one position for each patch, and sees the patches
before it. A local transformer predicts the tokens of one patch, from the global output for this patch and the tokens of
the patch that come before. Both are shifted by one position: the global one begins with a start patch, the local one,
in each patch, with a start token. So a prediction depends on no later token. With P = 4:

    global input        start patch      x0 x1 x2 x3      x4 x5 x6 x7
                             │                │                │            + causal attention
    global output        g0 (P slices)    g1 (P slices)    g2 (P slices)
                             +                +                +
    local input         start x0 x1 x2   start x4 x5 x6   start …
                             │                │                │            + causal attention in each patch
    predicts            x0 x1 x2 x3      x4 x5 x6 x7      x8 …

Tokens of a patch that is not complete reach the local transformer only, so a window of any length works. Nobody asks
for x0, which is predicted from nothing.

In a large model the last tokens of a patch are predicted least well, because only the local transformer sees the tokens
just before them. Strided inference (section 2.3.3 of the paper) runs a second pass, in which patches begin half a patch
later, and takes the predictions of the first half of each patch from either pass. With a weak global transformer the
first token of a patch is predicted least well, and strided inference raises the loss.

The blocks are GPT-2's without biases, and the local embedding is the head, as in the paper.

In the shapes: B batch, T tokens, P = patch_size, K patches with the start patch, D = n_embd, d = D / P the share of a
token in a patch, C = local_n_embd, V = vocab_size, nh heads of size hs, S = positions including those in the cache.
"""

import math
from typing import TYPE_CHECKING, Self

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanogpt.models import base
from nanogpt.models.base import LanguageModel, Output, ParameterGroup
from nanogpt.models.layers.attention import causal_attention
from nanogpt.models.layers.cross_entropy import cross_entropy
from nanogpt.models.layers.dropout import Dropout
from nanogpt.models.layers.gelu import gelu
from nanogpt.models.layers.key_value_cache import KeyValueCache
from nanogpt.models.layers.transformer_config import TransformerConfig

if TYPE_CHECKING:
    from nanogpt.models.megabyte.config import Config


class PatchCache(base.Cache):
    """The state of one pass after `length` tokens.

    patches: keys and values of the start patch and each complete patch. tokens: keys and values within the present
    patch. unfinished: (B, r), the tokens of the present patch, r < P. output: (B, P, C), the projected global output
    for the present patch.
    """

    def __init__(self, config: "Config", batch_size: int, like: Tensor) -> None:
        self.length = 0
        self.patches = KeyValueCache(config.global_transformer, batch_size, like)
        self.tokens = KeyValueCache(config.local_transformer, batch_size, like)
        self.unfinished = torch.empty(batch_size, 0, dtype=torch.int64, device=like.device)
        self.output = like.new_empty(batch_size, config.patch_size, config.local_n_embd)

    def copy_from(self, single: Self) -> None:
        """Fill each of its samples with the content of `single`, the cache of one sample."""
        self.length = single.length
        self.patches.copy_from(single.patches)
        self.tokens.copy_from(single.tokens)
        self.unfinished = single.unfinished.expand(len(self.unfinished), -1)
        self.output[:] = single.output


class Cache(base.Cache):
    """The states of the passes after `length` tokens: one, and with strided inference a second one."""

    def __init__(self, config: "Config", batch_size: int, like: Tensor) -> None:
        self.length = 0
        self.passes = [PatchCache(config, batch_size, like) for _ in range(1 + config.strided_inference)]

    def copy_from(self, single: Self) -> None:
        """Fill each of its samples with the content of `single`, the cache of one sample."""
        self.length = single.length
        for own, one in zip(self.passes, single.passes, strict=True):
            own.copy_from(one)


class CausalSelfAttention(nn.Module):
    """Multi-head attention in which a position attends to itself and earlier ones. Maps x (B, T, C) to the same."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.c_attn = nn.Linear(config.n_embd, 3 * config.n_embd, bias=False)
        self.c_proj = nn.Linear(config.n_embd, config.n_embd, bias=False)
        self.n_head = config.n_head
        self.dropout = config.dropout

    def forward(self, x: Tensor, cache: KeyValueCache | None = None, layer: int = 0) -> Tensor:
        """Return (B, T, C). With a cache, x continues its positions, and k and v are appended to its `layer`."""
        B, T, C = x.shape
        q, k, v = self.c_attn(x).view(B, T, 3, self.n_head, -1).permute(2, 0, 3, 1, 4).unbind(0)  # 3 × (B, nh, T, hs)
        past, mask = 0, None
        if cache is not None:
            past = cache.length
            k, v = cache.extend(layer, k, v)  # (B, nh, S, hs)
        if not past:
            y = causal_attention(q, k, v, self.dropout if self.training else 0.0)  # (B, nh, T, hs)
        else:  # new position i attends to past + i + 1 positions
            if T > 1:
                mask = torch.ones(T, past + T, dtype=torch.bool, device=x.device).tril(past)
            y = F.scaled_dot_product_attention(q, k, v, mask)  # (B, nh, T, hs)
        return self.c_proj(y.transpose(1, 2).reshape(B, T, C))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two linear layers with a GELU between them, C to 4·C to C."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.c_fc = nn.Linear(config.n_embd, 4 * config.n_embd, bias=False)
        self.c_proj = nn.Linear(4 * config.n_embd, config.n_embd, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, C) for x (B, T, C)."""
        return self.c_proj(gelu(self.c_fc(x)))  # type: ignore[no-any-return]


class Block(nn.Module):
    """Attention and MLP, each of which adds to the residual stream and reads it through a LayerNorm."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.ln_1 = nn.LayerNorm(config.n_embd, bias=False)
        self.attn = CausalSelfAttention(config)
        self.ln_2 = nn.LayerNorm(config.n_embd, bias=False)
        self.mlp = MLP(config)
        self.dropout = Dropout(config.dropout)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None, layer: int = 0) -> Tensor:
        """Return (B, T, C) for x (B, T, C); for the cache see `CausalSelfAttention.forward`."""
        x = x + self.dropout(self.attn(self.ln_1(x), cache, layer))
        return x + self.dropout(self.mlp(self.ln_2(x)))  # type: ignore[no-any-return]


class Transformer(nn.Module):
    """Blocks and a last norm, for vectors of any origin. Maps x (B, T, C) to the same. Advances the cache."""

    def __init__(self, config: TransformerConfig) -> None:
        super().__init__()
        self.drop = Dropout(config.dropout)
        self.h = nn.ModuleList(Block(config) for _ in range(config.n_layer))
        self.ln_f = nn.LayerNorm(config.n_embd, bias=False)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                residual = name.endswith("c_proj.weight")
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * config.n_layer) if residual else 0.02)

    def forward(self, x: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Return (B, T, C). With a cache, x continues its positions."""
        x = self.drop(x)
        for layer, block in enumerate(self.h):
            x = block(x, cache, layer)
        if cache is not None:
            cache.length += x.size(1)
        return self.ln_f(x)  # type: ignore[no-any-return]


class Model(LanguageModel):
    """MEGABYTE."""

    config: "Config"

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.config = config
        self.patch_wte = nn.Embedding(config.vocab_size, config.n_embd // config.patch_size)
        self.patch_wpe = nn.Embedding(config.block_size, config.n_embd // config.patch_size)
        self.start_patch = nn.Parameter(torch.empty(config.n_embd))
        self.patch_model = Transformer(config.global_transformer)
        self.projection = nn.Linear(config.n_embd // config.patch_size, config.local_n_embd, bias=False)
        self.wte = nn.Embedding(config.vocab_size, config.local_n_embd)
        self.start_token = nn.Parameter(torch.empty(config.local_n_embd))
        self.token_model = Transformer(config.local_transformer)
        embeddings = self.patch_wte.weight, self.patch_wpe.weight, self.start_patch, self.wte.weight, self.start_token
        for embedding in embeddings:
            nn.init.normal_(embedding, std=0.02)
        # the global output has variance 1: its projection begins as large as the embeddings that are added to it
        nn.init.normal_(self.projection.weight, std=0.02 * self.projection.in_features**-0.5)

    def embed_patches(self, ids: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Return (B, K, D), the start patch unless the cache has it, then the complete patches of ids (B, T)."""
        B, T = ids.shape
        past = 0 if cache is None else cache.length  # patches
        begin = max(0, past - 1) * self.config.patch_size
        positions = torch.arange(begin, begin + T, device=ids.device)  # (T)
        x = (self.patch_wte(ids) + self.patch_wpe(positions)).reshape(B, -1, self.config.n_embd)  # (B, K, D)
        return x if past else torch.cat((self.start_patch.expand(B, 1, -1), x), dim=1)

    def project_patches(self, g: Tensor) -> Tensor:
        """Return the global output (B, K, D) for the local transformer: one slice for each token, (B·K, P, C)."""
        return self.projection(g.view(-1, self.config.patch_size, self.projection.in_features))  # type: ignore[no-any-return]

    def one_pass(self, ids: Tensor) -> Tensor:
        """Return the local output (B, T, C) at the positions after each of the ids (B, T)."""
        B, T, P, C = *ids.shape, self.config.patch_size, self.config.local_n_embd
        K = 1 + T // P
        g = self.patch_model(self.embed_patches(ids[:, : T - T % P]))  # (B, K, D)
        tokens = F.pad(self.wte(ids), (0, 0, 0, K * P - T)).view(B * K, P, C)
        shifted = torch.cat((self.start_token.expand(B * K, 1, C), tokens[:, :-1]), dim=1)
        x = self.token_model(self.project_patches(g) + shifted)  # (B·K, P, C)
        return x.view(B, K * P, C)[:, 1 : T + 1]  # type: ignore[no-any-return]

    def hidden(self, ids: Tensor) -> Tensor:
        """Return the output (B, T, C) for ids (B, T), from two passes with strided inference."""
        T, stride = ids.size(1), self.stride
        self.check_length(T)
        x = self.one_pass(ids)  # (B, T, C)
        if self.training or not self.config.strided_inference:
            return x
        is_late = [self.is_late(position) for position in range(1, T + 1)]
        if not any(is_late):
            return x
        second = F.pad(self.one_pass(ids[:, stride:]), (0, 0, stride, 0))  # (B, T, C)
        return torch.where(torch.tensor(is_late, device=ids.device)[:, None], second, x)

    @property
    def stride(self) -> int:
        """The number of tokens by which the second pass of strided inference is offset: half a patch, rounded up."""
        return (self.config.patch_size + 1) // 2

    def is_late(self, position: int) -> bool:
        """Return whether strided inference takes the prediction of the token at `position` from the second pass.

        In the first patch it does not: there the second pass has fewer tokens to see, and nothing more.
        """
        P = self.config.patch_size
        return position >= P and position % P >= self.stride

    def check_length(self, length: int) -> None:
        """Raise `ValueError` if the window has fewer than `length` positions."""
        if length > self.config.block_size:
            raise ValueError(f"{length} positions do not fit block_size={self.config.block_size}")

    def continue_pass(self, ids: Tensor, state: PatchCache) -> None:
        """Append ids (B, T) to the state of a pass. The global transformer runs for each patch that is now complete."""
        tokens = torch.cat((state.unfinished, ids), dim=1)
        complete = tokens.size(1) - tokens.size(1) % self.config.patch_size
        if complete or not state.patches.length:
            g = self.patch_model(self.embed_patches(tokens[:, :complete], state.patches), state.patches)  # (B, K, D)
            state.output.copy_(self.project_patches(g[:, -1]))  # (B, P, C)
            state.tokens.length = 0
        state.unfinished = tokens[:, complete:]
        state.length += ids.size(1)

    def predict(self, state: PatchCache) -> Tensor:
        """Return the local output (B, 1, C) at the position after the last token of a pass."""
        first, last = state.tokens.length, state.unfinished.size(1)  # positions in the patch that are not computed yet
        start = self.start_token.expand(len(state.output), 1, -1)
        shifted = torch.cat((start, self.wte(state.unfinished)), dim=1)[:, first:]
        return self.token_model(state.output[:, first : last + 1] + shifted, state.tokens)[:, -1:]  # type: ignore[no-any-return]

    def decode_step(self, ids: Tensor, cache: Cache) -> Tensor:
        """Return the output (B, 1, C) after ids (B, T), which continue the cache. Advances the cache."""
        self.check_length(cache.length + ids.size(1))
        for number, state in enumerate(cache.passes):
            skipped = max(0, number * self.stride - cache.length)
            if ids.size(1) > skipped:
                self.continue_pass(ids[:, skipped:], state)
        cache.length += ids.size(1)
        return self.predict(cache.passes[len(cache.passes) > 1 and self.is_late(cache.length)])

    def forward(self, ids: Tensor, targets: Tensor | None = None, cache: base.Cache | None = None) -> Output:
        """See `LanguageModel.forward`."""
        x = self.hidden(ids) if cache is None else self.decode_step(ids, Cache.check(cache))
        if targets is None:
            return F.linear(x[:, -1:], self.wte.weight), None  # (B, 1, V)
        return None, cross_entropy(x, self.wte.weight, targets, smoothing=self.active_label_smoothing)

    def logits(self, ids: Tensor) -> Tensor:
        """Return the logits (B, T, V) of every position."""
        return F.linear(self.hidden(ids), self.wte.weight)  # (B, T, V)

    def token_embeddings(self) -> Tensor:
        """Return the embeddings (V, C) that the local model reads."""
        return self.wte.weight

    def new_cache(self, batch_size: int) -> Cache:
        """Return an empty cache for `batch_size` samples."""
        return Cache(self.config, batch_size, like=self.wte.weight)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return embeddings (the tied head among them), the matrices between hidden states, and all vectors."""
        embeddings = [p for each in (self.patch_wte, self.patch_wpe, self.wte) for p in each.parameters()]
        hidden = (self.patch_model, self.projection, self.token_model)
        return [
            ParameterGroup("embedding", embeddings, decay=True),
            ParameterGroup("hidden", [p for part in hidden for p in part.parameters() if p.dim() == 2], decay=True),
            ParameterGroup("vector", [p for p in self.parameters() if p.dim() == 1], decay=False),
        ]

    def crop_block_size(self, block_size: int) -> None:
        """See `LanguageModel.crop_block_size`; the embeddings of later positions are dropped."""
        super().crop_block_size(block_size)
        self.patch_wpe.weight = nn.Parameter(self.patch_wpe.weight.detach()[:block_size].clone())
        self.patch_wpe.num_embeddings = block_size
