"""Checkpoints that are written beside: what training does meanwhile, and when they are told as saved."""

import threading
import time
from contextlib import closing

import pytest

from nanogpt.events import Health, Saved, Step
from nanogpt.training import CommandQueue, Save, Stop, train
from nanogpt.training import async_checkpoint as saving

WAIT_S = 60


class Disk:
    """Takes checkpoints as slowly as it is told, and remembers how many it took at a time."""

    def __init__(self):
        self.ready, self.at_once, self.most, self.taken = threading.Event(), 0, 0, []

    def __call__(self, snapshot, is_best):
        self.at_once += 1
        self.most = max(self.most, self.at_once)
        before = {name: tensor.clone() for name, tensor in snapshot.model.items()}
        assert self.ready.wait(WAIT_S)
        assert all(bool((before[name] == tensor).all()) for name, tensor in snapshot.model.items())
        self.at_once -= 1
        self.taken.append(snapshot.progress.step)
        return f"step-{snapshot.progress.step}"


def test_training_goes_on_while_a_checkpoint_of_the_weights_as_they_were_is_written(tiny, tokens):
    disk, seen = Disk(), []
    for event in train(tiny(checkpoint_interval=4, eval_interval=12), tokens, save=disk):
        seen.append(event)
        if isinstance(event, Step) and event.step == 7:
            assert not any(isinstance(each, Saved) for each in seen)
            disk.ready.set()
    assert [event.step for event in seen if isinstance(event, Saved)] == disk.taken == [4, 8, 12]
    assert disk.most == 1


def test_it_is_told_as_saved_only_when_it_is_on_disk_and_the_end_waits_for_that(tiny, tokens):
    disk, seen = Disk(), []
    threading.Timer(0.3, disk.ready.set).start()
    for event in train(tiny(), tokens, save=disk):
        seen.append(event)
        if isinstance(event, Saved):
            assert event.step in disk.taken
    assert [type(event).__name__ for event in seen[-2:]] == ["Saved", "Finished"]


@pytest.mark.parametrize("save", [True, False])
def test_a_stop_waits_for_what_is_being_written(tiny, tokens, save):
    disk, commands, seen = Disk(), CommandQueue(), []
    for event in train(tiny(checkpoint_interval=4), tokens, save=disk, commands=commands):
        seen.append(event)
        if isinstance(event, Step) and event.step == 5:
            commands.put(Stop(save=save))
            threading.Timer(0.3, disk.ready.set).start()
    assert [event.step for event in seen if isinstance(event, Saved)] == ([4, 5] if save else [4])


def test_closing_the_iterator_leaves_nothing_half_written(tiny, tokens):
    disk = Disk()
    with closing(train(tiny(checkpoint_interval=4), tokens, save=disk)) as training:
        for event in training:
            if isinstance(event, Step) and event.step == 5:
                break
        threading.Timer(0.3, disk.ready.set).start()
    assert disk.taken == [4]


def test_what_the_disk_refuses_is_tried_again_as_it_was_and_nothing_is_trained_meanwhile(tiny, tokens, monkeypatch):
    monkeypatch.setattr(saving, "RETRY_S", 0.05)
    tries = []

    def save(snapshot, is_best):
        tries.append(snapshot.progress.step)
        if tries.count(4) < 3:
            time.sleep(0.05)
            raise OSError(28, "the disk is full")
        return "step"

    seen = list(train(tiny(checkpoint_interval=4, eval_interval=12), tokens, save=save))
    assert tries == [4, 4, 4, 8, 12]
    waiting, going_on = (seen.index(event) for event in seen if isinstance(event, Health))
    assert not any(isinstance(event, Step) for event in seen[waiting:going_on])
    assert [event.step for event in seen if isinstance(event, Saved)] == [4, 8, 12]


def test_a_checkpoint_that_is_asked_for_while_it_is_being_written_is_written_once(tiny, tokens):
    disk, commands, seen = Disk(), CommandQueue(), []
    for event in train(tiny(eval_interval=100), tokens, save=disk, commands=commands):
        seen.append(event)
        if isinstance(event, Step) and event.step == 3:
            commands.put(Save())
            commands.put(Save())
            threading.Timer(0.3, disk.ready.set).start()
    assert disk.taken == [3, 12]
