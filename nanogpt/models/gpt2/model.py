"""GPT-2 (Radford et al. 2019), and what people compare with it, as settings. Reads top to bottom.

GPT-2 as published has learned positions, LayerNorm before attention and MLP, the tanh form of GELU, and a tied head.
The settings choose others:
- positions: sinusoidal (Vaswani et al. 2017), rotary (Su et al. 2021), ALiBi (Press et al. 2022), or none (NoPE,
  Kazemnejad et al. 2023)
- norm: RMSNorm (Zhang & Sennrich 2019); norm_position: after the sum, as in GPT-1 and Vaswani et al. 2017, which has no
  last norm
- activation: ReLU, ReLU² (So et al. 2021), SwiGLU (Shazeer 2020)
- qk_norm (Henry et al. 2020), logit_cap (Gemma 2, 2024), n_kv_head (grouped queries, Ainslie et al. 2023), tied_head
- mlp_width, rotary_base, norm_eps: the numbers in which published models differ, such as those of Llama's kind
- feed_forward, residual, norm: without MLP, residual stream or norms, to see what each of them brings
- local_window: every second block attends to the last positions only (GPT-3, Brown et al. 2020)

The block is in `layers/transformer_block.py`. In the shapes: B batch, T positions, C = n_embd, V = vocab_size.
"""

import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from nanogpt.models.base import Cache, DecodeStep, LanguageModel, MakeLinear, Output, ParameterGroup, TrainingBackend
from nanogpt.models.layers.attention import attention_mask
from nanogpt.models.layers.cross_entropy import cross_entropy, softcap
from nanogpt.models.layers.dropout import Dropout
from nanogpt.models.layers.key_value_cache import KeyValueCache
from nanogpt.models.layers.norms import new_norm
from nanogpt.models.layers.positions import alibi_slopes, rotary_angles, sinusoidal_positions
from nanogpt.models.layers.transformer_block import MLP, Block, CausalSelfAttention, init_transformer

if TYPE_CHECKING:
    from nanogpt.models.flat_parameters import FlatParameters
    from nanogpt.models.gpt2.config import Config

Gpt2Block = Block[CausalSelfAttention]


def new_block(config: "Config") -> Gpt2Block:
    """Return a block of attention and MLP with these settings."""
    C, bias, dropout = config.n_embd, config.bias, config.dropout
    attn = CausalSelfAttention(C, config.n_head, config.kv_heads, bias=bias, dropout=dropout, qk_norm=config.qk_norm)
    mlp = None
    if config.feed_forward:
        mlp = MLP(C, config.activation, bias=bias, dropout=dropout, width=config.hidden_width)
    return Block(
        C,
        attn,
        mlp,
        norm=config.norm,
        bias=bias,
        norm_after=config.norm_position == "after",
        residual=config.residual,
        norm_eps=config.norm_eps,
    )


class Model(LanguageModel):
    """GPT-2."""

    config: "Config"

    def __init__(self, config: "Config") -> None:
        super().__init__()
        self.config = config
        self.wte = nn.Embedding(config.vocab_size, config.n_embd)
        if config.positions == "learned":
            self.wpe = nn.Embedding(config.block_size, config.n_embd)
        self.drop = Dropout(config.dropout)
        self.h = nn.ModuleList(new_block(config) for _ in range(config.n_layer))
        if config.norm_position == "before":
            self.ln_f = new_norm(config.norm, config.n_embd, config.bias, config.norm_eps)
        if not config.tied_head:
            self.head = nn.Linear(config.n_embd, config.vocab_size, bias=False)
        # Without norms hidden states would shrink to nothing at 0.02; 1/√C keeps their size (LeCun et al. 1998).
        init_transformer(self, config.n_layer, std=0.02 if config.norm != "none" else config.n_embd**-0.5)

    def embed(self, ids: Tensor, past: int) -> Tensor:
        """Return the embeddings (B, T, C) of tokens and positions; ids (B, T) are at positions past … past + T - 1."""
        T, C = ids.size(1), self.config.n_embd
        x = self.wte(ids)  # (B, T, C)
        if self.config.positions == "learned":
            return x + self.wpe(torch.arange(past, past + T, device=ids.device))  # type: ignore[no-any-return]
        if self.config.positions == "sinusoidal":
            return x * math.sqrt(C) + sinusoidal_positions(past, T, C, like=x)  # type: ignore[no-any-return]
        return x  # type: ignore[no-any-return]

    def hidden(self, ids: Tensor, cache: KeyValueCache | None = None) -> Tensor:
        """Return the normalised output (B, T, C) of the last block for ids (B, T). Advances the cache."""
        config, T, past = self.config, ids.size(1), cache.length if cache is not None else 0
        if past + T > config.block_size:
            raise ValueError(f"{past} + {T} positions do not fit block_size={config.block_size}")
        x = self.drop(self.embed(ids, past))  # (B, T, C)
        rotary: tuple[Tensor, Tensor] | None = None
        slopes: list[float] = []
        if config.positions == "rotary":
            rotary = rotary_angles(past, T, config.n_embd // config.n_head, config.rotary_base, like=x)
        elif config.positions == "alibi":
            slopes = alibi_slopes(config.n_head)
        starts = self.document_starts(ids, cache)
        full, local = (attention_mask(past, T, x.device, config.window(layer), slopes, starts) for layer in (0, 1))
        for layer, block in enumerate(self.h):
            x = block(x, rotary, local if layer % 2 else full, cache, layer)
        if cache is not None:
            cache.length += T
        return self.last_norm(x)

    def last_norm(self, x: Tensor) -> Tensor:
        """Return the residual stream (B, T, C) as the head reads it."""
        return self.ln_f(x) if self.config.norm_position == "before" else x

    def forward(self, ids: Tensor, targets: Tensor | None = None, cache: Cache | None = None) -> Output:
        """See `LanguageModel.forward`."""
        x = self.hidden(ids, None if cache is None else KeyValueCache.check(cache))
        if targets is None:
            return self.head_logits(x[:, -1:]), None  # (B, 1, V)
        return None, cross_entropy(x, self.head_weight, targets, self.config.logit_cap, self.active_label_smoothing)

    def logits(self, ids: Tensor) -> Tensor:
        """Return the logits (B, T, V) of every position."""
        return self.head_logits(self.hidden(ids))  # (B, T, V)

    def blocks(self) -> list[nn.Module]:
        """See `LanguageModel.blocks`."""
        return list(self.h)

    def readout(self, x: Tensor) -> Tensor:
        """See `LanguageModel.readout`."""
        return self.head_logits(self.last_norm(x))  # (B, T, V)

    def head_logits(self, x: Tensor) -> Tensor:
        """Return the logits (B, T, V) for x (B, T, C), the output of `hidden`."""
        return softcap(F.linear(x, self.head_weight), self.config.logit_cap)

    def token_embeddings(self) -> Tensor:
        """Return the token embeddings (V, C)."""
        return self.wte.weight

    @property
    def head_weight(self) -> Tensor:
        """The matrix (V, C) from hidden states to logits."""
        return self.wte.weight if self.config.tied_head else self.head.weight

    def new_cache(self, batch_size: int) -> KeyValueCache:
        """Return an empty cache for `batch_size` samples."""
        return KeyValueCache(self.config, batch_size, self.wte.weight, self.config.kv_heads)

    def parameter_groups(self) -> list[ParameterGroup]:
        """Return embeddings (a tied head among them), the matrices of the blocks, all vectors, and an untied head."""
        matrices = [p for p in self.h.parameters() if p.dim() == 2]
        vectors = [p for p in self.parameters() if p.dim() == 1]
        embeddings = [*self.wte.parameters(), *(self.wpe.parameters() if self.config.positions == "learned" else ())]
        groups = [
            ParameterGroup("embedding", embeddings, decay=True),
            ParameterGroup("hidden", matrices, decay=True),
            ParameterGroup("vector", vectors, decay=False),
        ]
        if not self.config.tied_head:
            groups.append(ParameterGroup("head", [*self.head.parameters()], decay=True))
        return groups

    def crop_block_size(self, block_size: int) -> None:
        """See `LanguageModel.crop_block_size`; the learned embeddings of later positions are dropped."""
        super().crop_block_size(block_size)
        if self.config.positions == "learned":
            self.wpe.weight = nn.Parameter(self.wpe.weight.detach()[:block_size].clone())
            self.wpe.num_embeddings = block_size

    def training_backend(
        self, device: str, dtype: torch.dtype, flat: "FlatParameters | None" = None
    ) -> TrainingBackend | None:
        """Return `CpuTraining` on a CPU in 16 bits, for GPT-2 as published."""
        if device != "cpu" or dtype == torch.float32 or self.config.first_difference() is not None:
            return None
        from nanogpt.models.gpt2.cpu_training import CpuTraining

        return CpuTraining(self, dtype, flat)

    def decoding_backend(self, cache: Cache, make_linear: MakeLinear | None = None) -> DecodeStep:
        """Return the step of `layers/cpu_decoding.py`. Raise `TypeError` for another architecture's cache."""
        from nanogpt.models.layers.cpu_decoding import Transformer, decode_step

        config, weight, positions, rotary = self.config, self.wte.weight, None, None
        T, C = config.block_size, config.n_embd
        if config.positions == "learned":
            positions = self.wpe.weight
        elif config.positions == "sinusoidal":
            positions = sinusoidal_positions(0, T, C, like=weight)
        elif config.positions == "rotary":
            rotary = rotary_angles(0, T, C // config.n_head, config.rotary_base, like=weight)
        parts = Transformer(
            wte=weight,
            embedding_scale=math.sqrt(C) if config.positions == "sinusoidal" else 1.0,
            positions=positions,
            blocks=[(block, config.window(layer)) for layer, block in enumerate(cast("Iterable[Gpt2Block]", self.h))],
            last_norm=self.ln_f if config.norm_position == "before" else None,
            head=self.head_weight,
            rotary=rotary,
            slopes=alibi_slopes(config.n_head) if config.positions == "alibi" else (),
            logit_cap=config.logit_cap,
        )
        return decode_step(parts, KeyValueCache.check(cache), make_linear)
