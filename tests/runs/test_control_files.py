"""Commands that reach a training from elsewhere, through its folder."""

import json
import os
import subprocess
import sys
import threading
import time

import pytest

from nanogpt import runs
from nanogpt.errors import UserError
from nanogpt.events import Acknowledged, Evaluated, Finished, Notice, Sampled, Saved, Step
from nanogpt.runs import control_files
from nanogpt.runs.control_files import FileCommandQueue, send_command
from nanogpt.training import (
    CommandQueue,
    Copy,
    Pause,
    Resume,
    Sample,
    Save,
    ScaleLearningRate,
    SetEvalInterval,
    SetLearningRateScale,
    SetMaxIters,
    Stop,
)
from nanogpt.training.control import REMOTE, Invalid, from_json, to_json
from tests.narrowing import expect

ALL = [
    Pause(),
    Resume(),
    Save(),
    ScaleLearningRate(0.5),
    SetLearningRateScale(0.25),
    SetEvalInterval(3),
    SetMaxIters(60),
    Sample("ab\n[b]\x1b[2J é", seed=3),
    Stop(save=False),
]


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "run.toml").touch()
    return tmp_path


@pytest.fixture
def unhurried(monkeypatch):
    """Every look for commands sees what is there now."""
    monkeypatch.setattr(control_files, "SCAN_INTERVAL_S", 0.0)
    monkeypatch.setattr(control_files, "SLOWEST_SCAN_INTERVAL_S", 0.0)


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


def test_every_command_that_can_travel_reads_back_equal():
    assert {type(command).__name__ for command in ALL} == REMOTE.keys()
    assert [from_json(to_json(command)) for command in ALL] == ALL
    assert from_json(to_json(Stop(id="x"))).id == "x"
    assert Copy.__name__ not in REMOTE


@pytest.mark.parametrize(
    "line",
    [
        '{"letter":"Copy","receive":"x"}',
        '{"letter":"ScaleLearningRate","factor":"nan"}',
        '{"letter":"ScaleLearningRate","factor":0}',
        '{"letter":"SetLearningRateScale","scale":1e9}',
        '{"letter":"SetEvalInterval","iterations":0}',
        '{"letter":"SetMaxIters","iterations":-1}',
        '{"letter":"SetMaxIters","iterations":1.5}',
        '{"letter":"Sample","prompt":"a","seed":-1}',
        f'{{"letter":"Sample","prompt":"a","seed":{2**63}}}',
        '{"letter":"Stop","save":"no"}',
        '{"event":"Step"}',
        "",
        b"\xff\x00",
    ],
)
def test_what_is_no_command_or_out_of_bounds_is_refused_in_one_line(line):
    with pytest.raises(UserError) as caught:
        from_json(line)
    assert str(caught.value).isprintable()


def test_fifty_commands_at_once_come_out_in_order_once_and_leave_nothing(folder):
    commands = FileCommandQueue(folder)
    for number in range(1, 51):
        send_command(folder, SetMaxIters(number))
    assert commands.take() == [SetMaxIters(number) for number in range(1, 51)]
    assert list((folder / "mailbox").iterdir()) == []


def test_commands_in_memory_and_in_the_folder_both_come_and_wake_whoever_waits(folder, unhurried):
    commands = FileCommandQueue(folder, in_memory := CommandQueue())
    in_memory.put(Pause())
    id = send_command(folder, Resume())
    taken = commands.take()
    assert taken == [Pause(), Resume()]
    assert [command.id for command in taken] == ["", id]
    threading.Timer(0.05, in_memory.put, [Save()]).start()
    commands.wait(timeout_s=60)
    assert commands.take() == [Save()]


def test_the_last_look_reads_the_folder_whatever_its_interval(folder, monkeypatch):
    monkeypatch.setattr(control_files, "SCAN_INTERVAL_S", 3600.0)
    monkeypatch.setattr(control_files, "SLOWEST_SCAN_INTERVAL_S", 3600.0)
    commands = FileCommandQueue(folder)
    assert commands.take() == []
    send_command(folder, Save())
    assert commands.take() == []
    assert commands.take(is_last=True) == [Save()]


def test_what_is_no_command_is_set_aside_once_with_its_reason_and_others_are_applied(folder, unhurried, monkeypatch):
    monkeypatch.setattr(control_files, "UNFINISHED_S", 0.0)
    commands = FileCommandQueue(folder)
    send_command(folder, Save())
    (folder / "mailbox" / "0.json").write_text("{")
    (folder / "mailbox" / "notes.txt").write_text("remember the milk")
    (folder / "mailbox" / "large.json").write_text('"' + "x" * control_files.LARGEST_COMMAND + '"')
    (folder / "mailbox" / "folder").mkdir()
    os.mkfifo(folder / "mailbox" / "pipe.json")
    taken = commands.take()
    assert len(of(Invalid, taken)) == 5
    assert Save() in taken
    assert "regular file" in "".join(command.reason for command in of(Invalid, taken))
    assert commands.take() == []
    assert {path.suffix for path in (folder / "mailbox").iterdir()} == {".refused"}


def test_a_command_that_is_still_being_written_by_hand_is_waited_for(folder, unhurried):
    commands = FileCommandQueue(folder)
    (folder / "mailbox").mkdir()
    path = folder / "mailbox" / "mine.json"
    path.write_text('{"letter":')
    assert commands.take() == []
    path.write_text('{"letter":"Pause"}')
    assert commands.take() == [Pause()]


def test_commands_to_a_trainer_that_is_gone_are_not_applied_by_the_next(folder):
    send_command(folder, Stop())
    (late,) = FileCommandQueue(folder).take()
    assert "before this training started" in expect(Invalid, late).reason


def test_names_are_in_order_even_when_the_clock_is_set_back(folder, monkeypatch):
    commands = FileCommandQueue(folder)
    send_command(folder, SetMaxIters(1))
    monkeypatch.setattr(time, "time_ns", lambda: 5)
    send_command(folder, SetMaxIters(2))
    assert commands.take() == [SetMaxIters(1), SetMaxIters(2)]


def test_looking_often_costs_next_to_no_look_into_the_folder(folder, monkeypatch):
    looks = []
    real = os.scandir
    commands = FileCommandQueue(folder)

    def scandir(path):
        looks.append(path)
        return real(path)

    monkeypatch.setattr(os, "scandir", scandir)
    began = time.monotonic()
    for _ in range(1000):
        commands.take()
    assert len(looks) <= 1 + (time.monotonic() - began) / control_files.SCAN_INTERVAL_S


def test_a_command_to_what_is_no_run_or_cannot_be_written_is_one_line(tmp_path, folder):
    with pytest.raises(UserError, match=r"no run\.toml"):
        send_command(tmp_path / "nothing", Stop())
    (folder / "mailbox").write_text("in the way")
    with pytest.raises(UserError, match="cannot be steered"):
        send_command(folder, Stop())


def test_a_training_applies_every_command_of_another_process_and_says_so(small, unhurried):
    folder = runs.new_folder("run", name="one")
    script = (
        "import sys; from pathlib import Path\n"
        "from nanogpt.runs.control_files import send_command; from nanogpt.training.control import from_json\n"
        "for line in sys.stdin: print(send_command(Path(sys.argv[1]), from_json(line)))\n"
    )
    events, ids = [], []
    for event in runs.start(small(max_iters=100_000, sample_tokens=5, eval_interval=50_000), folder):
        events.append(event)
        if isinstance(event, Step) and event.step == 5:
            lines = "".join(to_json(command) + "\n" for command in ALL)
            done = subprocess.run(
                [sys.executable, "-c", script, str(folder)], input=lines, capture_output=True, text=True, check=True
            )
            ids = done.stdout.split()
    acknowledged = of(Acknowledged, events)
    assert [event.id for event in acknowledged] == ids
    assert [event.command for event in acknowledged] == [type(command).__name__ for command in ALL]
    assert {event.step for event in acknowledged} == {5}
    assert of(Saved, events)
    assert of(Notice, events) or of(Sampled, events)  # the prompt has characters that the data set lacks
    assert of(Evaluated, events)[0].step == 0
    assert isinstance(events[-1], Finished)
    assert (events[-1].reason, events[-1].step) == ("stopped", 5)


def test_a_paused_training_goes_on_when_a_command_says_so(small, unhurried):
    folder = runs.new_folder("run", name="one")
    events = runs.start(small(), folder)
    for event in events:
        if isinstance(event, Step) and event.step == 2:
            send_command(folder, Pause())
        if isinstance(event, Acknowledged) and event.command == "Pause":
            assert json.loads((folder / "status.json").read_text())["state"] == "paused"
            send_command(folder, Resume())
            break
    rest = list(events)
    assert [event.command for event in of(Acknowledged, rest)] == ["Resume"]
    assert expect(Finished, rest[-1]).step == 12
