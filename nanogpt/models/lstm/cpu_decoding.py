"""The LSTM's decoding backend for a CPU: the same as `model.py` for a prompt or one more position, but faster.

As in `layers/cpu_decoding.py`, one position of one sample runs in numpy, and everything else in torch without modules.

In the shapes: B samples, T positions, C = n_embd, V = vocab_size.
"""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, cast

import numpy as np
from torch import Tensor
from torch.nn import functional as F

from nanogpt.models.base import DecodeStep, Floats, MakeLinear
from nanogpt.models.layers.cpu_decoding import numpy_for_one_position, torch_linear
from nanogpt.models.layers.numpy_layers import as_numpy, numpy_linear
from nanogpt.models.lstm.cells import run_cells

if TYPE_CHECKING:
    from nanogpt.models.lstm.model import Cache, Layer, Model


def decode_step(model: "Model", cache: "Cache", make_linear: MakeLinear | None = None) -> DecodeStep:
    """Return the function from ids (B, T) to the logits (B, V) of the next token, which advances the cache.

    For the arguments see `layers.cpu_decoding.decode_step`.
    """
    return numpy_for_one_position(
        cache.h.size(1) == 1 and make_linear is None,
        lambda: batched_step(model, cache, make_linear or torch_linear),
        lambda: single_step(model, cache),
    )


def batched_step(model: "Model", cache: "Cache", make_linear: MakeLinear) -> Callable[[Tensor], Tensor]:
    """Return the step from ids (B, T) to logits (B, V) in torch."""
    layers = [
        (
            make_linear(layer.input.weight, layer.input.bias, "none"),
            make_linear(layer.recurrent.weight, None, "none"),
            *states,
        )
        for layer, *states in zip(cast("Iterable[Layer]", model.layers), cache.h, cache.c, strict=True)
    ]
    head = make_linear(model.head.weight, model.head.bias, "none")

    def step(ids: Tensor) -> Tensor:
        x = F.embedding(ids, model.wte.weight)  # (B, T, C)
        for project, recurrent, h, c in layers:
            x, last_h, last_c = run_cells(project(x), recurrent, h, c)
            h.copy_(last_h)
            c.copy_(last_c)
        cache.length += ids.size(1)
        return head(x[:, -1])  # (B, V)

    return step


def single_step(model: "Model", cache: "Cache") -> Callable[[int], Floats]:
    """Return the step from one token to logits (V) in numpy."""
    wte, C = as_numpy(model.wte.weight), model.config.n_embd
    layers = [
        (numpy_linear(layer.input.weight, layer.input.bias), numpy_linear(layer.recurrent.weight), h[0], c[0])
        for layer, h, c in zip(cast("Iterable[Layer]", model.layers), as_numpy(cache.h), as_numpy(cache.c), strict=True)
    ]
    head = numpy_linear(model.head.weight, model.head.bias)
    # sigmoid(x) = (tanh(x / 2) + 1) / 2: one call is enough for the four gates (input, forget, candidate, output)
    scale = np.array([0.5, 0.5, 1, 0.5], np.float32).reshape(4, 1)
    shift = np.array([0.5, 0.5, 0, 0.5], np.float32).reshape(4, 1)

    def step(token: int) -> Floats:
        x = wte[token]  # (C)
        for project, recurrent, h, c in layers:
            gates = (project(x) + recurrent(h)).reshape(4, C)
            gates *= scale
            np.tanh(gates, gates)
            gates *= scale
            gates += shift
            i, f, g, o = gates
            c *= f
            c += i * g
            x = np.tanh(c, h)
            x *= o
        cache.length += 1
        return head(x)  # (V)

    return step
