"""The event buffer: columns that grow, undoing what a resume undid, the state in words."""

import time
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nanogpt.events import (
    Acknowledged,
    Evaluated,
    Evaluating,
    Event,
    Finished,
    Health,
    LayerHealth,
    Notice,
    Reading,
    Sampled,
    Saved,
    to_json,
)
from nanogpt.runs.event_log import LayerHealthLine, Steps, parse_block, parse_lazily
from nanogpt.runs.state import RunState, status_event
from nanogpt_tui.screens.train.figures import figure_values
from nanogpt_tui.session.history import History, load_history
from tests.made_events import started, stepped


def evaluated(number: int) -> Evaluated:
    return Evaluated(
        step=number, train_loss=1.0, val_loss=1.0, best_val_loss=1.0, is_best=True, tokens=8, elapsed_s=1.0
    )


def test_columns_hold_every_step_in_order_beyond_their_first_size() -> None:
    history = History()
    history.add(started())
    for number in range(1, 3001):
        history.add(stepped(number, loss=float(number)))
    assert len(history) == 3000
    np.testing.assert_array_equal(history.column("step"), np.arange(1, 3001))
    np.testing.assert_array_equal(history.column("loss"), np.arange(1, 3001))
    assert np.isnan(history.column("mfu")).all()  # None, where the peak is not known
    assert history.step == 3000


def test_a_column_read_before_growth_keeps_its_values() -> None:
    history = History()
    history.add(stepped(1, loss=7.0))
    early = history.column("loss")
    for number in range(2, 5000):
        history.add(stepped(number))
    np.testing.assert_array_equal(early, [7.0])


def test_a_resume_undoes_what_came_after_its_step() -> None:
    history = History()
    history.add(started())
    for number in range(1, 31):
        history.add(stepped(number))
        if number % 10 == 0:
            history.add(evaluated(number))
            history.add(Saved(step=number, path="", is_best=True, stall_s=0.0))
            history.add(Sampled(step=number, prompt="", text="", seed=1))
    before = history.generation
    history.add(started(step=20))
    assert history.column("step")[-1] == 20
    assert [each.step for each in history.evaluations] == [10, 20]
    assert [each.step for each in history.saves] == [10, 20]
    assert [each.step for each in history.samples] == [10, 20]
    assert history.generation > before
    assert history.step == 20


def test_whoever_sees_that_steps_were_removed_sees_the_lists_without_them() -> None:
    history = History()
    before, seen = history.generation, []

    class Watched:
        @property
        def step(self) -> int:
            seen.append(history.generation)
            return 30

    watched: Any = Watched()
    history.spikes.append(watched)
    history.add(started(step=20))
    assert seen == [before]
    assert (history.generation, history.spikes) == (before + 1, [])


def test_a_run_that_is_to_go_on_and_cannot_stays_as_it_was() -> None:
    history = History()
    history.add(started())
    history.fallback_state = RunState("r", state="finished")
    history.mark_failed("complete already")
    assert (history.phase, history.log[-1].text) == ("finished", "complete already")
    history.add(started(step=3))
    history.mark_failed("the disk is gone")
    assert history.phase == "failed"


def test_pause_resume_and_the_end_are_the_state() -> None:
    history = History()
    assert history.phase == "preparing"
    history.add(started())
    assert history.phase == "training"
    history.add(Acknowledged(step=1, command="Pause", text="paused"))
    assert history.phase == "paused"
    history.add(Acknowledged(step=1, command="Resume", text="going on"))
    assert history.phase == "training"
    history.add(Finished(step=9, reason="nan", train_loss=None, val_loss=None, best_val_loss=None, elapsed_s=1.0))
    assert history.phase == "failed"
    assert not history.running


def test_an_evaluation_that_lasts_is_the_state_until_it_is_done() -> None:
    history = History()
    history.add(started())
    history.add(Evaluating(step=0, done=2, total=5))
    states = [value for value, *_ in figure_values(history, "", None, "loss")]
    assert "eval 40%" in states
    history.add(evaluated(0))
    assert "training" in [value for value, *_ in figure_values(history, "", None, "loss")]


def test_only_changes_of_the_training_itself_are_marked() -> None:
    history = History()
    for command in ("Pause", "Save", "ScaleLearningRate", "SetEvalInterval", "SetMaxIters", "Sample"):
        history.add(Acknowledged(step=5, command=command, text=command))
    assert [each.command for each in history.changes] == ["ScaleLearningRate", "SetEvalInterval", "SetMaxIters"]


def test_saved_is_only_said_for_a_checkpoint_that_is_on_disk() -> None:
    history = History()
    history.add(Acknowledged(step=5, command="Save", text="saving a checkpoint"))
    assert not any("saved" in line.text for line in history.log)
    history.add(Saved(step=5, path="p", is_best=False, stall_s=0.1))
    assert history.log[-1].text == "saved step 5"


def test_a_notice_stands_in_the_log_under_its_level() -> None:
    history = History()
    history.add(Notice(level="warning", text="no network"))
    assert (history.log[-1].kind, history.log[-1].text) == ("warning", "no network")


@pytest.mark.parametrize(("state", "kind"), [("nan", "error"), ("overfitting", "warning"), ("learning", "info")])
def test_a_change_in_health_is_logged_as_grave_as_it_is(state: str, kind: str) -> None:
    history = History()
    history.add(Health(step=3, state=state, message="why"))
    assert (history.log[-1].kind, history.log[-1].text) == (kind, "why")


def test_the_health_of_a_training_that_is_resumed_or_went_back_is_not_that_from_before() -> None:
    history = History()
    for state, resumed, after in (("diverging", "", ""), ("rollback", "rollback", "")):
        history.add(started())
        history.add(Health(step=3, state=state, message="why"))
        history.add(started())
        assert shown_state(history) == resumed
        history.add(evaluated(4))
        assert shown_state(history) == after
    history.add(Health(step=5, state="diverging", message="why"))
    history.add(evaluated(6))
    assert shown_state(history) == "diverging"


def shown_state(history: History) -> str:
    """The health beside the state."""
    return next(note for value, note, _ in figure_values(history, "", None, "loss") if value == "training")


def test_what_is_lost_without_a_checkpoint_is_the_whole_run_where_there_is_none() -> None:
    history = History()
    history.add(started())
    assert history.unsaved == "the whole run: it has no checkpoint yet"
    history.add(Saved(step=1200, path="p", is_best=False, stall_s=0.1))
    assert history.unsaved == "everything after step 1,200, the last checkpoint"
    history.add(started())  # it goes back to the start
    assert history.unsaved.startswith("the whole run")


def test_a_record_read_in_blocks_is_the_history_of_its_events(tmp_path: Path) -> None:
    resumed: list[Event] = [started(3), *(stepped(number, 7.0) for number in range(4, 6))]
    events: list[Event] = [started(), *map(stepped, range(1, 9)), evaluated(8), *resumed]
    (tmp_path / "run.toml").touch()
    (tmp_path / "events.jsonl").write_text("".join(to_json(event) + "\n" for event in events))
    (tmp_path / "status.json").write_text('{"state": "stopped", "step": 5, "max_iters": 9}')
    one_by_one = History()
    for event in events:
        one_by_one.add(event)
    found = load_history(tmp_path)
    assert found.column("step").tolist() == one_by_one.column("step").tolist() == [1, 2, 3, 4, 5]
    assert found.column("loss").tolist() == [1, 1, 1, 7, 7]
    assert (found.last, found.evaluations) == (events[-1], [])
    assert (found.phase, found.step, found.reading) == ("stopped", 5, None)


def test_of_many_measurements_of_the_layers_some_are_kept_evenly_spread_and_the_newest(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nanogpt.runs.thinned.MAX_ITEMS", 4)
    history = History()
    history.add(started())
    for step in range(20):
        history.add(measured(step))
        kept = [each.step for each in history.layer_health]
        assert len(kept) <= 5
        assert kept[-1] == step
    # 0 to 4 are five, of which 0, 2, 4 stay; with 6 and 8 they are five again; and so on
    assert kept == [0, 8, 16, 19]
    history.add(started(8))
    history.add(measured(9))
    assert [each.step for each in history.layer_health] == [0, 8, 9]


def test_recorded_measurements_are_parsed_when_they_are_shown_and_an_unreadable_one_is_left_out() -> None:
    history = History()
    assert not history.has_layer_health
    lines = [to_json(measured(step)).encode() + b"\n" for step in range(2)]
    lines.append(lines[1].replace(b'"layers":[]', b'"layers":5'))
    for line in lines:
        item = parse_lazily(line, Path("e"))
        assert isinstance(item, LayerHealthLine)
        history.add(item)
    assert history.has_layer_health
    assert history.layer_health == [measured(0), measured(1)]
    assert history.layer_health[1] is history.layer_health[1], "each is parsed once"
    for unreadable in (lines[0].replace(b'"step":0', b'"step":"0"'), b'{"event":"LayerHealth","time":0,"step":2}\n'):
        assert isinstance(parse_lazily(unreadable, Path("e")), Notice)


def measured(step: int) -> LayerHealth:
    figures: dict[str, Any] = dict.fromkeys((each.name for each in fields(LayerHealth)), ())
    return LayerHealth(**figures | {"time": 0.0, "step": step, "clipped": None})


def test_while_a_record_is_read_the_run_is_as_its_folder_says_and_drawn_coarsely() -> None:
    def steps(*numbers: int) -> Steps:
        (found,) = parse_block("".join(to_json(stepped(number)) + "\n" for number in numbers).encode(), Path("e"))
        assert isinstance(found, Steps)
        return found

    seen = RunState("r", state="stopped", step=900, max_iters=1000)
    history = History("r", seen)
    history.show_preview(steps(1, 300, 600, 900))
    generation = history.generation
    history.add(started())
    history.add(steps(*range(1, 500)))
    history.add(Reading(done_bytes=34, total_bytes=100))
    assert (history.phase, history.step, history.reading) == ("stopped", 900, 0.34)
    assert history.column("step").tolist() == [1, 300, 600, 900]
    assert len(history) == 4
    assert history.last is not None
    assert history.last.step == 900
    history.add(steps(*range(500, 901)))
    history.add(status_event(replace(seen, updated=time.time() + 9)))
    assert (history.phase, history.step, history.reading) == ("stopped", 900, None)
    assert history.column("step").tolist() == list(range(1, 901))
    assert history.generation > generation, "the chart is drawn anew"


def test_a_run_that_another_process_failed_with_is_failed_and_says_why() -> None:
    history = History("r")
    history.add(started())
    history.add(
        status_event(replace(history.run_state, state="failed", message="out of memory", updated=time.time() + 9))
    )
    assert (history.phase, history.log[-1].kind, history.log[-1].text) == ("failed", "error", "out of memory")


def test_one_that_died_before_its_first_checkpoint_cannot_be_resumed_and_is_not_said_to() -> None:
    history = History("r")
    history.add(started())
    history.add(status_event(replace(history.run_state, state="interrupted")))
    assert history.log[-1].text == "its process ended without a message: it had saved no checkpoint yet"
