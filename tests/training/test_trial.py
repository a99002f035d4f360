"""Threads and number format by trial: the fastest one is taken, and nothing else of the training changes."""

from itertools import count

import pytest
import torch

from nanogpt import hardware, paths
from nanogpt.config import with_settings
from nanogpt.events import Evaluated, Started, Step
from nanogpt.hardware import measurements
from nanogpt.training import train, trial
from nanogpt.training.trial import CLEAR, CONFIRMED, MIN_ROUNDS, KnownRatios, fastest
from tests.two_cores import two_cores as on_two_cores


class Clock:
    """Stands for passes that take `seconds` by candidate."""

    def __init__(self, seconds):
        self.seconds, self.timed = seconds, []

    def __call__(self, candidate):
        self.timed.append(candidate)
        return self.seconds[candidate]


def test_the_faster_one_is_taken_and_a_clear_result_ends_the_comparison():
    clock = Clock({2: 0.01, 1: 0.02})
    assert fastest([2, 1], clock, budget_s=1.0, margin=1.0) == (2, (2, 1, 2.0))
    assert clock.timed == [2, 1] * MIN_ROUNDS
    assert fastest([2, 1], Clock({2: 0.02, 1: 0.01}), budget_s=1.0, margin=1.0) == (1, (1, 2, 2.0))


def test_a_close_result_takes_the_budget():
    clock = Clock({2: 0.25, 1: 0.25 / (CLEAR - 0.01)})
    winner, _ = fastest([2, 1], clock, budget_s=4.0, margin=1.0)
    assert winner == 1
    assert len(clock.timed) == 2 * 9  # a round takes 0.46 s: nine are the first to reach 4 s


@pytest.mark.parametrize(("slow_turns", "winner"), [((1,), 2), ((1, 3), 1)])
def test_a_single_slow_turn_does_not_count_but_several_do(slow_turns, winner):
    """Beside a busy process two threads wait for each other now and then."""
    numbers = count(1)

    def seconds(threads):
        return 1.1 if threads == 1 else 9.0 if next(numbers) in slow_turns else 1.0

    assert fastest([2, 1], seconds, budget_s=0.0, margin=1.0)[0] == winner


def test_all_turns_count_if_slow_ones_leave_no_time_for_more():
    """Two threads took 9.01 s in two turns, one took 2 s: that the first turn of two threads was fast was chance."""
    turns = iter([0.01, 9.0])
    assert fastest([2, 1], lambda threads: 1.0 if threads == 1 else next(turns), budget_s=1.0, margin=1.0)[0] == 1


def test_threads_are_halved_until_that_is_slower():
    seconds = {16: 4.0, 8: 2.0, 4: 1.0, 2: 1.5, 1: 0.1}
    clock = Clock(seconds)
    assert fastest([16, 8, 4, 2, 1], clock, budget_s=0.0, margin=1.0) == (4, (4, 2, 1.5))
    assert 1 not in clock.timed


def test_a_later_candidate_has_to_be_faster_by_the_margin():
    clock = Clock({"float32": 1.05, "bfloat16": 1.0})
    assert fastest(["float32", "bfloat16"], clock, budget_s=0.0, margin=1.1)[0] == "float32"
    assert fastest(["float32", "bfloat16"], clock, budget_s=0.0, margin=1.0)[0] == "bfloat16"


def winner_with_memory(seconds, settings="a model"):
    """Return the winner of two and one thread, and how many turns it took."""
    clock = Clock(seconds)
    winner, _ = fastest([2, 1], clock, budget_s=0.0, margin=1.0, known=KnownRatios(settings))
    return winner, len(clock.timed)


WHOLE, CONFIRMING = 2 * MIN_ROUNDS, 3  # turns: with no budget and no clear result; a warm-up and one round


@pytest.mark.parametrize(
    ("first", "then"),
    [
        ({2: 1.0, 1: 1.1}, {2: 10.0, 1: 11.0}),  # the machine is slower, for both
        ({2: 1.0, 1: 1.1}, {2: 1.0, 1: 1.1 * CONFIRMED * 0.99}),
        ({2: 9.0, 1: 1.0}, {2: 3.0, 1: 1.0}),  # clearly the same winner
    ],
)
def test_an_earlier_trial_counts_if_one_round_confirms_it(first, then):
    winner, turns = winner_with_memory(first)
    assert turns == WHOLE
    assert winner_with_memory(then) == (winner, CONFIRMING)


@pytest.mark.parametrize(
    ("first", "then", "winner"),
    [
        ({2: 1.0, 1: 1.5}, {2: 1.5, 1: 1.0}, 1),  # another program has become busy
        ({2: 3.0, 1: 1.0}, {2: 1.0, 1: 1.5}, 2),  # it has ended
        ({2: 1.0, 1: 1.1}, {2: 1.0, 1: 1.1 * CONFIRMED * 1.01}, 2),
    ],
)
def test_a_whole_trial_is_done_when_a_round_shows_another_ratio(first, then, winner):
    winner_with_memory(first)
    assert winner_with_memory(then) == (winner, CONFIRMING + WHOLE)
    assert winner_with_memory(then) == (winner, CONFIRMING)  # the later trial counts from now on


def test_a_trial_counts_only_for_the_same_settings_and_machine(monkeypatch):
    winner_with_memory({2: 1.0, 1: 1.1})
    assert winner_with_memory({2: 1.0, 1: 1.1}, "another model")[1] == WHOLE
    monkeypatch.setattr(hardware, "usable_cores", lambda: 64)
    assert winner_with_memory({2: 1.0, 1: 1.1})[1] == WHOLE
    monkeypatch.setattr(hardware, "cpu_model", lambda: "another processor")
    assert winner_with_memory({2: 1.0, 1: 1.1})[1] == WHOLE


@pytest.mark.parametrize("damaged", ["", "{", "[]", '{"a": 0}', "\0" * 100, "a folder"])
def test_a_damaged_memory_of_trials_is_replaced(damaged):
    winner_with_memory({2: 1.0, 1: 1.1})
    path = paths.cache_dir() / "trials.json"
    path.unlink()
    if damaged == "a folder":
        path.mkdir()
    else:
        path.write_text(damaged)
    assert winner_with_memory({2: 1.0, 1: 1.1}) == (2, WHOLE)
    assert winner_with_memory({2: 1.0, 1: 1.1}) == (2, WHOLE if damaged == "a folder" else CONFIRMING)


def test_the_memory_of_trials_stays_small(monkeypatch):
    monkeypatch.setattr(measurements, "MOST", 3)
    for number in range(5):
        winner_with_memory({2: 1.0, 1: 1.1}, f"model {number}")
    turns = [winner_with_memory({2: 1.0, 1: 1.1}, f"model {number}")[1] for number in (4, 3, 2, 1)]
    assert turns == [CONFIRMING] * 3 + [WHOLE]


@pytest.fixture
def two_cores(monkeypatch):
    """A machine with two cores, on which nobody asks for a number of threads; each comparison is for the second."""
    compared = []

    def speed_ratio(first, second, seconds, budget_s):
        compared.append((first, second, seconds(first), seconds(second)))
        return 2.0

    with on_two_cores(monkeypatch, speed_ratio):
        yield compared


def figures(events):
    return [
        (event.step, getattr(event, "loss", None), getattr(event, "val_loss", None))
        for event in events
        if isinstance(event, Step | Evaluated)
    ]


@pytest.mark.parametrize(
    "changes",
    [
        {"architecture": "gpt2", "dropout": 0.3},
        {"architecture": "modern", "dropout": 0.3},
        {"architecture": "mlp", "norm": "batch", "block_size": 1},
    ],
)
def test_a_trial_changes_nothing_but_what_it_chooses(tiny, tokens, two_cores, changes):
    """To the bit, with what each pass changes: dropout draws random numbers, a batch norm updates running means.

    The trial begins with a single row, which has no variance.
    """
    config = tiny(threads=0, **changes)
    events = list(train(config, tokens))
    assert [pair[:2] for pair in two_cores] == [(2, 1)]
    started = next(event for event in events if isinstance(event, Started))
    assert started.threads == 1
    assert "1 thread was 2.00 times as fast as 2" in started.choices["threads"]
    assert figures(events) == figures(train(with_settings(config, {"threads": 1}), tokens))


def test_why_slightly_faster_threads_are_not_taken_is_said(tiny, tokens, two_cores, monkeypatch):
    monkeypatch.setattr(trial, "fastest", lambda candidates, *_: (candidates[0], (2, 1, 1 / 1.05)))
    started = next(iter(train(tiny(threads=0), tokens)))
    assert isinstance(started, Started)
    assert started.threads == 2
    why = started.choices["threads"]
    assert why.startswith("2 threads were 0.95 times as fast as 1 in a trial of a part of a batch, where fewer have")


@pytest.mark.parametrize("changes", [{"threads": 2}, {"threads": 0, "eval_only": True}])
def test_no_trial_is_done_if_the_person_chose_or_nothing_is_trained(tiny, tokens, two_cores, changes):
    next(iter(train(tiny(**changes), tokens)))
    assert two_cores == []


def test_a_short_run_has_no_trial(tiny, tokens, two_cores, monkeypatch):
    monkeypatch.setattr(trial, "SHARE_OF_RUN", 0.02)
    started = next(iter(train(tiny(threads=0, max_iters=1), tokens)))
    assert isinstance(started, Started)
    assert (two_cores, started.threads, started.choices.get("threads")) == ([], 2, None)
    assert torch.get_num_threads() == 2


def test_a_trial_that_fails_sets_the_number_of_threads_back(tiny, tokens, two_cores, monkeypatch):
    def fastest(*_):
        raise MemoryError

    monkeypatch.setattr(trial, "fastest", fastest)
    with pytest.raises(MemoryError):
        next(iter(train(tiny(threads=0), tokens)))
    assert torch.get_num_threads() == 2


def test_the_number_format_is_tried_on_a_cpu_that_has_both(tiny, tokens, two_cores, monkeypatch):
    monkeypatch.setattr(hardware, "cpu_has_bfloat16", lambda: True)
    monkeypatch.setattr("nanogpt.hardware.choices.cpu_has_bfloat16", lambda: True)
    started = next(iter(train(tiny(threads=1, dtype="auto"), tokens)))
    assert isinstance(started, Started)
    assert [pair[:2] for pair in two_cores] == [("float32", "bfloat16")]  # this width is below bfloat16's
    assert started.dtype == "bfloat16"
    assert "faster than float32 in a trial" in started.choices["dtype"]


def test_the_peak_is_measured_once_with_the_threads_that_were_chosen(tiny, tokens, two_cores, monkeypatch):
    """It takes a fifth of a second."""
    measured = []

    def measure(dtype, seconds):
        measured.append((dtype, torch.get_num_threads()))
        return 1e9

    monkeypatch.setattr("nanogpt.hardware.peak.measure_cpu", measure)
    started = next(iter(train(tiny(threads=0), tokens)))
    assert isinstance(started, Started)
    assert (started.threads, started.peak_flops) == (1, 1e9)
    assert measured == [("float32", 1)]


def test_a_run_that_a_command_has_lengthened_has_a_trial_when_it_is_resumed(tiny, tokens, two_cores):
    snapshots = []
    config = tiny(threads=1, max_iters=6)

    def save(snapshot, is_best):
        snapshots.append(snapshot)
        return ""

    list(train(config, tokens, save=save))
    snapshots[-1].progress.max_iters = 1000
    config = with_settings(config, {"threads": 0})
    next(iter(train(config, tokens, start=snapshots[-1], resume=True)))
    assert [pair[:2] for pair in two_cores] == [(2, 1)]
