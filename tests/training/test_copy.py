"""Copies of the weights, taken while training goes on."""

from typing import Any

import torch

from nanogpt.events import Acknowledged, Notice, Step
from nanogpt.training import CommandQueue, Copy, Pause, Resume, loop, train


def trained(config, tokens, at_step=0, *sent):
    commands, events = CommandQueue(), []
    for event in train(config, tokens, commands=commands):
        events.append(event)
        if isinstance(event, Step) and event.step == at_step:
            for command in sent:
                commands.put(command)
    return events


def losses(events):
    return [event.loss for event in events if isinstance(event, Step)]


def test_a_copy_has_the_weights_of_its_step_and_keeps_them(tiny, tokens):
    copies, at_the_time = [], []

    def receive(model, step):
        copies.append((model, step))
        at_the_time.append({name: tensor.clone() for name, tensor in model.state_dict().items()})

    last: list[Any] = []
    trained(tiny(), tokens, 3, Copy(receive))
    trained(tiny(), tokens, 12, Copy(lambda model, _: last.append(model)))
    ((model, step),) = copies
    assert step == 3
    assert not model.training
    assert all(torch.equal(tensor, at_the_time[0][name]) for name, tensor in model.state_dict().items())
    assert not torch.equal(model.get_parameter("wte.weight"), last[0].get_parameter("wte.weight"))


def test_copying_changes_nothing_of_the_training_and_is_not_recorded(tiny, tokens):
    def zero(model, step):
        model.get_parameter("wte.weight").data.zero_()

    config = tiny(dropout=0.2)
    copied = trained(config, tokens, 3, Copy(zero))
    assert losses(copied) == losses(trained(config, tokens))
    assert not any(isinstance(event, Acknowledged) for event in copied)


def test_a_copy_for_which_there_is_no_memory_is_refused_and_training_goes_on(tiny, tokens, monkeypatch):
    def copy(model):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(loop, "merged_copy", copy)
    received = []
    events = trained(tiny(), tokens, 3, Copy(lambda *given: received.append(given)))
    assert received == [(None, 3)]
    assert [event.text for event in events if isinstance(event, Notice)] == [
        "out of memory: the weights are not copied, training continues"
    ]
    assert losses(events) == losses(trained(tiny(), tokens))


def test_a_paused_training_gives_copies_too(tiny, tokens):
    steps = []
    trained(tiny(), tokens, 4, Pause(), Copy(lambda _, step: steps.append(step)), Resume())
    assert steps == [4]
