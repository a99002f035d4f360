"""Positions without parameters: sinusoidal (Vaswani et al. 2017), rotary (Su et al. 2021), ALiBi (Press et al. 2022).

In the shapes: T positions, the first of which is number `past`; C the width, hs the size of a head, nh heads.
"""

import math

import torch
from torch import Tensor

from nanogpt.models.layers import cpu_gradients


def sinusoidal_positions(past: int, T: int, C: int, like: Tensor) -> Tensor:
    """Return the vectors (T, C) of positions, which are added to embeddings that are multiplied by √C.

    Channel 2i is sin(position / 10000^(2i / C)) and channel 2i + 1 its cosine. Result on the device of `like`.
    """
    frequencies = 10000.0 ** (-torch.arange(0, C, 2, device=like.device) / C)  # (⌈C / 2⌉)
    angles = torch.arange(past, past + T, device=like.device)[:, None] * frequencies
    return torch.stack((angles.sin(), angles.cos()), -1).flatten(1)[:, :C].to(like.dtype)


def rotary_angles(past: int, T: int, head_size: int, base: float, like: Tensor) -> tuple[Tensor, Tensor]:
    """Return cosine and sine of the angles position · base^(-2i / hs): two (T, hs / 2), for `apply_rotary`."""
    half = head_size // 2
    frequencies = base ** -torch.linspace(0, 1, half + 1, device=like.device)[:-1]
    angles = torch.arange(past, past + T, device=like.device)[:, None] * frequencies
    return angles.cos().to(like.dtype), angles.sin().to(like.dtype)


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Return x (…, hs) with each pair of numbers rotated by an angle that grows with the position.

    A pair is number i and number i + hs / 2. cos, sin: from `rotary_angles`, in a shape that broadcasts with (…, hs/2).
    """
    if cpu_gradients.applies(x):
        return cpu_gradients.Rotary.apply(x, cos, sin)  # type: ignore[no-any-return, no-untyped-call]
    a, b = x.chunk(2, dim=-1)
    return torch.cat((a * cos - b * sin, a * sin + b * cos), dim=-1)


def alibi_slopes(n_head: int) -> list[float]:
    """Return for each head the amount that attention scores lose with each position of distance.

    For a power of two the slopes are the geometric sequence 2^(-8/nh), 2^(-16/nh), …, 2^-8. Other numbers of heads take
    the slopes of the next smaller power of two, and then every second one of the next larger.
    """
    power = 2 ** int(math.log2(n_head))
    slopes = [2 ** (-8 * head / power) for head in range(1, power + 1)]
    if power < n_head:
        slopes += alibi_slopes(2 * power)[::2][: n_head - power]
    return slopes
