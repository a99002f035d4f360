"""The block of a transformer: causal self-attention and an MLP along a residual stream.

In the shapes: B batch, T positions, C = n_embd, nh = n_head, nkv = n_kv_head, hs = C / nh the head size, S = positions
including those in the cache.
"""

import math
from typing import Generic, TypeVar

from torch import Tensor, nn
from torch.nn import functional as F

from nanogpt.models.layers.activations import ACTIVATIONS
from nanogpt.models.layers.attention import causal_attention
from nanogpt.models.layers.dropout import Dropout
from nanogpt.models.layers.key_value_cache import KeyValueCache
from nanogpt.models.layers.norms import NORM_EPS, new_norm
from nanogpt.models.layers.positions import apply_rotary
from nanogpt.models.layers.transformer_config import default_mlp_width


class AttentionHeads(nn.Module):
    """Heads in which a position attends to itself and earlier ones. Maps x (B, T, C) to the concatenated heads.

    n_kv_head: heads of keys and values, each of which n_head / n_kv_head heads of queries share (Ainslie et al. 2023).
    qk_norm: whether queries and keys are RMS-normalised in each head (Henry et al. 2020). dropout: of the weights.
    """

    def __init__(
        self, n_embd: int, n_head: int, n_kv_head: int, *, bias: bool, dropout: float, qk_norm: bool = False
    ) -> None:
        super().__init__()
        self.sizes = [n_embd, n_embd * n_kv_head // n_head, n_embd * n_kv_head // n_head]  # q, k, v
        self.c_attn = nn.Linear(n_embd, sum(self.sizes), bias=bias)
        self.n_head, self.n_kv_head = n_head, n_kv_head
        self.qk_norm, self.dropout = qk_norm, dropout

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """Return (B, T, C). With a cache, x continues its positions, and k and v are appended to its `layer`.

        rotary: cosine and sine of rotary positions, two (T, hs / 2). mask: see `attention_mask`.
        """
        B, T, C = x.shape
        q, k, v = self.c_attn(x).split(self.sizes, dim=2)  # (B, T, C), 2 × (B, T, nkv·hs)
        q = q.view(B, T, self.n_head, -1).transpose(1, 2)  # (B, nh, T, hs)
        k = k.view(B, T, self.n_kv_head, -1).transpose(1, 2)  # (B, nkv, T, hs)
        v = v.view(B, T, self.n_kv_head, -1).transpose(1, 2)  # (B, nkv, T, hs)
        if self.qk_norm:
            q, k = F.rms_norm(q, q.shape[-1:]), F.rms_norm(k, k.shape[-1:])
        if rotary is not None:
            q, k = apply_rotary(q, *rotary).to(v.dtype), apply_rotary(k, *rotary).to(v.dtype)
        if cache is not None:
            k, v = cache.extend(layer, k, v)  # 2 × (B, nkv, S, hs)
        if self.n_kv_head < self.n_head:
            k, v = (each.repeat_interleave(self.n_head // self.n_kv_head, dim=1) for each in (k, v))  # (B, nh, S, hs)
        y = causal_attention(q, k, v, self.dropout if self.training else 0.0, mask)  # (B, nh, T, hs)
        return y.transpose(1, 2).reshape(B, T, C)


class CausalSelfAttention(AttentionHeads):
    """Heads of attention and a projection of them into the residual stream. Maps x (B, T, C) to the same."""

    def __init__(
        self, n_embd: int, n_head: int, n_kv_head: int, *, bias: bool, dropout: float, qk_norm: bool = False
    ) -> None:
        super().__init__(n_embd, n_head, n_kv_head, bias=bias, dropout=dropout, qk_norm=qk_norm)
        self.c_proj = nn.Linear(n_embd, n_embd, bias=bias)
        self.resid_dropout = Dropout(dropout)

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """Return (B, T, C); see `AttentionHeads.forward`."""
        return self.resid_dropout(self.c_proj(super().forward(x, rotary, mask, cache, layer)))  # type: ignore[no-any-return]


class MLP(nn.Module):
    """Two linear layers with an activation between them. Maps x (B, T, C) to the same.

    activation: a name in `ACTIVATIONS`. width: of the hidden state, of which SwiGLU needs two for its gate; None for
    `default_mlp_width`.
    """

    def __init__(self, n_embd: int, activation: str, *, bias: bool, dropout: float, width: int | None = None) -> None:
        super().__init__()
        width = width or default_mlp_width(n_embd, activation)
        self.c_fc = nn.Linear(n_embd, 2 * width if activation == "swiglu" else width, bias=bias)
        self.c_proj = nn.Linear(width, n_embd, bias=bias)
        self.activation = ACTIVATIONS[activation]
        self.dropout = Dropout(dropout)

    def forward(self, x: Tensor) -> Tensor:
        """Return (B, T, C) for x (B, T, C)."""
        return self.dropout(self.c_proj(self.activation(self.c_fc(x))))  # type: ignore[no-any-return]


Attention = TypeVar("Attention", bound=AttentionHeads)


class Block(nn.Module, Generic[Attention]):
    """Attention and MLP, each of which adds to the residual stream.

    mlp: None for a block of attention alone. norm: see `new_norm`; it is applied to what attention and MLP read, or
    with `norm_after` to the sum. residual: False for attention and MLP that replace what they read.
    """

    def __init__(
        self,
        n_embd: int,
        attn: Attention,
        mlp: MLP | None,
        *,
        norm: str,
        bias: bool,
        norm_after: bool = False,
        residual: bool = True,
        norm_eps: float = NORM_EPS,
    ) -> None:
        super().__init__()
        self.ln_1 = new_norm(norm, n_embd, bias, norm_eps)
        self.attn = attn
        self.has_mlp = mlp is not None
        if mlp is not None:
            self.ln_2 = new_norm(norm, n_embd, bias, norm_eps)
            self.mlp = mlp
        self.norm_after = norm_after
        self.residual = residual

    def forward(
        self,
        x: Tensor,
        rotary: tuple[Tensor, Tensor] | None = None,
        mask: Tensor | None = None,
        cache: KeyValueCache | None = None,
        layer: int = 0,
    ) -> Tensor:
        """Return (B, T, C) for x (B, T, C); for the others see `AttentionHeads.forward`."""
        if self.norm_after:
            x = self.ln_1(self.add(x, self.attn(x, rotary, mask, cache, layer)))
            return self.ln_2(self.add(x, self.mlp(x))) if self.has_mlp else x
        x = self.add(x, self.attn(self.ln_1(x), rotary, mask, cache, layer))
        return self.add(x, self.mlp(self.ln_2(x))) if self.has_mlp else x

    def add(self, x: Tensor, update: Tensor) -> Tensor:
        """Return the residual stream (B, T, C) with an update added, or the update alone without `residual`."""
        return x + update if self.residual else update


def init_transformer(model: nn.Module, n_layer: int, std: float = 0.02) -> None:
    """Draw matrices from Normal(0, std), divided by √(2·n_layer) if they project into the residual stream.

    That is the number of projections that add up there (Radford et al. 2019). Biases are zero, norms the identity.
    """
    for name, parameter in model.named_parameters():
        if parameter.dim() == 2:
            residual = name.endswith("c_proj.weight")
            nn.init.normal_(parameter, std=std / math.sqrt(2 * n_layer) if residual else std)
        elif name.endswith("bias"):
            nn.init.zeros_(parameter)
