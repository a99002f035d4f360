"""What the main process does when the store of all processes cannot be reached any more."""

import os
import signal
import socket
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


class KnownStore:
    """A store that has what is set."""

    def __init__(self, **values: str) -> None:
        self.values = {name.replace("_", "/"): value for name, value in values.items()}

    def set(self, key: str, value: str) -> None:
        self.values[key] = value

    def get(self, key: str) -> bytes:
        return self.values[key].encode()

    def check(self, keys: list[str]) -> bool:
        return all(key in self.values for key in keys)

    def compare_set(self, key: str, expected: str, value: str) -> bytes:
        return self.values.setdefault(key, value).encode()


def test_on_gpus_the_main_process_ends_if_another_one_is_gone(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(process_monitor, "REPORT_S", 0.01)
    monkeypatch.setattr(process_monitor, "MAIN_EXTRA_S", 0.0)
    monkeypatch.setattr(process_monitor, "EXPLANATION_S", 0.0)
    is_made, ended, made = threading.Event(), threading.Event(), list[ProcessMonitor]()

    def leave(code: int) -> None:
        is_made.wait(60)
        made[0].close()
        ended.set()

    monkeypatch.setattr(os, "_exit", leave)
    store = KnownStore(process_1=f"{socket.gethostname()} {2**22 + 1} 0")  # above the largest process id
    made.append(ProcessMonitor(World(0, 2), store, on_gpus=True))  # type: ignore[arg-type]
    is_made.set()
    assert ended.wait(60)
    assert "rank 1 was killed or has crashed" in capfd.readouterr().err
