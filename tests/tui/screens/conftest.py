"""What leaves the processor to the screens: trainings that pause at each step, and a form of a new run that takes no
steps to tell the time. A test that is about these steps asks for `real_measuring`."""

import time
from collections.abc import Iterator
from typing import Any

import pytest

from nanogpt.events import Measured
from nanogpt.training.control import Command, CommandQueue
from nanogpt_tui.session import speed_measurement
from nanogpt_tui.session.speed_measurement import FreeMemory, Result

REAL = speed_measurement.measure


def measured_at_once(config: Any, dataset: str) -> Iterator[Result]:
    yield FreeMemory(device="cpu", free=8_000_000_000)
    yield Measured(seconds_per_step=0.012, batch_size=config.data.batch_size, device="cpu", dtype="float32", threads=2)


@pytest.fixture(autouse=True)
def no_measuring(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_measurement, "measure", measured_at_once)


@pytest.fixture(autouse=True)
def unhurried_training(monkeypatch: pytest.MonkeyPatch) -> None:
    take = CommandQueue.take

    def slowly(queue: CommandQueue) -> list[Command]:
        time.sleep(0.01)  # a step takes 1 ms; whoever presses keys meanwhile shares the interpreter's lock with it
        return take(queue)

    monkeypatch.setattr(CommandQueue, "take", slowly)


@pytest.fixture
def real_measuring(no_measuring: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speed_measurement, "measure", REAL)
