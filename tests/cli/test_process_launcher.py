"""`nanogpt train --processes=N`: how it stops, and what it says if one of its processes is killed. Real processes."""

import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from nanogpt import runs
from nanogpt.cli.process_launcher import _exit_code
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
    *_, asked, stopping, saved, stopped = output.read_text().splitlines()
    assert asked == "finishing the step and saving; press Ctrl+C again to exit immediately"
    assert stopping == "stopping"
    assert saved == f"step {found.step:,}: saved checkpoints/step-{found.step:08}"
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
