"""Work in threads: its events arrive, it can be cancelled, its errors are one line, and nobody waits for anybody."""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nanogpt import runs
from nanogpt.config import SamplingConfig, resolve
from nanogpt.errors import UserError
from nanogpt.events import Acknowledged, Event, Notice, Status, Stopped, Token
from nanogpt.runs import checkpoints, following
from nanogpt.runs.state import RunState
from nanogpt.tokenizers.byte import Tokenizer as ByteTokenizer
from nanogpt.training import CommandQueue, Sample, SetMaxIters, Stop
from nanogpt_tui.app import LabApp
from nanogpt_tui.session.completions import LIVE, Completion, Source, settings_changed_at
from nanogpt_tui.session.generation_job import GenerationJob, WeightsLoaded, copy_live_weights
from nanogpt_tui.session.history import History
from nanogpt_tui.session.messages import ThrottledUpdate
from nanogpt_tui.session.run_client import LocalRunClient, RemoteRunClient
from nanogpt_tui.session.session import Session
from nanogpt_tui.session.token_distribution import compute_distribution
from nanogpt_tui.session.workers import Throttle, Worker, log_path
from tests import forked
from tests.ending_worker import EndingWorker
from tests.made_events import started
from tests.narrowing import expect


def notices(count: int) -> Iterator[Event]:
    yield from (Notice(level="info", text=str(number)) for number in range(count))


async def test_events_arrive_in_order_and_the_end_is_told(lab: Any) -> None:
    async with lab() as at:
        arrived: list[Event] = []
        job: Worker[Event] = at.app.session.start_worker(lambda: notices(1000), lambda: arrived.extend(job.drain()))
        await at.until(lambda: job.done and len(arrived) == 1000)
        assert [expect(Notice, event).text for event in arrived] == [str(number) for number in range(1000)]
        assert job.error is None


async def test_many_pulls_ring_the_bell_seldom_and_the_last_one_is_not_lost(lab: Any) -> None:
    async with lab() as at:
        state, receive = [0], []
        throttle = Throttle(at.app, lambda: receive.append(state[0]), per_second=10)

        def trigger() -> None:
            for number in range(1, 20_001):
                state[0] = number
                throttle.trigger()

        worker = threading.Thread(target=trigger)
        worker.start()
        await at.until(lambda: receive and receive[-1] == 20_000)
        worker.join()
        assert len(receive) < 2000


async def test_what_a_worker_says_while_the_app_shuts_down_is_not_shown(
    lab: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    received: list[int] = []
    async with lab() as at:
        update = ThrottledUpdate(Throttle(at.app, lambda: received.append(1), per_second=10))
        monkeypatch.setattr(at.app, "_running", False)
        at.app.on_throttled_update(update)
        assert received == []
        monkeypatch.setattr(at.app, "_running", True)
        at.app.on_throttled_update(update)
        assert received == [1]


def test_pulling_does_not_wait_for_an_interface_that_is_stuck() -> None:
    posted = []

    class Stuck:
        def post_message(self, message: object) -> None:
            posted.append(message)

    throttle = Throttle(Stuck(), lambda: None, per_second=4)  # type: ignore[arg-type]
    for _ in range(1000):
        throttle.trigger()
    assert len(posted) == 1


def test_cancelling_closes_the_work() -> None:
    closed, going = threading.Event(), threading.Event()

    def endless() -> Iterator[Event]:
        try:
            while True:
                going.set()
                yield Notice(level="info", text="on and on")
        finally:
            closed.set()

    job = Worker(endless).start()
    assert going.wait(60)
    job.cancel()
    assert closed.wait(60)
    job.wait(60)
    assert job.done
    assert job.error is None


def test_an_error_of_the_engine_is_its_one_line() -> None:
    def work() -> Iterator[Event]:
        raise UserError("no space left: free some")
        yield

    job = Worker(work).start()
    job.wait(60)
    assert job.error == "no space left: free some"
    assert not log_path().exists()


def test_an_unexpected_error_goes_to_the_log_file_that_its_line_names() -> None:
    def work() -> Iterator[Event]:
        yield Notice(level="info", text="fine so far")
        raise ZeroDivisionError("division by zero")

    job = Worker(work).start()
    job.wait(60)
    assert job.error is not None
    assert "\n" not in job.error
    assert str(log_path()) in job.error
    assert "ZeroDivisionError" in log_path().read_text(encoding="utf-8")


async def test_only_one_run_is_trained_at_a_time(lab: Any, rhymes: dict[str, Any]) -> None:
    async with lab(max_iters=100_000) as at:
        session = at.app.session
        session.quick_start(rhymes | {"max_iters": 100_000})
        with pytest.raises(UserError, match="quickstart is training: stop it first"):
            session.quick_start(rhymes)


def test_a_training_ends_the_measurement_of_the_speed_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    has_ended: list[bool] = []

    def without_end() -> Iterator[Event]:
        while True:
            time.sleep(0.01)
            yield Notice(level="info", text="a step")

    def train(folder: Path, **options: Any) -> Iterator[Event]:
        has_ended.append(measurement.done)
        return iter(())

    monkeypatch.setattr(runs, "run_quickstart", train)
    app: Any = SimpleNamespace(post_message=lambda message: None)
    session = Session(app, lambda: None)
    measurement = session.start_measurement(without_end, lambda: None)
    assert session.is_measuring
    session.quick_start({}, tmp_path).wait(60)
    measurement.cancel()
    assert has_ended == [True]
    assert not session.is_measuring


async def test_a_new_last_step_is_known_once_the_trainer_has_it(lab: Any, rhymes: dict[str, Any]) -> None:
    async with lab() as at:
        session = at.app.session
        session.quick_start(rhymes | {"max_iters": 100_000})
        await at.until(lambda: session.history.step > 3)
        session.send(SetMaxIters(40))
        await at.until(lambda: not session.is_training)
        assert session.history.max_iters == session.history.step >= 40


async def test_closing_the_session_saves_the_run(lab: Any, rhymes: dict[str, Any], home: Path) -> None:
    async with lab() as at:
        session = at.app.session
        session.quick_start(rhymes | {"max_iters": 100_000, "eval_interval": 100_000})
        await at.until(lambda: session.history.step > 3)
        session.close()
        assert session.history.saves[-1].step == session.history.step
        assert (home / "runs" / "quickstart" / "checkpoints").exists()


async def test_the_newest_run_is_shown_at_the_start(lab: Any, rhymes: dict[str, Any]) -> None:
    async with lab() as at:
        at.app.session.quick_start(rhymes)
        await at.until(lambda: at.app.session.history.phase == "finished")
    async with lab() as at:
        assert isinstance(at.app, LabApp)
        await at.until(lambda: at.app.session.history and at.app.session.history.reading is None)
        history = expect(History, at.app.session.history)
        assert history.step == rhymes["max_iters"]
        assert len(history) == rhymes["max_iters"]


async def test_a_run_of_another_process_is_watched_and_steered(lab: Any, rhymes: dict[str, Any], home: Path) -> None:
    options = [f"--{name}={value}" for name, value in (rhymes | {"max_iters": 1_000_000}).items()]
    trainer = forked.nanogpt(["train", "--name=far", *options], output=Path(os.devnull))
    try:
        while not (home / "runs" / "far" / "run.toml").exists() and trainer.poll() is None:
            time.sleep(0.1)
        async with lab() as at:
            await at.until(lambda: at.session.history and at.session.history.step > 3)
            assert not at.session.is_training  # so that quitting does not ask
            held = at.session.history.step
            await at.until(lambda: at.session.history.step > held)
            await at.press("space")
            await at.until(lambda: at.session.history.phase == "paused")
            await at.press("x", "s")
            await at.until(lambda: at.session.history.phase == "stopped")
            assert at.session.history.saves[-1].step == at.session.history.step
        assert trainer.wait(60) == 0
    finally:
        trainer.kill()


def test_the_evaluation_interval_is_what_the_trainer_has_whoever_changed_it() -> None:
    """A quick start chooses it after the start, a resume takes it from the checkpoint, and others send commands too."""
    app: Any = SimpleNamespace(post_message=lambda message: None)
    events: list[Event] = [
        replace(started(), eval_interval=7),
        Acknowledged(step=1, command="SetEvalInterval", text="", id="of another client", eval_interval=9),
        Acknowledged(step=1, command="Pause", text="paused"),
    ]
    client = LocalRunClient(lambda: iter(events), Throttle(app, lambda: None, 1), History("r"), CommandQueue())
    assert client.eval_interval is None
    client.start().wait()
    assert client.eval_interval == 9


def test_commands_that_a_training_had_not_applied_at_its_end_are_named() -> None:
    app: Any = SimpleNamespace(post_message=lambda message: None)
    history = History("r")
    client = LocalRunClient(lambda: iter([started()]), Throttle(app, lambda: None, 1), history, CommandQueue())
    for command in (SetMaxIters(5), Sample(""), Stop()):  # the last of which does not matter any more
        client.send(command)
    client.start().wait()
    assert history.log[-1].text == "the run ended before it applied: set max iters, sample"


def test_commands_are_not_said_to_be_lost_while_their_trainer_only_seems_to_be_gone(tmp_path: Path) -> None:
    app: Any = SimpleNamespace(post_message=lambda message: None)
    history = History("r")
    client = RemoteRunClient(tmp_path, Throttle(app, lambda: None, 1), history)
    client.on_item(started())
    seen = Status(
        run="r",
        path=str(tmp_path),
        state="",
        phase="",
        step=0,
        paused=False,
        waiting="",
        evaluating=None,
        message="",
        silent_s=0.0,
        pid=1,
        host="elsewhere",
    )
    said = []
    for state in ("interrupted", "running", "failed"):
        client.pending.append(SetMaxIters(5))
        client.on_item(replace(seen, state=state, phase=state))
        said.append([line.text for line in history.log if "before it applied" in line.text])
    assert said[:2] == [[], []]
    assert said[2] == ["the run ended before it applied: set max iters, set max iters"]


def test_a_paused_worker_asks_for_nothing_until_it_is_resumed_or_cancelled() -> None:
    asked = threading.Semaphore(0)

    def endless() -> Iterator[int]:
        while True:
            asked.release()
            yield 1

    job = Worker(endless)
    job.pause()
    job.start()
    assert asked.acquire(timeout=60)  # its first item
    assert not asked.acquire(timeout=0.1)
    job.resume()
    assert asked.acquire(timeout=60)
    job.pause()
    job.cancel()
    job.wait(60)
    assert job.done


def test_the_last_tokens_of_a_text_are_not_lost_if_its_thread_ends_while_they_are_read() -> None:
    worker = EndingWorker(Stopped(sample=0, reason="length", tokens=0, tokens_per_second=1.0))
    on_items: list[Callable[[], None]] = []

    def start_worker(work: Any, on_change: Callable[[], None], **options: Any) -> EndingWorker:
        on_items.append(on_change)
        return worker

    session: Any = SimpleNamespace(start_worker=start_worker)
    models: Any = None
    completion = Completion("", Source(), SamplingConfig())
    job = GenerationJob(session, models, completion, SamplingConfig, lambda job: None)
    on_items[0]()
    assert not job.done
    on_items[0]()
    assert completion.reason == "length"


def test_live_weights_for_whose_copy_there_is_no_memory_are_one_line(tmp_path: Path) -> None:
    commands = SimpleNamespace(put=lambda copy: copy.receive(None, 3))
    session: Any = SimpleNamespace(
        training=SimpleNamespace(commands=commands), folder=tmp_path, can_send=True, is_training=True
    )
    with pytest.raises(UserError, match="out of memory: no copy of the weights"):
        copy_live_weights(session, lambda: True)


def test_live_weights_of_a_run_in_another_process_are_not_averaged(rhymes: dict[str, Any]) -> None:
    folder = runs.new_folder("run", name="one")
    changes = {"ema_decay": 0.9, "max_iters": 2, "eval_interval": 2, "sample_interval": 0}
    list(runs.start(resolve(flags=rhymes | changes).config, folder))
    checkpoints.record_changes(folder, {"ema_val_loss": 0.5})  # below that of the raw weights
    client = SimpleNamespace(pending=(), saving=False)
    session: Any = SimpleNamespace(
        training=None, folder=folder, can_send=True, is_training=False, send=lambda command: None, client=client
    )
    assert runs.load_model(str(folder)).is_average
    assert not copy_live_weights(session, lambda: True).is_average


async def test_a_command_goes_to_the_run_that_was_shown_when_it_was_given(lab: Any) -> None:
    sent: list[str] = []
    answers: list[str] = []
    async with lab() as at:
        session = at.session
        await at.until(lambda: session.discovered)
        session.remote = SimpleNamespace(done=False, launched=True, unsent=[], send=lambda command: sent.append("one"))
        session.history = SimpleNamespace(run_state=SimpleNamespace(alive=True))
        with session._writing:  # the disk does not answer
            session.post(SetMaxIters(5), answers.append)
            session.remote = session.history = None
        await at.until(lambda: answers)
        assert (sent, answers) == (["one"], [""])
        session.post(SetMaxIters(5), answers.append)
        assert answers[1:] == ["the run is not training any more: nothing was changed"]


async def test_keys_wait_until_the_run_that_was_chosen_is_shown(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await at.until(lambda: at.session.folder == two_runs / "two" and at.app.is_ready())
        at.session.show_run(two_runs / "one")
        assert at.app.is_ready()  # no key asked for it
        at.session.show_run(two_runs / "one", answers_key=True)
        assert not at.app.is_ready()
        await at.until(at.app.is_ready)
        assert at.session.folder == two_runs / "one"


async def test_the_run_that_was_chosen_last_is_shown(lab: Any, two_runs: Path) -> None:
    async with lab() as at:
        await at.until(lambda: at.session.history is not None)
        for first, last in (("one", "two"), ("two", "one")):
            at.session.show_run(two_runs / first)
            at.session.show_run(two_runs / last)
            await at.until(lambda last=last: at.session.folder == two_runs / last)
            await at.rest(0.2)
            assert at.session.folder == two_runs / last


async def test_a_run_whose_record_could_not_be_followed_is_followed_when_it_trains(
    lab: Any, two_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Iterator[Event]:
        raise UserError("the disk is gone")

    one = two_runs / "one"
    async with lab() as at:
        session = at.session
        await at.until(lambda: session.remote is not None)
        with monkeypatch.context() as broken:
            broken.setattr(following, "follow_blocks", fail)
            session.show_run(one)
            await at.until(lambda: session.folder == one and session.remote.done)
        lost, alive = session.remote, [replace(runs.summary(one), state="running")]
        monkeypatch.setattr(session, "list_runs", lambda: alive)
        session.discover_runs()
        await at.until(lambda: session.remote is not lost, timeout_s=20)
        assert not session.remote.done


async def test_a_run_that_can_never_be_followed_is_opened_by_itself_once_for_each_trainer(
    lab: Any, two_runs: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*args: Any) -> Iterator[Event]:
        raise UserError("the disk is gone")

    def list_runs() -> list[RunState]:
        asked.append(pid)
        return [replace(summary, state="running", pid=pid)]

    def show_again(folder: Path) -> Worker[None]:
        opened.append(folder)
        worker: Worker[None] = show_run(folder)
        return worker

    one, opened, asked = two_runs / "one", list[Path](), list[int]()
    summary = runs.summary(one)
    async with lab() as at:
        session = at.session
        await at.until(lambda: session.remote is not None)
        monkeypatch.setattr(following, "follow_blocks", fail)
        show_run = session.show_run
        show_run(one)
        await at.until(lambda: session.folder == one and session.has_lost_run)
        monkeypatch.setattr(session, "list_runs", list_runs)
        monkeypatch.setattr(session, "show_run", show_again)
        for pid in (5, 6):
            await at.until(lambda pid=pid: session.discover_runs() or asked.count(pid) > 5, timeout_s=20)
            await at.until(lambda: session.has_lost_run)
        assert opened == [one, one]


def test_a_job_that_was_stopped_does_not_end_the_next_one_of_its_text() -> None:
    workers: list[Any] = []

    def start_worker(work: Any, on_change: Any, **options: Any) -> Any:
        workers.append(SimpleNamespace(cancel=lambda: None, drain=list, done=False, error=None, receive=on_change))
        return workers[-1]

    session: Any = SimpleNamespace(start_worker=start_worker)
    models: Any = None
    text = Completion("", Source(), SamplingConfig())
    first = GenerationJob(session, models, text, SamplingConfig, lambda job: None)
    first.stop()
    second = GenerationJob(session, models, text, SamplingConfig, lambda job: None)
    workers[0].done = True  # it was within a step
    workers[0].receive()
    assert first.done
    assert not second.done
    assert text.reason == ""


class ScriptedWorker:
    """Yields the items that a test puts into `items`; `work` is what it was given to do."""

    error: str | None = None
    done = False

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.work: Any = None
        self.receive: Any = None

    def start(self, work: Any, on_change: Any, **options: Any) -> "ScriptedWorker":
        self.work, self.receive = work, on_change
        return self

    def cancel(self) -> None:
        pass

    def drain(self) -> list[Any]:
        items, self.items = self.items, []
        return items


def job_with(text: Completion, knobs: SamplingConfig, models: Any = None) -> tuple[GenerationJob, ScriptedWorker]:
    worker = ScriptedWorker()
    session: Any = SimpleNamespace(start_worker=worker.start, is_training=False)
    return GenerationJob(session, models, text, lambda: knobs, lambda job: None), worker


def token(text: str) -> Token:
    return Token(sample=0, id=ord(text), text=text, probability=0.5, alternatives=())


WARM, COLD = SamplingConfig(temperature=1.5), SamplingConfig(temperature=0.1)


def test_a_text_stopped_before_its_first_token_has_the_knobs_with_which_it_is_continued() -> None:
    text = Completion("", Source(), SamplingConfig(seed=3))
    job_with(text, SamplingConfig())[0].stop()
    job_with(text, WARM)
    assert (text.knobs, text.knob_changes) == (SamplingConfig(temperature=1.5, seed=3), [])


def test_knobs_with_which_no_token_was_drawn_are_not_recorded() -> None:
    text = Completion("", Source(), SamplingConfig(), tokens=[token("a")], reason="esc")
    job_with(text, WARM)[0].stop()
    assert text.knob_changes == []
    text.knob_changes = [(1, WARM)]  # an earlier version recorded it
    job, worker = job_with(text, COLD)
    worker.items = [token("b")]
    job.stop()
    assert text.knob_changes == [(1, COLD)]
    assert settings_changed_at(text, 1) == "temperature=0.1"


def loaded(step: int, prefix: tuple[Token, ...], is_average: bool = False) -> WeightsLoaded:
    return WeightsLoaded(
        run="one",
        step=step,
        val_loss=None,
        device="cpu",
        vocab_size=256,
        tokenizer="",
        is_average=is_average,
        prefix=prefix,
    )


def test_tokens_before_later_live_weights_are_not_ascribed_to_those() -> None:
    text = Completion("", Source(None, LIVE), SamplingConfig(), "one", 5, tokens=[token("a")], reason="esc")
    for step in (9, 20):
        job, worker = job_with(text, SamplingConfig())
        worker.items = [loaded(step, tuple(text.tokens))]
        worker.receive()
        assert text.step != step  # no token is by them yet
        worker.items = [token("b")]
        job.stop()
    assert (text.step, text.first_step, text.weights_since) == (20, 5, 2)
    assert text.weights == "one · live weights, steps 5 to 20"
    models: Any = SimpleNamespace(load_exact=lambda completion: pytest.fail("these weights are gone"))
    assert compute_distribution(models, text, 1) is None


def test_averaged_weights_are_told_with_the_text() -> None:
    model: Any = SimpleNamespace(
        run="one", step=5, val_loss=None, device="cpu", tokenizer=ByteTokenizer(), is_average=True
    )
    text = Completion("", Source(), SamplingConfig())
    _, worker = job_with(text, SamplingConfig(), SimpleNamespace(load=lambda completion, is_wanted: model))
    worker.items = [next(worker.work())]
    worker.receive()
    assert (text.step, text.is_average) == (5, True)
