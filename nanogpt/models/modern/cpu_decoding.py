"""The modern GPT's decoding backend for a CPU: the same as `model.py` for a prompt or one more position, but faster.

As in `layers/cpu_decoding.py`, one position of one sample runs in numpy, and everything else in torch without modules.
Weights and cache are the model's own, and `model.py` can continue after this step and vice versa.

In the shapes: B samples, T positions, C = n_embd, nh = n_head, hs = C / nh, L = n_layer, V = vocab_size,
K = positions that a short convolution reads, S = positions including those in the cache.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from operator import mul
from typing import TYPE_CHECKING, cast

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from nanogpt.models.base import DecodeStep, Floats, MakeLinear
from nanogpt.models.layers.activations import relu_squared
from nanogpt.models.layers.cpu_decoding import numpy_for_one_position, one_query_attention, torch_linear
from nanogpt.models.layers.cross_entropy import softcap
from nanogpt.models.layers.norms import NORM_EPS, norm
from nanogpt.models.layers.numpy_layers import as_numpy, numpy_linear, rotary_tables
from nanogpt.models.layers.positions import apply_rotary, rotary_angles

if TYPE_CHECKING:
    from nanogpt.models.modern.model import Block, Cache, Model, ShortConvolution

# Attention scores of normalised queries and keys are within ±√hs; up to this size of a head their exponentials are
# far from the limits of float32.
MAX_HEAD_WITHOUT_SHIFT = 1024
# How many of the `rotation_matrices` are made at once, and how many numbers of them are kept (8 MB).
ROTATIONS_AT_ONCE, CACHED_ROTATIONS = 32, 2**21


def decode_step(model: "Model", cache: "Cache", make_linear: MakeLinear | None = None) -> DecodeStep:
    """Return the function from ids (B, T) to the logits (B, V) of the next token, which advances the cache.

    For the arguments see `layers.cpu_decoding.decode_step`.
    """
    config = model.config
    angles = rotary_angles(0, config.block_size, config.n_embd // config.n_head, config.rotary_base, model.wte.weight)
    return numpy_for_one_position(
        cache.keys_values.size(2) == 1 and make_linear is None,
        batched_step(model, cache, angles, make_linear or torch_linear),
        lambda: single_step(model, cache, angles),
    )


def blocks_of(model: "Model") -> Iterator["Block"]:
    """Yield the blocks of the model."""
    yield from cast("Iterable[Block]", model.h)


def batched_step(
    model: "Model", cache: "Cache", angles: tuple[Tensor, Tensor], make_linear: MakeLinear
) -> Callable[[Tensor], Tensor]:
    """Return the step from ids (B, T) to logits (B, V) in torch.

    angles: cosine and sine (block_size, hs / 2) of RoPE's angles at all positions.
    """
    nh, reach, (cos, sin) = model.config.n_head, model.config.look_back + 1, angles
    embed = embedding(model, cache)
    layers = [
        (
            block.mix.tolist(),
            convolution(block.conv_1, recent[0]),
            convolution(block.conv_2, recent[1]),
            past,
            *(make_linear(linear.weight, None, "none") for linear in linear_layers(block)),
        )
        for block, past, recent in zip(blocks_of(model), cache.keys_values, cache.recent, strict=True)
    ]
    head, last = make_linear(model.head.weight, None, "none"), len(layers) - 1

    def step(ids: Tensor) -> Tensor:
        B, T = ids.shape
        S = cache.length + T
        x = first = norm(embed(ids))  # (B, T, C)
        rotary = cos[S - T : S, None, None], sin[S - T : S, None, None]  # 2 × (T, 1, 1, hs / 2)
        for layer, (mix, conv_1, conv_2, past, c_attn, attn_proj, c_fc, mlp_proj) in enumerate(layers):
            x = torch.add(x * mix[0], first, alpha=mix[1])
            qkv = c_attn(conv_1(norm(x))).view(B, T, 3, nh, -1)
            q, k = apply_rotary(norm(qkv[:, :, :2]), *rotary).permute(2, 0, 3, 1, 4)  # 2 × (B, nh, T, hs)
            v = qkv[:, :, 2].transpose(1, 2)
            past[0, :, :, S - T : S] = k
            past[1, :, :, S - T : S] = v
            if layer == last and reach < T:  # the second convolution reads some positions before the last one
                q, x = q[:, :, -reach:], x[:, -reach:]
            y = one_query_attention(q, past[:, :, :, :S]) if T == 1 else causal_attention_of_last(q, k, v)
            x = x + attn_proj(y.transpose(1, 2).flatten(2))
            h = conv_2(norm(x))
            if layer == last:
                x, h = x[:, -1:], h[:, -1:]
            x = x + mlp_proj(relu_squared(c_fc(h)))
        cache.length = S
        return softcap(head(norm(x[:, -1])), model.config.logit_cap)  # (B, V)

    return step


def embedding(model: "Model", cache: "Cache") -> Callable[[Tensor], Tensor]:
    """Return `Model.embed` as a function of ids (B, T), which continue the cache."""
    config, wte = model.config, model.wte.weight
    before, tables, bases = config.ngram - 1, ngram_tables(model), ngram_bases(model)

    def embed(ids: Tensor) -> Tensor:
        T = ids.size(1)
        last = ids[:, :1].expand(-1, before) if cache.last_ids is None else cache.last_ids
        context = torch.cat((last, ids), 1)
        cache.last_ids = context[:, T:]
        tokens, x = context.numpy(), F.embedding(ids, wte)  # (B, before + T), (B, T, C)
        for n, (table, base) in enumerate(zip(tables, bases, strict=True), 2):
            row = tokens[:, before:]
            for back in range(1, n):
                row = row + tokens[:, before - back : before - back + T] * base**back  # (B, T)
            x = x + F.embedding(torch.from_numpy(row % len(table)), table)
        return x

    return embed


def ngram_tables(model: "Model") -> list[Tensor]:
    """Return the embeddings of n-grams (rows, C), from n = 2 on."""
    return [gram.weight for gram in cast("Iterable[torch.nn.Embedding]", model.grams)]


def ngram_bases(model: "Model") -> list[int]:
    """Return the number of which powers multiply the tokens of an n-gram to find its row, from n = 2 on."""
    V = model.config.vocab_size
    return [V if V**n == len(table) else model.config.hash_multiplier for n, table in enumerate(ngram_tables(model), 2)]


def causal_attention_of_last(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Return causal attention (B, nh, n, hs) of the last n positions, whose queries are q (B, nh, n, hs).

    k, v: (B, nh, T, hs).
    """
    n, T = q.size(2), k.size(2)
    if n == T:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    mask = torch.ones(n, T, dtype=torch.bool).tril(T - n)
    return F.scaled_dot_product_attention(q, k, v, mask)


def linear_layers(block: "Block") -> "tuple[torch.nn.Linear, ...]":
    """Return the four linear layers of a block."""
    return block.attn.c_attn, block.attn.c_proj, block.mlp.c_fc, block.mlp.c_proj


def convolution(module: "ShortConvolution", recent: Tensor) -> Callable[[Tensor], Tensor]:
    """Return a short convolution as a function of x (B, T, C). recent: (B, K - 1, C) in the cache, which it updates."""
    look_back, weights = module.look_back, module.weight[:, 0].unbind()

    def convolve(x: Tensor) -> Tensor:
        T = x.size(1)
        padded = torch.cat((recent, x), 1)  # (B, K - 1 + T, C)
        recent.copy_(padded[:, T:])
        for back, weight in enumerate(weights, 1):
            x = torch.addcmul(x, padded[:, look_back - back : look_back - back + T], weight)
        return x

    return convolve


def single_step(model: "Model", cache: "Cache", angles: tuple[Tensor, Tensor]) -> Callable[[int], Floats]:
    """Return the step from one token to logits (V) in numpy. angles: see `batched_step`."""
    embed, rotation = numpy_embedding(model, cache), rotation_matrices(*angles)
    recent = as_numpy(cache.recent)[:, :, 0]  # (L, 2, K - 1, C)
    L, _, before, C = recent.shape
    inputs = np.empty((L, 2, before + 1, C), np.float32)  # of the convolutions; the last one is that of this position
    blocks = [
        numpy_block(block, inputs[layer], as_numpy(cache.keys_values)[layer, :, 0])
        for layer, block in enumerate(blocks_of(model))
    ]
    mixes = np.array([block.mix.tolist() for block in blocks_of(model)], np.float32)  # (L, 2)
    start, (first_block, *later_blocks) = (
        mixes[0].sum(),
        blocks,
    )  # the first block mixes the first embedding with itself
    keep, mixed_in = list(mixes[1:, 0]), mixes[1:, 1:]
    head, cap, x_of_head = numpy_linear(model.head.weight), np.float32(model.config.logit_cap), np.empty(C, np.float32)
    normalize, normalize_for_cap = numpy_normalization(C), numpy_normalization(C, 1 / model.config.logit_cap)

    def step(token: int) -> Floats:
        S = cache.length + 1
        inputs[:, :, :-1] = recent
        first, matrix = normalize(embed(token), x_of_head), rotation(S - 1)  # (C), (hs, hs)
        x = first * start
        added = first * mixed_in if later_blocks else ()  # (L - 1, C)
        first_block(x, matrix, S)
        for block, factor, addend in zip(later_blocks, keep, added, strict=True):
            x *= factor
            x += addend
            block(x, matrix, S)
        recent[:] = inputs[:, :, 1:]
        cache.length = S
        logits = head(normalize_for_cap(x, x_of_head))  # (V)
        np.tanh(logits, logits)
        logits *= cap
        return logits

    return step


def numpy_block(block: "Block", inputs: Floats, past: Floats) -> Callable[[Floats, Floats, int], None]:
    """Return the function that adds attention and MLP of a block to x (C), with the `rotation_matrices` here, and S.

    inputs: (2, K, C), the inputs of the two convolutions, of which the function writes the last. past: keys and values
    of the layer in the cache, (2, nh, block_size, hs).
    """
    keys, values = past
    (window_1, window_2), (last_1, last_2) = inputs, inputs[:, -1]
    taps_1, taps_2 = taps(block.conv_1), taps(block.conv_2)  # (K, C)
    c_attn, attn_proj, c_fc, mlp_proj = (numpy_linear(linear.weight) for linear in linear_layers(block))
    normalize, (nh, block_size, hs) = numpy_normalization(last_1.size), keys.shape
    total, mean, eps = np.ones(len(taps_1), np.float32).dot, np.full(hs, 1 / hs, np.float32), np.float32(NORM_EPS)
    # The variances of queries, which come before those of keys, are multiplied by hs: that scales the scores.
    scale = np.repeat(np.array([hs, 1], np.float32), nh)  # (2 · nh)
    zeros, ones = np.zeros(len(block.mlp.c_fc.weight), np.float32), np.ones(block_size, np.float32)
    is_large = hs > MAX_HEAD_WITHOUT_SHIFT

    def step(x: Floats, rotation: Floats, S: int) -> None:
        normalize(x, last_1)
        rows = c_attn(total(window_1 * taps_1)).reshape(-1, hs)  # (3 · nh, hs)
        qk = rows[: 2 * nh].dot(rotation)
        deviation = (qk * qk).dot(mean)
        deviation += eps
        deviation *= scale
        qk /= np.sqrt(deviation, deviation)[:, None]
        keys[:, S - 1], values[:, S - 1] = qk[nh:], rows[2 * nh :]
        weights = np.matmul(keys[:, :S], qk[:nh, :, None])[:, :, 0]  # (nh, S)
        if is_large:
            weights -= np.maximum.reduce(weights, 1, keepdims=True)
        np.exp(weights, weights)
        weights /= weights.dot(ones[:S])[:, None]
        x += attn_proj(np.matmul(weights[:, None], values[:, :S]).reshape(-1))
        normalize(x, last_2)
        h = c_fc(total(window_2 * taps_2))  # (4 · C)
        np.maximum(h, zeros, out=h)
        h *= h
        x += mlp_proj(h)

    return step


def taps(module: "ShortConvolution") -> Floats:
    """Return the weights (K, C) of a short convolution, of the oldest position first; that of the last one is 1."""
    weight = as_numpy(module.weight)[::-1, 0]
    return np.concatenate((weight, np.ones_like(weight[:1])))


def rotation_matrices(cos: Tensor, sin: Tensor) -> Callable[[int], Floats]:
    """Return the function from a position to the matrix (hs, hs) that centres and rotates queries and keys.

    It multiplies them from the right. One product is faster than the operations of which it consists. cos, sin: the
    angles of `batched_step`.
    """
    cosine, sine = (table[:, None] for table in rotary_tables(cos, sin))  # 2 × (block_size, 1, 2, hs / 2)
    hs = cosine[0].size
    centre = np.eye(hs, dtype=np.float32) - np.float32(1 / hs)

    def rotated(part: int) -> Floats:  # (ROTATIONS_AT_ONCE, hs, hs)
        places = slice(part * ROTATIONS_AT_ONCE, (part + 1) * ROTATIONS_AT_ONCE)
        halves = centre.reshape(1, hs, 2, -1)
        return (halves * cosine[places] + halves[:, :, ::-1] * sine[places]).reshape(-1, hs, hs)

    matrices = lru_cache(max(1, CACHED_ROTATIONS // (ROTATIONS_AT_ONCE * hs**2)))(rotated)

    def matrix(place: int) -> Floats:
        part, number = divmod(place, ROTATIONS_AT_ONCE)
        of_part: Floats = matrices(part)[number]
        return of_part

    return matrix


def numpy_normalization(C: int, factor: float = 1.0) -> Callable[[Floats, Floats], Floats]:
    """Return the function that writes factor · norm(x) (C) into its second argument, and returns it."""
    mean, subtract, multiply, float32 = np.full(C, 1 / C, np.float32), np.subtract, np.multiply, np.float32

    def normalize(x: Floats, out: Floats) -> Floats:
        subtract(x, x.dot(mean), out)
        return multiply(out, float32(factor / math.sqrt(out.dot(out) / C + NORM_EPS)), out)

    return normalize


def numpy_embedding(model: "Model", cache: "Cache") -> Callable[[int], Floats]:
    """Return `Model.embed` as a function of the token that continues the cache."""
    wte, before = as_numpy(model.wte.weight), model.config.ngram - 1
    tables = [
        (as_numpy(table), len(table), [base**back for back in range(n)])
        for n, (table, base) in enumerate(zip(ngram_tables(model), ngram_bases(model), strict=True), 2)
    ]
    stored = np.empty((1, before), np.int64)
    last_ids, tokens = torch.from_numpy(stored), list[int]()  # the last tokens, the newest first

    def embed(token: int) -> Floats:
        nonlocal tokens
        if cache.last_ids is not last_ids:
            tokens = [token] * before if cache.last_ids is None else cache.last_ids[0].tolist()[::-1]
            cache.last_ids = last_ids
        tokens = [token, *tokens[:before]]
        stored[0] = tokens[-2::-1]
        x: Floats = wte[token]
        # In torch these sums exceed 64 bits, which does not change them modulo the rows, a power of two.
        for table, rows, factors in tables:
            x = x + table[sum(map(mul, tokens, factors)) % rows]
        return x

    return embed
