"""The quick start: as long as its time allows, with checkpoints and samples spread over it."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nanogpt import runs
from nanogpt.config import Config
from nanogpt.events import Acknowledged, Event, Finished, Sampled, Saved, Step
from nanogpt.training import Command, CommandQueue, Sample, SetEvalInterval, SetMaxIters
from tests.made_events import started, stepped

TINY = {"n_layer": 1, "n_head": 2, "n_embd": 16, "block_size": 16, "batch_size": 4, "ngram": 1, "device": "cpu"}


class Machine:
    """Stands for training: an iteration takes what `seconds` says of its step, one was timed at `timed`."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, timed: float, seconds: Callable[[int], float]) -> None:
        self.config, self.seconds = Config(), seconds
        self.commands: list[tuple[int, Command]] = []
        self.rollbacks: dict[int, int] = {}  # from a step to an earlier one
        monkeypatch.setattr("nanogpt.runs.quickstart.time_steps", lambda *_, **__: (started(), [timed]))
        monkeypatch.setattr("nanogpt.runs.quickstart.start", self.start)

    def start(self, config: Config, run: Path, *, commands: CommandQueue, data_dir: Path | None) -> Iterator[Event]:
        self.config, last, elapsed_s, step = config, config.schedule.max_iters, 0.0, 0
        while step < last:
            step += 1
            elapsed_s += self.seconds(step)
            yield replace(stepped(step), elapsed_s=elapsed_s)
            for command in commands.take():
                self.commands.append((step, command))
                if isinstance(command, SetMaxIters):
                    last = max(step, command.iterations)
                    yield Acknowledged(step=step, command="SetMaxIters", text="", id="", max_iters=last)
                if isinstance(command, SetEvalInterval):
                    interval = command.iterations
                    yield Acknowledged(step=step, command="SetEvalInterval", text="", id="", eval_interval=interval)
            if step in self.rollbacks:
                step = self.rollbacks.pop(step)
                yield started(step)

    def said(self, kind: type) -> list[Any]:
        return [(step, command) for step, command in self.commands if isinstance(command, kind)]


def begin(dataset: str, **changes: Any) -> list[Event]:
    return list(runs.run_quickstart(runs.new_folder("quickstart"), seconds=40, changes={"dataset": dataset} | changes))


def test_what_the_time_allows_is_known_before_it_begins(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 0.2, lambda _: 0.2 / 0.85)  # evaluating and sampling take 15 % of the time
    steps = begin(dataset)
    assert len(steps) == 0.85 * 40 / 0.2 == 170
    assert (machine.config.evaluation.eval_interval, machine.config.evaluation.sample_interval) == (34, 17)
    assert not machine.said(SetMaxIters)


@pytest.mark.parametrize(("factor", "within"), [(3.0, (36, 44)), (0.25, (34, 48)), (10.0, (36, 50))])
def test_it_ends_in_time_where_the_machine_is_slower_or_faster_than_when_it_was_timed(
    dataset: str, monkeypatch: pytest.MonkeyPatch, factor: float, within: tuple[float, float]
) -> None:
    machine = Machine(monkeypatch, 0.2, lambda _: 0.2 * factor)
    last = [event for event in begin(dataset) if isinstance(event, Step)][-1]
    assert within[0] <= last.elapsed_s <= within[1]
    # the evaluations, each with a checkpoint, are spread over what it is now: five, the last of them at its end
    _, interval = machine.said(SetEvalInterval)[-1]
    assert -(-last.step // interval.iterations) == 5


def test_it_ends_in_time_on_a_machine_that_gets_busy_in_the_middle(
    dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    Machine(monkeypatch, 0.2, lambda step: 0.2 if step < 80 else 0.6)
    last = [event for event in begin(dataset) if isinstance(event, Step)][-1]
    assert last.elapsed_s <= 40 * 1.25


def test_what_the_short_training_chose_is_used(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch, 0.0, lambda _: 1.0)
    chosen = replace(started(), threads=3, dtype="bfloat16")
    monkeypatch.setattr("nanogpt.runs.quickstart.time_steps", lambda *_, **__: (chosen, [0.5, 0.5, 9.0]))
    begin(dataset)
    assert (machine.config.system.threads, machine.config.system.dtype) == (3, "bfloat16")
    assert machine.config.schedule.max_iters == 68  # 0.85 of 40 s


def test_a_first_sample_comes_after_seconds_and_another_with_the_last_step(
    dataset: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine = Machine(monkeypatch, 0.2, lambda _: 0.24)
    steps = begin(dataset)
    asked = [step for step, _ in machine.said(Sample)]
    assert asked[0] == 13  # the first after 3 s
    assert asked[-1] == len(steps) or len(steps) % machine.config.evaluation.sample_interval == 0


def test_a_last_step_that_a_person_chose_holds(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, commands = Machine(monkeypatch, 0.2, lambda _: 1.0), CommandQueue()
    commands.put(SetMaxIters(300))
    events = runs.run_quickstart(
        runs.new_folder("quickstart"), seconds=40, changes={"dataset": dataset}, commands=commands
    )
    assert len([event for event in events if isinstance(event, Step)]) == 300
    assert len(machine.said(SetMaxIters)) == 1


def test_an_evaluation_interval_that_a_person_chose_holds(dataset: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine, commands = Machine(monkeypatch, 0.2, lambda _: 1.0), CommandQueue()
    commands.put(SetEvalInterval(3))
    list(
        runs.run_quickstart(runs.new_folder("quickstart"), seconds=40, changes={"dataset": dataset}, commands=commands)
    )
    assert machine.said(SetMaxIters)
    assert [command.iterations for _, command in machine.said(SetEvalInterval)] == [3]


@pytest.mark.parametrize(("at", "back"), [(20, 10), (36, 16)])  # the speed is compared at step 17 and 34
def test_a_rollback_is_not_taken_for_a_change_of_the_speed(
    dataset: str, monkeypatch: pytest.MonkeyPatch, at: int, back: int
) -> None:
    machine = Machine(monkeypatch, 0.2, lambda _: 0.2 / 0.85)
    machine.rollbacks = {at: back}
    steps = [event for event in begin(dataset) if isinstance(event, Step)]
    assert (steps[-1].step, len(steps)) == (170, 170 + at - back)
    assert not machine.said(SetMaxIters)


def test_five_checkpoints_that_write_differently_are_kept_and_samples_are_spread(dataset: str) -> None:
    changes = TINY | {"dataset": dataset, "max_iters": 43, "compile": "false", "sample_tokens": 20}
    folder = runs.new_folder("quickstart")
    events = list(runs.run_quickstart(folder, changes=changes))
    assert isinstance(events[-1], Finished)
    assert [each.step for each in runs.list_checkpoints(folder)] == [9, 18, 27, 36, 43]
    assert len([event for event in events if isinstance(event, Saved)]) == 5
    samples = [event for event in events if isinstance(event, Sampled)]
    assert [sample.step for sample in samples] == [0, 5, 10, 15, 20, 25, 30, 35, 40]  # its end was chosen by a person
    assert len({sample.text for sample in samples}) > 1


def test_it_is_started_again_under_a_new_name(dataset: str) -> None:
    for _ in range(2):
        list(runs.run_quickstart(runs.new_folder("quickstart"), changes=TINY | {"dataset": dataset, "max_iters": 1}))
    assert {run.name for run in runs.list_runs()} == {"quickstart", "quickstart-2"}
