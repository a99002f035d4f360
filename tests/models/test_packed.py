"""Tensors one behind another: packed, they are seen as one, and only then."""

import torch

from nanogpt.models.parts.packed import joined, pack, parts


def three():
    return [torch.randn(2, 3), torch.randn(4), torch.randn(())]


def test_packing_keeps_objects_and_numbers_and_the_whole_is_their_memory():
    tensors = three()
    before = [tensor.clone() for tensor in tensors]
    flat = pack(tensors)
    assert all(torch.equal(now, then) for now, then in zip(tensors, before, strict=True))
    flat += 1
    assert all(torch.equal(now, then + 1) for now, then in zip(tensors, before, strict=True))


def test_parts_are_views_in_the_shapes_asked_for():
    flat = torch.arange(11.0)
    first, second, third = parts(flat, three())
    assert (first.shape, second.tolist(), third.item()) == ((2, 3), [6, 7, 8, 9], 10)
    second.zero_()
    assert flat[6:10].tolist() == [0, 0, 0, 0]


def test_what_lies_one_behind_another_is_joined_without_a_copy():
    tensors = three()
    flat = pack(tensors)
    assert joined(tensors).data_ptr() == flat.data_ptr()
    assert torch.equal(joined(tensors), flat)
    assert torch.equal(joined(tensors[1:]), flat[6:])


def test_what_does_not_is_not_joined():
    tensors = three()
    assert joined([]) is None
    assert joined(tensors) is None
    pack(tensors)
    assert joined(tensors[::-1]) is None
    assert joined([tensors[0], tensors[2]]) is None
    assert joined([torch.randn(3, 2).t()]) is None, "its numbers lie in another order"
