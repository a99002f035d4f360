"""Layers for one position of one sample, in numpy on the memory of a model's weights.

A call to numpy costs a fraction of a call to torch, which dominates in a small model, and its matrix-vector product
reads memory up to twice as fast, which dominates in a large one. The sums over a vector are dot products, because
numpy's reductions take longer to start.
"""

import math
from collections.abc import Callable

import numpy as np
from torch import Tensor, nn

from nanogpt.models.base import Floats
from nanogpt.models.layers.activations import ACTIVATIONS
from nanogpt.models.layers.norms import NoNorm, RMSNorm

Layer = Callable[[Floats], Floats]

GELU = np.float32(math.sqrt(2 / math.pi))
CUBE = np.float32(0.044715)
HALF, ONE = np.float32(0.5), np.float32(1)


def as_numpy(tensor: Tensor) -> Floats:
    """Return the memory of the tensor as an array."""
    return tensor.detach().numpy()


def numpy_linear(weight: Tensor, bias: Tensor | None = None) -> Layer:
    """Return the function from x (in) to weight · x + bias (out). weight: (out, in)."""
    multiply = as_numpy(weight).dot
    if bias is None:
        return multiply
    added = as_numpy(bias)
    return lambda x: multiply(x) + added


def numpy_norm(norm: nn.LayerNorm) -> Layer:
    """Return a norm of `new_norm` as a function of x (C)."""
    if isinstance(norm, NoNorm):
        return lambda x: x
    weight, bias = as_numpy(norm.weight), None if norm.bias is None else as_numpy(norm.bias)
    C, eps, sqrt = weight.size, norm.eps, math.sqrt
    mean = np.full(C, 1 / C, np.float32)

    def rms_norm(x: Floats) -> Floats:
        y: Floats = x * (1 / sqrt(x.dot(x) / C + eps))
        y *= weight
        return y

    def layer_norm(x: Floats) -> Floats:
        y: Floats = x - x.dot(mean)
        y *= 1 / sqrt(y.dot(y) / C + eps)
        y *= weight
        return y if bias is None else np.add(y, bias, y)

    return rms_norm if isinstance(norm, RMSNorm) else layer_norm


def softmax(scores: Floats) -> Floats:
    """Replace scores (…, n) by their softmax over the last dimension, and return it."""
    # `ufunc.reduce` avoids the Python layer of `max` and `sum`
    scores -= np.maximum.reduce(scores, -1, keepdims=True)
    np.exp(scores, scores)
    scores /= np.add.reduce(scores, -1, keepdims=True)
    return scores


def rotate(x: Floats, cos: Floats, sin: Floats) -> Floats:
    """Replace x (n, hs) by what `apply_rotary` returns for it, and return it. cos, sin: from `rotary_tables`."""
    halves = x.reshape(-1, 2, cos.shape[-1])
    turned = halves[:, ::-1] * sin
    halves *= cos
    halves += turned
    return x


def rotary_tables(cos: Tensor, sin: Tensor) -> tuple[Floats, Floats]:
    """Return factors (T, 2, hs / 2) for both halves of a head, from the angles (T, hs / 2) of each position."""
    cosine, sine = as_numpy(cos), as_numpy(sin)
    return np.stack((cosine, cosine), 1), np.stack((-sine, sine), 1)


def gelu(x: Floats) -> Floats:
    """Return x/2 · (1 + tanh(√(2/π) · (x + 0.044715 x³)))."""
    inner = x * x
    inner *= CUBE * GELU
    inner += GELU
    inner *= x
    np.tanh(inner, inner)
    inner += ONE
    inner *= HALF
    inner *= x
    return inner


def relu(x: Floats) -> Floats:
    """Return max(x, 0)."""
    return np.maximum(x, 0)


def relu_squared(x: Floats) -> Floats:
    """Return max(x, 0)²."""
    x = np.maximum(x, 0)
    x *= x
    return x


def sigmoid(x: Floats) -> Floats:
    """Return 1 / (1 + exp(-x)), as a tanh, which does not overflow."""
    y = x * HALF
    np.tanh(y, y)
    y += ONE
    y *= HALF
    return y


def swiglu(x: Floats) -> Floats:
    """Return SiLU(a) · b (n), where a and b are the halves of x (2n)."""
    a, b = x.reshape(2, -1)
    y = sigmoid(a)
    y *= a
    y *= b
    return y


# by the function in torch
NUMPY_ACTIVATIONS: dict[Callable[[Tensor], Tensor], Layer] = {
    ACTIVATIONS["gelu"]: gelu,
    ACTIVATIONS["relu"]: relu,
    ACTIVATIONS["relu2"]: relu_squared,
    ACTIVATIONS["swiglu"]: swiglu,
}
