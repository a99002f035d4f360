"""A model's parameters in one piece of memory, and their gradients in another, so that one operation does for all."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch._utils import _unflatten_dense_tensors


class FlatParameters:
    """Owns the memory of parameters of one dtype, which lie in it in the given order and stay the same objects.

    Who needs many of them at once asks for `weights_of` or `gradients_of` them. Good for as long as no parameter is
    given memory of its own (as `nn.Module.to` does).
    """

    def __init__(self, parameters: Sequence[nn.Parameter]) -> None:
        self._weights = flatten(parameters)
        self._gradients: Tensor | None = None
        self._places: dict[nn.Parameter, tuple[int, int]] = {}
        begin = 0
        for parameter in parameters:
            self._places[parameter] = begin, begin + parameter.numel()
            begin += parameter.numel()

    def weights_of(self, parameters: Sequence[nn.Parameter]) -> Tensor | None:
        """Return all numbers of these parameters as one view (numbers); None where they are no neighbours in order."""
        return self.view(self._weights, parameters)

    def new_gradients(self) -> Tensor:
        """Return uninitialised memory (numbers) for the gradients of all parameters, in their order.

        A backward pass that fills it returns its `pieces` as the gradients; then `gradients_of` finds them.
        """
        memory = torch.empty_like(self._weights)
        if next(iter(self._places)).grad is None:  # else autograd adds them to those of the micro-batch before
            self._gradients = memory
        return memory

    def gradients_of(self, parameters: Sequence[nn.Parameter]) -> Tensor | None:
        """Return all gradients of these parameters as one view (numbers); None where they lie elsewhere."""
        if self._gradients is None or (view := self.view(self._gradients, parameters)) is None:
            return None
        size = view.element_size()
        start = self._gradients.data_ptr()
        for parameter in parameters:  # autograd may have made a copy, or another backward pass gradients of its own
            at = start + self._places[parameter][0] * size
            if parameter.grad is None or parameter.grad.data_ptr() != at or not parameter.grad.is_contiguous():
                return None
        return view

    def pieces(self, memory: Tensor, parameters: Sequence[nn.Parameter]) -> list[Tensor]:
        """Return the part of each of these parameters in memory for all (numbers), in its shape."""
        return [memory[slice(*self._places[each])].view(each.shape) for each in parameters]

    def view(self, memory: Tensor, parameters: Sequence[nn.Parameter]) -> Tensor | None:
        """Return the part of these parameters in memory for all; None where they are no neighbours in order."""
        if not parameters or parameters[0] not in self._places:
            return None
        begin = end = self._places[parameters[0]][0]
        for parameter in parameters:
            place = self._places.get(parameter)
            if place is None or place[0] != end:
                return None
            end = place[1]
        return memory[begin:end]


def flatten(tensors: Sequence[Tensor]) -> Tensor:
    """Move the tensors, of one dtype, into memory of their own, in order; they stay the same objects.

    Return all their numbers as one tensor (numbers).
    """
    flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
    for tensor, part in zip(tensors, cut(flat, tensors), strict=True):
        tensor.data = part
    return flat


def cut(flat: Tensor, like: Sequence[Tensor]) -> list[Tensor]:
    """Return consecutive views of `flat` in the shapes of `like`."""
    return list(_unflatten_dense_tensors(flat, like))  # type: ignore[no-untyped-call]
