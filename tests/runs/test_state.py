"""How a run stands: one function of its events, whatever reads it."""

import json
from dataclasses import replace
from typing import Any

import pytest

from nanogpt import runs
from nanogpt.events import Acknowledged, Evaluated, Evaluating, Event, Finished, Health, Notice, Saved, Status
from nanogpt.inspection.health import MESSAGES
from nanogpt.runs.recorder import Recorder
from nanogpt.runs.state import SLOW_S, RunState, reduce, state_to_dict, status_event
from tests.made_events import started, stepped

PAUSE = Acknowledged(step=1, command="Pause", text="paused")
RESUME = Acknowledged(step=1, command="Resume", text="going on")
STOP = Acknowledged(step=1, command="Stop", text="stopping")
FULL = Health(step=1, state="waiting", message="training waits: the disk is full")
FREE = Health(step=1, state="going on", message="it goes on")
EVALUATING = Evaluating(step=1, done=1, total=4)
EVALUATED = Evaluated(step=1, train_loss=2.0, val_loss=3.0, best_val_loss=3.0, is_best=True, tokens=8, elapsed_s=1.0)


def finished(reason: Any = "max_iters") -> Finished:
    return Finished(step=2, reason=reason, train_loss=None, val_loss=None, best_val_loss=None, elapsed_s=1.0)


def after(*events: Event) -> RunState:
    state = RunState("r")
    for event in events:
        state = reduce(state, event)
    return state


@pytest.mark.parametrize(
    ("events", "phase", "state"),
    [
        ([], "preparing", "preparing"),
        ([started()], "training", "running"),
        ([started(), stepped(1)], "training", "running"),
        ([started(), EVALUATING], "evaluating", "running"),
        ([started(), EVALUATING, EVALUATED], "training", "running"),
        ([started(), PAUSE], "paused", "paused"),
        ([started(), PAUSE, RESUME], "training", "running"),
        ([started(), PAUSE, STOP], "training", "running"),
        ([started(), FULL], "waiting", "paused"),
        ([started(), FULL, FREE], "training", "running"),
        ([started(), FULL, PAUSE], "paused", "paused"),
        ([started(), FULL, PAUSE, RESUME], "waiting", "paused"),
        ([started(), PAUSE, FULL, FREE], "paused", "paused"),
        ([started(), FULL, finished("stopped")], "stopped", "stopped"),
        ([started(), finished("nan")], "failed", "failed"),
        ([started(), finished()], "finished", "finished"),
        ([started(), finished(), started(2)], "training", "running"),
        ([started(), Notice(level="info", text="so")], "training", "running"),
    ],
)
def test_the_phase_follows_from_the_events(events: list[Event], phase: str, state: str) -> None:
    known = after(*events)
    assert (known.phase, known.state) == (phase, state)
    assert state_to_dict(known)["phase"] == phase


@pytest.mark.parametrize("end", [FREE, finished("stopped")])
def test_that_training_waits_is_said_no_longer_than_it_does(end: Event) -> None:
    assert after(started(), FULL).message == FULL.message
    assert after(started(), FULL, end).message == ""


@pytest.mark.parametrize("lamp", [*MESSAGES, "rollback", "nan"])
def test_how_well_it_learns_is_not_whether_it_runs(lamp: str) -> None:
    assert after(started(), Health(step=1, state=lamp, message="so")).phase == "training"


def test_of_several_steps_in_a_row_the_last_alone_counts() -> None:
    steps = [replace(stepped(number, 1.0 / number), time=float(number)) for number in range(1, 50)]
    start = started()
    assert after(start, *steps) == after(start, steps[-1])


def test_a_status_tells_what_no_event_does() -> None:
    known = after(started(), stepped(1))
    for seen, phase in {
        replace(known, silent_s=SLOW_S + 1): "silent",
        replace(known, state="interrupted"): "interrupted",
        replace(known, state="failed", message="out of memory"): "failed",
        replace(known, evaluating=0.5): "evaluating",
        replace(known, name="other"): "training",
    }.items():
        told = reduce(known, status_event(seen))
        assert (told.phase, told.name, told.message) == (phase, seen.name, seen.message)


def test_a_status_from_before_the_last_event_says_nothing_of_how_that_went() -> None:
    old = status_event(replace(after(started(), stepped(1)), updated=1.0))
    assert reduce(after(started(), stepped(1), finished()), old).phase == "finished"
    assert reduce(after(started(), PAUSE), old).phase == "paused"
    assert reduce(after(started()), replace(old, state="interrupted")).phase == "interrupted"


def test_an_end_without_an_event_is_believed_unless_it_is_from_before_this_training() -> None:
    began, ahead = replace(started(), time=100.0), replace(stepped(1), time=900.0)
    known = after(began, ahead)
    for time, phase in {50.0: "training", 500.0: "stopped", 1000.0: "stopped"}.items():
        assert reduce(known, status_event(RunState("r", state="stopped", step=1, updated=time))).phase == phase


def test_a_sign_of_life_revives_what_was_taken_for_dead_as_it_was() -> None:
    paused = after(started(), PAUSE)
    dead = reduce(paused, status_event(replace(paused, state="interrupted")))
    assert dead.phase == "interrupted"
    assert reduce(dead, status_event(paused)).phase == "paused"
    assert reduce(dead, stepped(2)).phase == "training"


@pytest.mark.parametrize(("state", "phase"), [("running", "training"), ("paused", "paused"), ("stopped", "stopped")])
def test_a_status_of_an_earlier_version_is_read(tmp_path: Any, state: str, phase: str) -> None:
    written = {"dataset": "d", "val_loss": None, "state": state, "pid": 1, "host": "elsewhere", "step": 3}
    (tmp_path / "run.toml").touch()
    (tmp_path / "status.json").write_text(json.dumps(written | {"max_iters": 9, "updated": 9e9}))
    about = runs.summary(tmp_path)
    assert (about.phase, about.step, about.dataset) == (phase, 3, "d")


def test_an_earlier_version_reads_the_states_that_it_knows(tmp_path: Any) -> None:
    events: list[Event] = [started(), EVALUATING, EVALUATED, FULL, FREE, PAUSE]
    found = []
    for _ in Recorder(tmp_path).record(event for event in events):
        found.append(json.loads((tmp_path / "status.json").read_text()))
    assert [each["state"] for each in found] == ["running", "running", "running", "paused", "running", "paused"]
    assert [each["phase"] for each in found][3:] == ["waiting", "training", "paused"]


def test_the_status_as_an_event_reads_back() -> None:
    from nanogpt.events import from_json, to_json

    told = status_event(after(started(), FULL))
    assert isinstance(told, Status)
    assert from_json(to_json(told)) == told


def test_a_checkpoint_that_is_written_late_does_not_take_the_step_back() -> None:
    late = Saved(step=1, path="checkpoints/step-00000001", is_best=True, stall_s=0.0)
    assert after(started(), stepped(1), stepped(3), late).step == 3
