"""What a person asks for while the disk refuses the record: it holds, and how the run stands says so."""

import errno
import os
import threading
import time

import pytest

from nanogpt import runs
from nanogpt.events import Acknowledged, Finished, Health, Step
from nanogpt.files import write_atomically
from nanogpt.runs import recorder
from nanogpt.training import CommandQueue, Pause, Resume


@pytest.fixture
def disk(monkeypatch):
    """Refuses the status while it is full; training looks again at once."""
    disk = threading.Event()

    def write(path, text):
        if disk.is_set() and path.name == "status.json":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        write_atomically(path, text)

    monkeypatch.setattr(recorder, "write_atomically", write)
    monkeypatch.setattr(recorder, "RETRY_S", 0.02)
    return disk


def told(events):
    """What was asked and what hindered, in order."""
    return [
        event.command if isinstance(event, Acknowledged) else event.state
        for event in events
        if isinstance(event, Acknowledged | Health)
    ]


def test_a_pause_that_was_asked_for_outlasts_a_full_disk(small, disk):
    folder, commands, events = runs.new_folder("run", name="one"), CommandQueue(), []

    def resume_when_paused_on_disk():
        end = time.monotonic() + 60
        while runs.summary(folder).state != "paused" and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.3)  # time to go on in, if it wrongly did
        commands.put(Resume())

    resuming = threading.Thread(target=resume_when_paused_on_disk)
    for event in runs.start(small(), folder, commands=commands):
        events.append(event)
        if isinstance(event, Step) and event.step == 5:
            disk.set()
        if isinstance(event, Health) and event.state == "waiting":
            commands.put(Pause())
        if isinstance(event, Acknowledged) and event.command == "Pause":
            disk.clear()
            resuming.start()
    resuming.join()
    assert told(events) == ["waiting", "Pause", "Resume", "going on"]
    assert isinstance(events[-1], Finished)
    assert events[-1].step == 12


def test_resuming_does_not_make_a_full_disk_look_as_if_training_went_on(small, disk):
    folder, commands, events = runs.new_folder("run", name="one"), CommandQueue(), []
    for event in runs.start(small(), folder, commands=commands):
        events.append(event)
        if isinstance(event, Step) and event.step == 5:
            disk.set()
        if told([event]) == ["waiting"]:
            if told(events).count("waiting") == 1:
                commands.put(Resume())
            else:
                disk.clear()
    assert told(events) == ["waiting", "Resume", "waiting", "going on"]
    assert runs.summary(folder).step == 12
