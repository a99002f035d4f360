"""The modern GPT's decoding backend for a CPU: the same as `model.py` for a prompt or one more position, but faster.

As in `layers/cpu_decoding.py`, one position of one sample runs in numpy, and everything else in torch without modules.
Weights and cache are the model's own, and `model.py` can continue after this step and vice versa.

In the shapes: B samples, T positions, C = n_embd, nh = n_head, hs = C / nh, L = n_layer, V = vocab_size,
K = positions that a short convolution reads, S = positions including those in the cache.
"""

import math
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from itertools import pairwise
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
from nanogpt.models.layers.numpy_layers import as_numpy, numpy_linear
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
    angles, rotation = rotary(config.block_size, config.n_embd // config.n_head, config.rotary_base)
    return numpy_for_one_position(
        cache.keys_values.size(2) == 1 and make_linear is None,
        lambda: batched_step(model, cache, angles, make_linear or torch_linear),
        lambda: single_step(model, cache, rotation),
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
        return softcap(head(norm(x[:, -1]) / model.config.temperature_scaling), model.config.logit_cap)  # (B, V)

    return step


def embedding(model: "Model", cache: "Cache") -> Callable[[Tensor], Tensor]:
    """Return `Model.embed` as a function of ids (B, T), which continue the cache."""
    before, bases = model.config.ngram - 1, ngram_bases(model)
    wte, *tables = (as_numpy(table) for table in (model.wte.weight, *ngram_tables(model)))

    def embed(ids: Tensor) -> Tensor:
        T = ids.size(1)
        last = ids[:, :1].expand(-1, before) if cache.last_ids is None else cache.last_ids
        context = torch.cat((last, ids), 1)
        cache.last_ids = context[:, T:]
        tokens = context.numpy()  # (B, before + T)
        x = wte.take(tokens[:, before:], 0)  # (B, T, C)
        for n, (table, base) in enumerate(zip(tables, bases, strict=True), 2):
            row = tokens[:, before:]
            for back in range(1, n):
                row = row + tokens[:, before - back : before - back + T] * base**back  # (B, T)
            x += table.take(row % len(table), 0)
        return torch.from_numpy(x)

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
    n, T, hs = q.size(2), k.size(2), q.size(3)
    if n == T:
        return F.scaled_dot_product_attention(q, k, v, is_causal=True)
    queries, keys, values = (each.flatten(0, 1) for each in (q, k, v))  # 3 × (B · nh, …, hs)
    scores = torch.baddbmm(mask_of_last(n, T), queries, keys.transpose(1, 2), alpha=hs**-0.5)  # (B · nh, n, T)
    return torch.bmm(torch.softmax(scores, -1), values).view(q.shape)


@lru_cache(4)
def mask_of_last(n: int, T: int) -> Tensor:
    """Return what is added to the scores (n, T) of the last n of T positions: -∞ for later positions, else 0."""
    with torch.inference_mode(False):
        return torch.full((n, T), -torch.inf).triu(T - n + 1)


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


def single_step(model: "Model", cache: "Cache", rotation: Callable[[int], Floats]) -> Callable[[int], Floats]:
    """Return the step from one token to logits (V) in numpy. rotation: from `rotary`.

    Its arrays are made once. A number is an array without dimensions: numpy makes one of any other number in each call,
    which takes as long as the operation on a small vector.
    """
    C, embed = model.config.n_embd, numpy_embedding(model, cache)
    recent = as_numpy(cache.recent)[:, :, 0].transpose(2, 0, 1, 3)  # (K - 1, L, 2, C), the oldest position first
    moves = list(pairwise(recent))
    weights = np.stack([convolution_weights(block) for block in blocks_of(model)], 1)  # (K - 1, L, 2, C)
    products, earlier = np.empty_like(weights), np.empty_like(weights[0])
    product_rows, all_earlier = products.reshape(len(products), -1), earlier.reshape(-1)
    total = np.ones(len(products), np.float32).dot
    blocks = [
        numpy_block(block, recent[-1, layer], earlier[layer], past)
        for layer, (block, past) in enumerate(zip(blocks_of(model), as_numpy(cache.keys_values)[:, :, 0], strict=True))
    ]
    mixes = np.array([block.mix.tolist() for block in blocks_of(model)], np.float32)  # (L, 2)
    start = np.array(mixes[0].sum())  # the first block mixes the first embedding with itself
    mixed_in, added = mixes[1:, 1:], np.empty((len(mixes) - 1, C), np.float32)  # (L - 1, 1), (L - 1, C)
    first_block, later_blocks = blocks[0], list(zip(blocks[1:], map(np.array, mixes[1:, 0]), added, strict=True))
    first, x = np.empty((2, C), np.float32)
    normalize = numpy_normalization(C)
    normalize_for_cap = numpy_normalization(C, 1 / (model.config.temperature_scaling * model.config.logit_cap))
    head, cap = numpy_linear(model.head.weight), np.array(model.config.logit_cap, np.float32)
    multiply, add, tanh = np.multiply, np.add, np.tanh

    def step(token: int) -> Floats:
        S = cache.length + 1
        multiply(recent, weights, products)
        total(product_rows, all_earlier)
        for older, newer in moves:
            older[...] = newer
        matrix = rotation(S - 1)  # (hs, hs)
        normalize(embed(token), first)
        multiply(first, start, x)
        first_block(x, matrix, S)
        if later_blocks:
            multiply(first, mixed_in, added)
        for block, keep, addend in later_blocks:
            multiply(x, keep, x)
            add(x, addend, x)
            block(x, matrix, S)
        cache.length = S
        logits = head(normalize_for_cap(x, first))  # (V)
        tanh(logits, logits)
        multiply(logits, cap, logits)
        return logits

    return step


def numpy_block(block: "Block", recent: Floats, earlier: Floats, past: Floats) -> Callable[[Floats, Floats, int], None]:
    """Return the function that adds attention and MLP of a block to x (C), with a matrix of `rotary` here, and S.

    recent: (2, C), the inputs of the two convolutions at this position, which the function writes. earlier: (2, C),
    what the positions before it add to their outputs. past: keys and values of the layer in the cache,
    (2, nh, block_size, hs).
    """
    (keys, values), (input_1, input_2), (earlier_1, earlier_2) = past, recent, earlier
    (nh, block_size, hs), C = keys.shape, input_1.size
    c_attn, attn_proj, c_fc, mlp_proj = (as_numpy(linear.weight).dot for linear in linear_layers(block))
    normalize, (mixed, update) = numpy_normalization(C), np.empty((2, C), np.float32)
    qkv, (rotated, squares) = np.empty((3 * nh, hs), np.float32), np.empty((2, 2 * nh, hs), np.float32)
    qk, kv, qkv_row = qkv[: 2 * nh], qkv[nh:].reshape(2, nh, hs), qkv.reshape(-1)
    # The variances of queries, which come before those of keys, are multiplied by hs: that scales the scores.
    scale = np.repeat(np.array([1, 1 / hs], np.float32), nh)  # (2 · nh), of the sums of squares
    eps, deviation, sums = scale * np.float32(hs * NORM_EPS), np.empty(2 * nh, np.float32), squares.dot
    query, divisors, ones = qkv[:nh, :, None], deviation[:, None], np.ones(max(hs, block_size), np.float32)
    y, totals, ones_of_head = np.empty((nh, 1, hs), np.float32), np.empty((nh, 1), np.float32), ones[:hs]
    y_row, totals_row = y.reshape(-1), totals.reshape(-1)
    hidden, zeros = np.empty(4 * C, np.float32), np.zeros(4 * C, np.float32)
    add, divide, exp, matmul, maximum, multiply = np.add, np.divide, np.exp, np.matmul, np.maximum, np.multiply
    sqrt, is_large = np.sqrt, hs > MAX_HEAD_WITHOUT_SHIFT

    def step(x: Floats, rotation: Floats, S: int) -> None:
        add(normalize(x, input_1), earlier_1, mixed)
        c_attn(mixed, qkv_row)
        qk.dot(rotation, rotated)
        multiply(rotated, rotated, squares)
        sums(ones_of_head, deviation)
        multiply(deviation, scale, deviation)
        add(deviation, eps, deviation)
        sqrt(deviation, deviation)
        divide(rotated, divisors, qk)
        past[:, :, S - 1] = kv
        weights = matmul(keys[:, :S], query)[:, :, 0]  # (nh, S)
        if is_large:
            weights -= maximum.reduce(weights, 1, keepdims=True)
        exp(weights, weights)
        weights.dot(ones[:S], totals_row)
        weights /= totals
        matmul(weights[:, None], values[:, :S], y)
        attn_proj(y_row, update)
        add(x, update, x)
        add(normalize(x, input_2), earlier_2, mixed)
        c_fc(mixed, hidden)
        maximum(hidden, zeros, out=hidden)
        multiply(hidden, hidden, hidden)
        mlp_proj(hidden, update)
        add(x, update, x)

    return step


def convolution_weights(block: "Block") -> Floats:
    """Return the weights (K - 1, 2, C) of both short convolutions, of the oldest position first."""
    return np.concatenate([as_numpy(each.weight)[::-1] for each in (block.conv_1, block.conv_2)], 1)


@lru_cache(1)
def rotary(block_size: int, hs: int, base: float) -> tuple[tuple[Tensor, Tensor], Callable[[int], Floats]]:
    """Return RoPE's angles at all positions, and the function from a position to a matrix (hs, hs).

    The angles: cosine and sine, two (block_size, hs / 2). Rows of queries and keys times the matrix are centred and
    rotated: one product is faster than the operations of which it consists.
    """
    with torch.inference_mode(False):
        angles = rotary_angles(0, block_size, hs, base, torch.empty(0))
    cos, sin = map(as_numpy, angles)
    half, diagonal = hs // 2, np.arange(hs // 2)

    @lru_cache(max(1, CACHED_ROTATIONS // (ROTATIONS_AT_ONCE * hs**2)))
    def matrices(part: int) -> Floats:  # (ROTATIONS_AT_ONCE, hs, hs)
        places = slice(part * ROTATIONS_AT_ONCE, (part + 1) * ROTATIONS_AT_ONCE)
        c, s = cos[places], sin[places]
        means = np.concatenate((c - s, c + s), 1) / hs  # (ROTATIONS_AT_ONCE, hs), of the columns of the rotation
        made: Floats = np.repeat(-means[:, None].astype(np.float32), hs, 1)
        # number i and number i + hs / 2 are rotated together
        for row, column, numbers in ((0, 0, c), (0, half, s), (half, 0, -s), (half, half, c)):
            made[:, row + diagonal, column + diagonal] += numbers
        return made

    def matrix(place: int) -> Floats:
        part, number = divmod(place, ROTATIONS_AT_ONCE)
        of_part: Floats = matrices(part)[number]
        return of_part

    return angles, matrix


def numpy_normalization(C: int, factor: float = 1.0) -> Callable[[Floats, Floats], Floats]:
    """Return the function that writes factor · norm(x) (C) into its second argument, and returns it."""
    mean, number = np.full(C, 1 / C, np.float32), np.empty((), np.float32)
    subtract, multiply, sqrt = np.subtract, np.multiply, math.sqrt

    def normalize(x: Floats, out: Floats) -> Floats:
        x.dot(mean, number)
        subtract(x, number, out)
        out.dot(out, number)
        number[()] = factor / sqrt(float(number) / C + NORM_EPS)
        multiply(out, number, out)
        return out

    return normalize


def numpy_embedding(model: "Model", cache: "Cache") -> Callable[[int], Floats]:
    """Return `Model.embed` as a function of the token that continues the cache."""
    wte, before = as_numpy(model.wte.weight), model.config.ngram - 1
    tables = [
        (as_numpy(table), len(table), [base**back for back in range(n)])
        for n, (table, base) in enumerate(zip(ngram_tables(model), ngram_bases(model), strict=True), 2)
    ]
    last_ids, tokens = torch.empty((1, before), dtype=torch.long), list[int]()  # the last tokens, the newest first
    stored, x, add = memoryview(last_ids.numpy()[0]), np.empty_like(wte[0]), np.add

    def embed(token: int) -> Floats:
        nonlocal tokens
        if cache.last_ids is not last_ids:
            tokens = [token] * before if cache.last_ids is None else cache.last_ids[0].tolist()[::-1]
            cache.last_ids = last_ids
        tokens = [token, *tokens[:before]]
        for place in range(before):
            stored[place] = tokens[before - 1 - place]
        total: Floats = wte[token]
        # In torch these sums exceed 64 bits, which does not change them modulo the rows, a power of two.
        for table, rows, factors in tables:
            total = add(total, table[sum(map(mul, tokens, factors)) % rows], x)
        return total

    return embed
