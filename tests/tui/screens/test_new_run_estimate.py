"""What the form of a new run says before it is started: whose tokenizer does not fit, and what was not measured."""

from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nanogpt.config import resolve
from nanogpt.data import DatasetInfo, prepare, textfile_recipe
from nanogpt.events import Event, Measured
from nanogpt_tui.screens.new_run.estimate import figures
from nanogpt_tui.screens.new_run.screen import NewRunScreen
from nanogpt_tui.session import speed_measurement as measuring
from nanogpt_tui.session.speed_measurement import Compiled, FreeMemory, Result, Speed, compiled
from tests.ending_worker import EndingWorker


async def test_weights_that_read_other_tokens_are_marked_where_they_are_chosen(
    lab: Any, two_runs: Path, trained: Path, home: Path, tmp_path: Path
) -> None:
    (tmp_path / "digits.txt").write_text("0123456789\n" * 500)
    list(prepare(textfile_recipe([tmp_path / "digits.txt"], name="digits")))
    list(prepare(textfile_recipe([trained.parent / "small.txt"], name="same")))
    async with lab() as at:
        screen = NewRunScreen(dataset="digits", start="weights one")
        at.app.push_screen(screen)
        await at.sees("its tokenizer is not that of digits")
        assert screen.field("start").has_class("-wrong")
        assert screen.config is None
        screen.field("dataset").editor.value = "same"
        await at.until(lambda: screen.config is not None)
        assert not screen.field("start").has_class("-wrong")


async def test_a_time_measured_without_the_compiler_says_so_where_the_run_has_it(
    lab: Any, two_runs: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(config: Any, dataset: str) -> Iterator[Result]:
        yield FreeMemory(device="cpu", free=8_000_000_000)
        yield Measured(
            seconds_per_step=0.012, batch_size=config.data.batch_size, device="cpu", dtype="float32", threads=2
        )
        yield Compiled(why="compiling takes about 40 s and saves about 200 s in this run")

    monkeypatch.setattr(measuring, "measure", measure)
    list(prepare(textfile_recipe([trained.parent / "small.txt"], name="same")))
    async with lab(size=(200, 60)) as at:
        at.app.push_screen(NewRunScreen(dataset="same"))
        await at.sees("12 ms per step", "Without torch.compile, which", "about 200 s in this run")


@pytest.mark.parametrize(("asked", "told"), [("true", 1), ("false", 0)])
def test_whether_a_run_will_be_compiled_is_the_engines_own_answer(
    asked: str, told: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nanogpt.hardware import choices

    monkeypatch.setattr(choices, "missing_for_compile", lambda device: None)
    config = resolve(flags={"compile": asked, "device": "cpu", "vocab_size": 65, "n_layer": 1}).config
    assert len(list(compiled(config))) == told


def test_a_time_is_measured_anew_for_all_that_changes_it_or_its_note() -> None:
    said: list[Any] = []

    class Done:
        """Work that has measured as soon as it is asked for."""

        is_training = is_measuring = cancelled = False
        done, error = True, None

        def start_measurement(self, work: Any, receive: Any) -> "Done":
            said.append(receive)
            return self

        def drain(self) -> list[Event]:
            seconds = 0.01 * len(said)
            return [Measured(seconds_per_step=seconds, batch_size=1, device="cpu", dtype="float32", threads=1)]

        def stop(self) -> None:
            pass

    known: Any = {"same": SimpleNamespace(prepared=True)}
    session: Any = Done()
    timer: Any = Done()
    measured = measuring.SpeedMeasurement(session, lambda seconds, then: timer, lambda: None)
    found = []
    flags: list[dict[str, Any]] = [
        {},
        {"optimizer": "muon"},
        {"lora_rank": 4, "init_from": "one"},
        {"ema_decay": 0.9},
        {"max_iters": 50_000},  # which compile=auto may compile
        {"compile": "false"},
        {"compile": "false", "max_iters": 50_000},
        {},
    ]
    for changes in flags:
        measured.request(resolve(flags={"dataset": "same"} | changes).config, known)
        if measured.speed.seconds_per_step is None:
            measured.start()
            said[-1]()
        found.append(measured.speed.seconds_per_step)
    assert found == [0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.06, 0.01]


def test_what_is_measured_at_once_is_not_measured_again_after_the_pause() -> None:
    stopped: list[bool] = []
    worker: Any = SimpleNamespace()
    session: Any = SimpleNamespace(is_training=False, is_measuring=False, start_measurement=lambda *work: worker)
    pause: Any = SimpleNamespace(stop=lambda: stopped.append(True))
    measured = measuring.SpeedMeasurement(session, lambda seconds, then: pause, lambda: None)
    known: Any = {"same": SimpleNamespace(prepared=True)}
    measured.request(resolve(flags={"dataset": "same"}).config, known)
    assert stopped == []
    measured.start()
    assert stopped == [True]


def test_measuring_again_waits_for_the_last_step_of_the_measurement_before() -> None:
    workers: list[Any] = []
    timers: list[Any] = []
    pause: Any = SimpleNamespace(stop=lambda: None)

    def start_measurement(*work: Any) -> Any:
        session.is_measuring = True
        workers.append(SimpleNamespace(cancel=lambda: None))
        return workers[-1]

    def set_timer(seconds: float, then: Any) -> Any:
        timers.append(then)
        return pause

    session: Any = SimpleNamespace(is_training=False, is_measuring=False, start_measurement=start_measurement)
    measured = measuring.SpeedMeasurement(session, set_timer, lambda: None)
    known: Any = {"same": SimpleNamespace(prepared=True)}
    measured.request(resolve(flags={"dataset": "same"}).config, known)
    measured.start()
    measured.start()
    assert len(workers) == 1
    session.is_measuring = False
    timers[-1]()
    assert len(workers) == 2


class OneWorker:
    """A session in which each measurement has the same worker."""

    is_training = is_measuring = False

    def __init__(self, worker: Any) -> None:
        self.worker = worker
        self.on_results: list[Callable[[], None]] = []

    def start_measurement(self, work: Any, on_change: Callable[[], None]) -> Any:
        self.on_results.append(on_change)
        return self.worker


def measurement_in(session: Any) -> measuring.SpeedMeasurement:
    """A measurement that has been started."""
    pause: Any = SimpleNamespace(stop=lambda: None)
    measured = measuring.SpeedMeasurement(session, lambda seconds, then: pause, lambda: None)
    known: Any = {"same": SimpleNamespace(prepared=True)}
    measured.request(resolve(flags={"dataset": "same"}).config, known)
    measured.start()
    return measured


def test_the_last_result_of_a_measurement_is_not_lost_if_its_thread_ends_while_they_are_read() -> None:
    last = Measured(seconds_per_step=0.01, batch_size=1, device="cpu", dtype="float32", threads=1)
    session = OneWorker(EndingWorker(last))
    measured = measurement_in(session)
    session.on_results[0]()
    assert measured.is_measuring
    session.on_results[0]()
    assert (measured.is_measuring, measured.speed.seconds_per_step) == (False, 0.01)


def test_a_measurement_that_a_training_has_cancelled_is_made_again_later() -> None:
    memory = FreeMemory(device="cpu", free=1)
    session = OneWorker(SimpleNamespace(done=True, cancelled=True, error=None, drain=lambda: [memory]))
    measured = measurement_in(session)
    session.on_results[0]()
    assert measured.speed == Speed(note=measuring.NOT_NOW)
    measured.start()
    assert len(session.on_results) == 2


def test_a_problem_of_a_measurement_is_not_kept_for_the_next_time() -> None:
    session = OneWorker(SimpleNamespace(done=True, cancelled=False, error="nothing is free", drain=list))
    measured = measurement_in(session)
    session.on_results[0]()
    assert measured.speed.problem == "nothing is free"
    measured.request(resolve(flags={"dataset": "same"}).config, {})
    assert measured.speed.problem == "nothing is free"  # it stays while nothing that the speed depends on has changed
    measured.request(resolve(flags={"dataset": "other"}).config, {})
    measured.request(resolve(flags={"dataset": "same"}).config, {})
    assert measured.speed == Speed()  # until it is measured again


@pytest.mark.parametrize(
    ("max_iters", "shown"),  # 12 · 64 tokens per iteration, of 38,400
    [(1, "0.020"), (100, "2.0"), (50_000, "1,000")],
)
def test_epochs_are_told_apart_at_any_length(max_iters: int, shown: str) -> None:
    config = resolve(flags={"max_iters": max_iters, "vocab_size": 65}).config
    info = DatasetInfo(name="some", prepared=True, tokens={"train": 38_400, "val": 100}, vocab_size=65)
    epochs = next(value for name, value, *_ in figures(config, info, Speed()) if name == "epochs")
    assert epochs == shown


@pytest.mark.parametrize(
    ("first_step", "shown"),  # 2,000 steps of 12 · 64 tokens, and 5 evaluations of 60 batches that take a third of one
    [(0, ("1.5 M", "in total", "40.0", "≈ 35:00")), (1500, ("384 k", "left", "10.0", "≈ 8:45"))],
)
def test_a_resumed_run_has_the_rest_of_its_steps_before_it(first_step: int, shown: tuple[str, ...]) -> None:
    flags = {"max_iters": 2000, "eval_interval": 500, "eval_iters": 30, "vocab_size": 65}
    info = DatasetInfo(name="some", prepared=True, tokens={"train": 38_400, "val": 38_400}, vocab_size=65)
    found = figures(resolve(flags=flags).config, info, Speed(seconds_per_step=1.0), first_step)
    values = {name: (value, note) for name, value, note, _ in found}
    assert (*values["tokens"], values["epochs"][0], values["time"][0]) == shown


def test_the_memory_is_that_of_the_number_format_of_the_run(real_measuring: None) -> None:
    config = resolve(flags={"dtype": "bfloat16", "device": "cpu", "vocab_size": 65}).config
    first = next(iter(measuring.measure(config, "none")))
    assert isinstance(first, FreeMemory)
    assert first.dtype == "bfloat16"
