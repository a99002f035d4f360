"""The cells of a layer of an LSTM, one position after another."""

from collections.abc import Callable

import torch
from torch import Tensor


def run_cells(
    projected: Tensor, recurrent: Callable[[Tensor], Tensor], h: Tensor, c: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the hidden states (B, T, C), and the last hidden and cell state (B, C).

    projected: the inputs of all positions times the input weights, (B, T, 4·C). recurrent: multiplies a hidden state by
    the recurrent weights. h, c: (B, C), the states before.
    """
    outputs = []
    for inputs in projected.unbind(1):  # (B, 4·C) each
        i, f, g, o = (inputs + recurrent(h)).chunk(4, dim=1)  # input, forget, candidate, output
        c = torch.sigmoid(f) * c + torch.sigmoid(i) * torch.tanh(g)
        h = torch.sigmoid(o) * torch.tanh(c)
        outputs.append(h)
    return torch.stack(outputs, 1), h, c
