"""A machine with two cores for tests of the trial of threads."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
import torch

from nanogpt.training import trial


@contextmanager
def two_cores(monkeypatch: pytest.MonkeyPatch, speed_ratio: Callable[..., float]) -> Iterator[None]:
    """Have two cores, no OMP_NUM_THREADS, a trial for each run however short, no earlier ratios, and these
    comparisons."""
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr("nanogpt.hardware.choices.usable_cores", lambda: 2)
    monkeypatch.setattr(trial, "speed_ratio", speed_ratio)
    monkeypatch.setattr(trial.KnownRatios, "confirmed", lambda *_: None)
    monkeypatch.setattr(trial, "SHARE_OF_RUN", 1e9)
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)
