"""Tensors that lie one behind another in memory, so that one operation does for all. Knows nothing of models."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch._utils import _unflatten_dense_tensors


def pack(tensors: Sequence[Tensor]) -> Tensor:
    """Moves the tensors, of one dtype, into memory of their own, one behind another; they stay the same objects.

    Returns all their numbers as one tensor (numbers).
    """
    flat = torch.cat([tensor.detach().flatten() for tensor in tensors])
    for tensor, part in zip(tensors, parts(flat, tensors), strict=True):
        tensor.data = part
    return flat


def parts(flat: Tensor, like: Sequence[Tensor]) -> Sequence[Tensor]:
    """Views of `flat`, one behind another, in the shapes of `like`."""
    return _unflatten_dense_tensors(flat, like)  # type: ignore[no-any-return, no-untyped-call]


def joined(tensors: Sequence[Tensor]) -> Tensor | None:
    """All numbers of the tensors, of one dtype, as one view (numbers), where they lie one behind another; None where
    they do not."""
    if not tensors:
        return None
    first, numbers = tensors[0], 0
    start, size = first.data_ptr(), first.element_size()
    for tensor in tensors:
        if tensor.data_ptr() != start + numbers * size or not tensor.is_contiguous():
            return None
        numbers += tensor.numel()
    offset = first.storage_offset()
    if (offset + numbers) * size > first.untyped_storage().nbytes():  # neighbours by chance, in pieces of their own
        return None
    return first.detach().as_strided((numbers,), (1,), offset)
