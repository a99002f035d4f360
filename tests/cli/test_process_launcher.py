"""`nanogpt train --processes=N`: how it stops, and what it says if one of its processes is killed. Real processes."""

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace

import pytest

from nanogpt import runs
from nanogpt.cli import process_launcher
from nanogpt.cli.process_launcher import _exit_code, _wait, main
from nanogpt.data import prepare, textfile_recipe

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not Path("/proc").is_dir(), reason="finds the processes in /proc")]

SETTINGS = "--dataset=small --n_layer=1 --n_head=2 --n_embd=16 --block_size=8 --batch_size=4 --max_iters=1000000"
SETTINGS += " --device=cpu --dtype=float32 --compile=false --threads=1 --eval_interval=1000000 --eval_iters=1"


@pytest.fixture
def launched(text_file, tmp_path, request):
    """Return the launcher of two processes that train the run `many`, with its output in the file `output`."""
    list(prepare(textfile_recipe([text_file], name="small")))
    with (tmp_path / "output").open("wb") as output:
        command = [sys.executable, "-m", "nanogpt", "train", *SETTINGS.split(), "--processes=2", "--name=many"]
        command += getattr(request, "param", [])
        process = subprocess.Popen(command, stdout=output, stderr=output)
    yield process
    for each in (*children(process.pid), process.pid):
        with_signal(each, signal.SIGKILL)
    process.wait(60)


def with_signal(pid, number):
    with suppress(ProcessLookupError):
        os.kill(pid, number)


def children(pid):
    """Return the ids of a process's children, by age."""
    try:
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def wait_until(condition):
    until = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < until
        time.sleep(0.05)


def test_a_process_that_is_killed_before_training_ends_all_with_one_line(launched, tmp_path):
    wait_until(lambda: len(children(launched.pid)) == 2)
    os.kill(children(launched.pid)[1], signal.SIGKILL)
    assert launched.wait(300) == 2
    assert (tmp_path / "output").read_text() == (
        "nanogpt train: training ended: rank 1 of 2 was killed by SIGKILL; resume with --init_from=resume, or start "
        "again if nothing was saved\n"
    )


@pytest.mark.parametrize("launched", [["--block_size=1000000"]], indirect=True)
def test_what_all_processes_refuse_is_said_once(launched, tmp_path):
    assert launched.wait(300) == 2
    (line,) = (tmp_path / "output").read_text().splitlines()
    assert "block_size" in line


def test_ctrl_c_stops_several_processes_as_it_stops_one(launched, tmp_path):
    output = tmp_path / "output"
    wait_until(lambda: "\nstep" in output.read_text())
    launched.send_signal(signal.SIGINT)
    assert launched.wait(300) == 0
    found = runs.latest(runs.find("many"))
    assert found is not None
    lines = output.read_text().splitlines()
    *_, asked, stopping, saved, stopped = [line for line in lines if not line.startswith("step ") or ": saved " in line]
    assert asked == "finishing the step and saving; press Ctrl+C again to exit immediately"
    assert stopping == "stopping"
    assert saved.removesuffix(" (best)") == f"step {found.step:,}: saved checkpoints/step-{found.step:08}"
    assert stopped == f"stopped at step {found.step:,}; resume with: nanogpt train --init_from=resume --name=many"


def test_training_stops_with_a_checkpoint_if_its_launcher_is_killed(launched, tmp_path):
    output = tmp_path / "output"
    wait_until(lambda: "\nstep" in output.read_text())
    launched.kill()
    wait_until(lambda: "stopped at step" in output.read_text())
    assert "the process that started the others has ended: finishing the step and saving" in output.read_text()
    assert runs.latest(runs.find("many")) is not None


@pytest.mark.parametrize(
    ("codes", "first", "received", "code", "said"),
    [
        ([0, 0], -1, [], 0, ""),
        ([0, 0], -1, [signal.SIGINT], 0, ""),  # stopped with a checkpoint
        ([2, -15], 0, [], 2, ""),  # the first has said why
        ([-15, 2], 1, [], 2, ""),
        ([0, -9], 1, [], 0, ""),  # when all was done
        ([130, 130], 0, [signal.SIGINT], 130, ""),  # the first one said it
        ([-15, 130], 1, [signal.SIGINT], 130, "\nnanogpt train: interrupted\n"),
        ([-15, -11, -15], 1, [], 2, "rank 1 of 3 was killed by SIGSEGV"),
    ],
)
def test_the_exit_code_is_that_of_the_process_that_says_why(codes, first, received, code, said, capsys):
    assert _exit_code(codes, first, received) == code
    err = capsys.readouterr().err
    assert said in err
    assert bool(said) == bool(err)


@pytest.fixture
def launcher(monkeypatch):
    """The launcher of three processes that sleep: its handlers of signals, its workers, and what to do before each."""

    class Worker(subprocess.Popen[bytes]):
        def __init__(self, *arguments, **options):
            found.before(len(found.workers))
            super().__init__(*arguments, **options)
            found.workers.append(self)
            self.signals = []

        def send_signal(self, number):
            self.signals.append(number)
            super().send_signal(number)

    found = SimpleNamespace(handlers={}, workers=[], before=lambda rank: None)
    monkeypatch.setattr(sys, "argv", ["-c", "3"])
    monkeypatch.setattr(signal, "signal", found.handlers.__setitem__)
    monkeypatch.setattr(subprocess, "Popen", Worker)
    monkeypatch.setattr(process_launcher, "python_command", lambda *_: (["sleep", "1000"], dict(os.environ)))
    monkeypatch.setattr(process_launcher, "_new_store", lambda listener: None)
    yield found
    for worker in found.workers:
        worker.kill()
        worker.wait()


def test_if_a_process_cannot_be_started_the_others_end_and_a_line_says_so(launcher, capsys):
    def refuse(rank):
        if rank == 2:
            raise BlockingIOError(errno.EAGAIN, "Resource temporarily unavailable")

    launcher.before = refuse
    assert main() == 2
    assert capsys.readouterr().err == (
        "nanogpt train: 3 processes cannot be started: Resource temporarily unavailable; use fewer\n"
    )
    assert [worker.returncode for worker in launcher.workers] == [-signal.SIGKILL] * 2


def test_no_process_is_left_if_the_launcher_fails(launcher, monkeypatch):
    def fail(listener):
        raise RuntimeError("no store")

    monkeypatch.setattr(process_launcher, "_new_store", fail)
    with pytest.raises(RuntimeError, match="no store"):
        main()
    assert [worker.returncode for worker in launcher.workers] == [-signal.SIGKILL] * 3


def test_a_signal_reaches_each_process_once_also_while_they_are_started(launcher, monkeypatch):
    signals: list[list[int]] = []

    def interrupt(rank):
        if rank == 1:
            launcher.handlers[signal.SIGINT](signal.SIGINT, None)

    def wait(workers):
        launcher.handlers[signal.SIGTERM](signal.SIGTERM, None)
        signals.extend(worker.signals.copy() for worker in workers)
        return -1

    launcher.before = interrupt
    monkeypatch.setattr(process_launcher, "_wait", wait)
    main()
    assert signals == [[signal.SIGINT, signal.SIGTERM]] * 3


def test_ctrl_z_suspends_the_processes_until_the_launcher_continues(launcher, monkeypatch):
    sent = []

    def wait(workers):
        with monkeypatch.context() as patch:
            patch.setattr(os, "kill", lambda pid, number: sent.append((pid, number)))
            launcher.handlers[signal.SIGTSTP](signal.SIGTSTP, None)
        return -1

    monkeypatch.setattr(process_launcher, "_wait", wait)
    main()
    ids = [worker.pid for worker in launcher.workers]
    assert sent == [
        *((pid, signal.SIGSTOP) for pid in ids),
        (os.getpid(), signal.SIGTSTP),
        *((pid, signal.SIGCONT) for pid in ids),
    ]


class Ending:
    """A worker that ends by itself with `code` when it was asked `polls` times, or when it is killed."""

    def __init__(self, code, polls):
        self.code, self.polls, self.signals = code, polls, []

    def poll(self):
        self.polls -= 1
        return self.code if self.polls < 0 else None

    def send_signal(self, number):
        self.signals.append(number)

    def kill(self):
        self.signals.append(signal.SIGKILL)
        self.code, self.polls = -signal.SIGKILL, 0


def test_rank_0_has_the_time_that_its_checkpoint_takes_after_another_one_failed(monkeypatch):
    monkeypatch.setattr(process_launcher, "GRACE_S", -1.0)
    monkeypatch.setattr(process_launcher, "POLL_S", 0.0)
    workers = [Ending(0, 5), Ending(2, 0), Ending(0, 1000)]
    assert _wait(workers) == 1  # type: ignore[arg-type]
    assert signal.SIGKILL not in workers[0].signals
    assert signal.SIGKILL in workers[2].signals
