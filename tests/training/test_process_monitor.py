"""What the main process does when the store of all processes cannot be reached any more."""

import os
import signal
import threading

import pytest

from nanogpt.training import process_monitor
from nanogpt.training.distributed import World
from nanogpt.training.process_monitor import ProcessMonitor


class UnreachableStore:
    """A store whose connection breaks once the process is known."""

    def set(self, key: str, value: str) -> None:
        if key.startswith("report"):
            raise RuntimeError("Connection reset by peer")


@pytest.mark.parametrize(("parent", "sent"), [(100, []), (1, [signal.SIGTERM])])
def test_the_main_process_stops_only_if_the_one_that_started_it_is_gone(
    parent: int, sent: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    parents, received = iter([100, parent]), list[int]()
    monkeypatch.setattr(process_monitor, "REPORT_S", 0.01)
    monkeypatch.setattr(os, "getppid", lambda: next(parents))
    # a thread of an earlier test may ask whether some other process lives
    monkeypatch.setattr(os, "kill", lambda pid, number: received.append(number) if pid == os.getpid() else None)
    ProcessMonitor(World(0, 2), UnreachableStore())  # type: ignore[arg-type]
    for thread in threading.enumerate():
        if thread.name == "process monitor":
            thread.join(60)
    assert received == sent
