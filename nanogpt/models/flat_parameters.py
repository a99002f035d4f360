"""The parameters of a model in one block of memory and their gradients in another, for single operations over all."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch._utils import _unflatten_dense_tensors

from nanogpt.heap import outside_heap


class FlatParameters:
    """Owns the memory of parameters of one dtype, in the given order; the parameters stay the same objects.

    `weights_of` and `gradients_of` return many of them as one tensor. Valid as long as no parameter gets other memory,
    as `nn.Module.to` does.
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._weights = flatten(parameters)
        self._gradients: Tensor | None = None
        self._ranges: dict[nn.Parameter, tuple[int, int]] = {}  # begin and end in the memory
        begin = 0
        for parameter in parameters:
            self._ranges[parameter] = begin, begin + parameter.numel()
            begin += parameter.numel()

    @property
    def parameters(self) -> list[nn.Parameter]:
        """All parameters, in the order of the memory."""
        return list(self._ranges)

    def weights_of(self, parameters: Sequence[nn.Parameter]) -> Tensor | None:
        """Return these parameters as one view (numbers); None unless they are adjacent and in order."""
        return self.view(self._weights, parameters)

    def new_gradients(self) -> Tensor:
        """Return memory (numbers) for the gradients of all parameters, in their order, with any content.

        A backward pass fills it and returns its `views_of` as the gradients, by which `gradients_of` recognizes them.
        It is the memory of earlier gradients once all parameters have dropped theirs: those are valid until the next
        backward pass, and two passes of one graph must not share this object.
        """
        if any(parameter.grad is not None for parameter in self._ranges):  # autograd adds these to them
            return torch.empty_like(self._weights)
        if self._gradients is None:
            with outside_heap():
                self._gradients = torch.empty_like(self._weights)
        return self._gradients

    def release_gradients(self) -> None:
        """Free the memory of gradients that all parameters have dropped; the next backward pass makes it anew."""
        self._gradients = None

    def gradients_of(self, parameters: Sequence[nn.Parameter]) -> Tensor | None:
        """Return the gradients of these parameters as one view (numbers); None if they are in other memory."""
        if self._gradients is None or (view := self.view(self._gradients, parameters)) is None:
            return None
        size = view.element_size()
        start = self._gradients.data_ptr()
        for parameter in parameters:  # autograd may have made a copy, or another backward pass other gradients
            address = start + self._ranges[parameter][0] * size
            if parameter.grad is None or parameter.grad.data_ptr() != address or not parameter.grad.is_contiguous():
                return None
        return view

    def views_of(self, memory: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """Return the view of each of these parameters in `memory` (numbers), in its shape."""
        return [memory[slice(*self._ranges[each])].view(each.shape) for each in parameters]

    def view(self, memory: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor | None:
        """Return these parameters in `memory` (numbers) as one view; None unless they are adjacent and in order."""
        if not parameters or parameters[0] not in self._ranges:
            return None
        begin = end = self._ranges[parameters[0]][0]
        for parameter in parameters:
            place = self._ranges.get(parameter)
            if place is None or place[0] != end:
                return None
            end = place[1]
        return memory[begin:end]


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """Move tensors of one dtype into one new block of memory, in order, and return it (numbers).

    The tensors stay the same objects.
    """
    with outside_heap():
        flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
    for tensor, part in zip(tensors, split_like(flat, tensors), strict=True):
        tensor.data = part
    return flat


def split_like(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return consecutive views of `flat` (numbers) in the shapes of `like`."""
    return list(_unflatten_dense_tensors(flat, like))  # type: ignore[no-untyped-call]
