"""Parameters in one piece of memory: neighbours are seen as one, and only those."""

import torch
from torch import Tensor, nn

from nanogpt.models.flat_parameters import FlatParameters, flatten
from tests.narrowing import expect


def three():
    return [nn.Parameter(torch.randn(2, 3)), nn.Parameter(torch.randn(4)), nn.Parameter(torch.randn(()))]


def test_flattening_keeps_objects_and_numbers_and_the_whole_is_their_memory():
    tensors = [torch.randn(2, 3), torch.randn(4)]
    before = [tensor.clone() for tensor in tensors]
    flat = flatten(tensors)
    assert all(torch.equal(now, then) for now, then in zip(tensors, before, strict=True))
    flat += 1
    assert all(torch.equal(now, then + 1) for now, then in zip(tensors, before, strict=True))


def test_neighbours_in_order_are_one_view_of_the_weights():
    parameters = three()
    numbers = torch.cat([parameter.detach().flatten() for parameter in parameters])
    flat = FlatParameters(parameters)
    assert torch.equal(expect(Tensor, flat.weights_of(parameters)), numbers)
    assert torch.equal(expect(Tensor, flat.weights_of(parameters[1:])), numbers[6:])
    expect(Tensor, flat.weights_of(parameters[:1])).zero_()
    assert parameters[0].tolist() == [[0, 0, 0], [0, 0, 0]]


def test_what_is_no_neighbour_is_none():
    parameters = three()
    flat = FlatParameters(parameters)
    assert flat.weights_of([]) is None
    assert flat.weights_of(parameters[::-1]) is None
    assert flat.weights_of([parameters[0], parameters[2]]) is None
    assert flat.weights_of([*parameters, nn.Parameter(torch.zeros(1))]) is None


def test_gradients_that_were_given_out_are_found_as_one():
    parameters = three()
    flat = FlatParameters(parameters)
    memory = flat.new_gradients()
    for parameter, piece in zip(parameters, flat.views_of(memory, parameters), strict=True):
        parameter.grad = piece.fill_(parameter.numel())
    assert expect(Tensor, flat.gradients_of(parameters)).tolist() == [6] * 6 + [4] * 4 + [1]
    assert expect(Tensor, flat.gradients_of(parameters[1:])).data_ptr() == memory[6:].data_ptr()


def test_gradients_that_lie_elsewhere_are_not_taken_for_these():
    parameters = three()
    flat = FlatParameters(parameters)
    assert flat.gradients_of(parameters) is None, "there are none yet"
    memory = flat.new_gradients()
    for parameter, piece in zip(parameters, flat.views_of(memory, parameters), strict=True):
        parameter.grad = piece
    parameters[1].grad = torch.ones(4)
    assert flat.gradients_of(parameters) is None
    assert flat.gradients_of(parameters[:1]) is not None


def test_memory_for_the_next_micro_batch_does_not_hide_the_gradients_that_it_is_added_to():
    parameters = three()
    flat = FlatParameters(parameters)
    first = flat.new_gradients()
    for parameter, piece in zip(parameters, flat.views_of(first, parameters), strict=True):
        parameter.grad = piece
    second = flat.new_gradients()
    assert second.data_ptr() != first.data_ptr()
    assert expect(Tensor, flat.gradients_of(parameters)).data_ptr() == first.data_ptr()


def test_memory_of_gradients_is_used_again_once_they_are_dropped():
    parameters = three()
    flat = FlatParameters(parameters)
    first = flat.new_gradients()
    parameters[2].grad = flat.views_of(first, parameters[2:])[0]
    assert flat.new_gradients().data_ptr() != first.data_ptr()
    parameters[2].grad = None
    assert flat.new_gradients().data_ptr() == first.data_ptr()
