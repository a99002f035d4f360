"""Whether a process runs: this one, one that ended, one that nobody has waited for, and numbers that are none."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from nanogpt.processes import is_running, parent


def test_this_process_and_a_child_that_waits_are_running() -> None:
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as child:
        assert is_running(os.getpid())
        assert is_running(child.pid)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_a_child_that_ended_is_not_running_whether_or_not_anybody_waited_for_it() -> None:
    child = subprocess.Popen([sys.executable, "-c", ""])
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)  # it has ended, and is kept as a zombie
    assert not is_running(child.pid)
    child.wait()
    assert not is_running(child.pid)


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="needs /proc")
def test_the_parent_of_a_process_is_known_while_it_runs() -> None:
    assert parent(os.getpid()) == os.getppid()
    assert parent(10**30) is None


def test_a_number_larger_than_any_process_has_is_not_running() -> None:
    assert not is_running(2**22 + 1)  # of Linux on 64 bits, the most that pid_max can be is 2**22
    assert not is_running(10**30)
