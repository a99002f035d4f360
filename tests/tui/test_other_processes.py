"""Runs that other processes train, in the app: started apart, found, steered, only looked at, silent, dead, copied."""

import dataclasses
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from nanogpt import runs
from nanogpt.cli import main as nanogpt
from nanogpt.config import config_to_toml, resolve
from nanogpt.data import prepare
from nanogpt.errors import UserError
from nanogpt.events import Acknowledged, Event, Finished, Health, Started, Step, to_json
from nanogpt.runs.state import RunState
from nanogpt.training import Pause, Resume, SetMaxIters
from nanogpt_tui import main
from nanogpt_tui.app import LabApp
from nanogpt_tui.screens.new_run.screen import NewRunScreen
from nanogpt_tui.screens.sample.screen import SampleScreen
from nanogpt_tui.session.generation_job import copy_live_weights
from nanogpt_tui.settings import Settings
from nanogpt_tui.settings import path as settings_path
from nanogpt_tui.terminal import run as terminal
from nanogpt_tui.widgets.header import running_text
from tests.forked import STEP_PAUSE
from tests.tui.conftest import Lab, kill_trainer

SHAPE = {"n_layer": "1", "n_head": "2", "n_embd": "16", "block_size": "16", "batch_size": "4", "device": "cpu"}
LONG = SHAPE | {"max_iters": "10000000", "eval_interval": "1000000", "sample_interval": "0"}


def started(step: int = 0) -> Started:
    sizes: Any = dict.fromkeys(("n_parameters", "tokens_per_iteration", "train_tokens", "val_tokens", "vocab_size"), 9)
    how: Any = {"device": "cpu", "dtype": "float32", "compile": False, "threads": 1, "peak_flops": None}
    return Started(run="far", step=step, max_iters=100, choices={}, **sizes, **how)


def stepped(step: int) -> Step:
    figures = dict.fromkeys(("learning_rate", "grad_norm", "tokens_per_second", "elapsed_s", "eta_s"), 1.0)
    return Step(step=step, loss=2.0, tokens=step, mfu=None, memory_bytes=1, **figures)


@pytest.fixture(autouse=True)
def unhurried_training(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(STEP_PAUSE, "0.01")  # a step takes 1 ms: the app would show hundreds a second


class Far:
    """A run's folder as a trainer on another machine writes it."""

    def __init__(self, folder: Path) -> None:
        import tomli_w

        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "run.toml").write_text(tomli_w.dumps(config_to_toml(resolve().config)), encoding="utf-8")

    def record(self, *events: Event) -> None:
        with (self.folder / "events.jsonl").open("a", encoding="utf-8") as log:
            log.writelines(to_json(event) + "\n" for event in events)

    def beat(self, updated: float, state: str = "running", **more: Any) -> None:
        """A heartbeat by the other machine's clock; the file has kept its time when it was copied."""
        about = {"state": state, "step": 3, "max_iters": 100, "updated": updated, "host": "elsewhere", "pid": 7} | more
        partial = self.folder / ".status"
        partial.write_text(json.dumps(about), encoding="utf-8")
        os.utime(partial, (updated, updated))
        partial.replace(self.folder / "status.json")


@pytest.fixture
def far(home: Path) -> Far:
    run = Far(home / "runs" / "far")
    run.record(started(), stepped(1), stepped(2), stepped(3))
    return run


def last_line(at: Any) -> str:
    return str(at.seen().splitlines()[-1])


async def test_a_run_started_apart_is_steered_like_ones_own_and_resumed_here_when_its_process_dies(
    lab: Callable[..., Any], rhymes: dict[str, Any], home: Path
) -> None:
    list(prepare("rhymes"))
    run = home / "runs" / "apart"
    try:
        async with lab() as at:
            screen = NewRunScreen(dataset="rhymes")
            at.app.push_screen(screen)
            await at.until(lambda: screen.datasets)
            for name, value in {"threads": "1", "compile": "false"}.items():  # which stand further down
                screen.draft.edit(name, value)
            for name, value in (LONG | {"name": "apart"}).items():
                screen.field(name).editor.value = value
            await at.until(lambda: screen.config is not None)
            await at.press("ctrl+g")
            await at.until(lambda: at.session.is_alive and at.session.history.step > 3)
            assert not at.session.is_training
            assert runs.summary(run).pid != os.getpid()
            await at.press("space")
            await at.until(lambda: at.session.history.phase == "paused")
            await at.press("space")
            await at.until(lambda: at.session.history.phase == "training")
            await at.press("T", *"tana", "enter")
            await at.until(lambda: [each.prompt for each in at.session.history.samples] == ["tana"])

            loaded = []

            def load() -> Iterator[None]:
                loaded.append(copy_live_weights(at.session, lambda: True))
                yield from ()

            await at.press("3")  # where text is written with the weights that there are, or with those it saves now
            assert at.app.screen.sources[0].label == "apart · latest"
            assert isinstance(at.app.screen, SampleScreen)
            job = at.session.start_worker(load, lambda: None)
            await at.until(lambda: job.done)
            assert [each.step for each in loaded] == [at.session.history.saves[-1].step]
            await at.press("2")

            errors: list[str] = []
            at.session.resume(run, then=errors.append)
            await at.until(lambda: errors)
            assert "is training in process" in errors[0]
            os.kill(runs.summary(run).pid, signal.SIGKILL)
            await at.until(lambda: at.session.history.phase == "interrupted")
            await at.until(lambda: "ended without a message" in at.seen() and "resume" in last_line(at))
            saved = at.session.history.saves[-1].step
            await at.press("r")
            await at.until(
                lambda: (
                    at.session.is_training and (began := at.session.history.started) is not None and began.step == saved
                )
            )
            await at.until(lambda: at.session.history.step > saved)
    finally:
        kill_trainer(run)


async def test_a_process_that_cannot_begin_says_why(
    lab: Callable[..., Any], rhymes: dict[str, Any], home: Path
) -> None:
    list(prepare("rhymes"))
    (home / "runs" / "full").mkdir(parents=True)
    (home / "runs" / "full" / "letter.txt").touch()
    async with lab() as at:
        config = resolve(flags={"dataset": "rhymes"} | {name: int(value) for name, value in list(SHAPE.items())[:-1]})
        at.session.start_detached(config.config, home / "runs" / "full")
        await at.sees("is not empty and not a run")
        await at.until(lambda: at.session.remote.done)
        await at.press("q")
        await at.until(lambda: not at.app.is_running)


async def test_a_resume_in_another_process_that_is_refused_leaves_the_run_as_it_was(
    lab: Callable[..., Any], two_runs: Path
) -> None:
    async with lab() as at:
        at.session.resume_detached(two_runs / "two", {"max_iters": 20})
        await at.until(lambda: at.session.remote is not None and at.session.remote.done)
        assert (at.session.history.phase, at.session.history.step) == ("finished", 20)
        await at.until(lambda: any("is complete at step" in toast.message for toast in at.app._notifications))


async def test_leaving_says_that_a_run_trains_on_in_its_own_process(
    lab: Callable[..., Any], rhymes: dict[str, Any], home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(terminal, "print_line", said.append)
    list(prepare("rhymes"))
    run = home / "runs" / "apart"
    try:
        async with lab() as at:
            config = resolve(flags=rhymes | {"max_iters": 10_000_000, "eval_interval": 5_000_000}).config
            at.session.start_detached(config, run)
            await at.until(lambda: at.session.history.step > 3)
            terminal.finish_training(at.app)
            assert said == [
                "Still training in the background. Watch: nanogpt watch apart  Stop: nanogpt ctl apart stop"
            ]
    finally:
        kill_trainer(run)


async def test_a_session_that_only_looks_sends_no_command_and_offers_no_key_that_would(
    far: Far, rhymes: dict[str, Any], looking: Callable[..., Any]
) -> None:
    far.beat(time.time())
    async with looking(far.folder, readonly=True) as at:
        await at.until(lambda: at.session.history and at.session.history.step == 3)
        assert at.session.is_alive
        assert "readonly" in at.seen()
        await at.sees("no sample yet: the setting")  # and no key that takes one
        assert not {"pause", "save", "stop", "sample", "new run", "resume"} & set(last_line(at).split())
        await at.press("space", "s", "x", "t", "n", "r", "plus", "g")
        assert len(at.app.screen_stack) == 1  # no question, no form
        with pytest.raises(UserError, match="read-only"):
            at.session.quick_start(rhymes)
        await at.press("4")
        await at.until(lambda: "far" in at.seen())
        await at.press("d", "R", "i")
        assert len(at.app.screen_stack) == 1
        await at.press("1")
        await at.until(lambda: "python_stdlib" in at.seen())
        await at.press("a", "d", "n", "p", "f")
        assert len(at.app.screen_stack) == 1
        assert at.app.screen.preparation is None
    assert {path.name for path in far.folder.iterdir()} == {"run.toml", "events.jsonl", "status.json"}


async def test_a_session_that_only_looks_samples_and_keeps_nothing(
    two_runs: Path, home: Path, looking: Callable[..., Any]
) -> None:
    async with looking(two_runs / "one", readonly=True) as at:
        await at.press("3")
        await at.until(lambda: at.app.screen.sources)
        screen = at.app.screen
        screen.knobs = dataclasses.replace(screen.knobs, max_new_tokens=4)
        await at.press("g")
        await at.until(lambda: screen.completion is not None and screen.completion.reason)
        assert len(screen.completion.tokens) == 4
        await at.press("e")
        assert len(at.app.screen_stack) == 1  # no question where to export
        at.app.set_preference("theme", "light")
        assert at.app.settings.theme == "light"
        with pytest.raises(UserError, match="read-only"):
            at.session.prepare("rhymes", lambda: None)
    assert not (home / "samples.jsonl").exists()
    assert not settings_path().exists()


async def test_a_silent_trainer_is_told_from_a_dead_one_and_one_that_comes_back(
    far: Far, looking: Callable[..., Any]
) -> None:
    far.beat(time.time() - 60)
    async with looking(far.folder) as at:
        await at.until(lambda: "no heartbeat" in at.seen() and "silent" in at.seen())
        assert at.session.history.phase == "silent"
        far.beat(time.time() - 300)
        # Seen to change a moment ago, it lives, whatever the other machine's clock says.
        await at.until(lambda: at.session.history.phase == "training")
    async with looking(far.folder) as at:
        await at.until(lambda: at.session.history and at.session.history.phase == "interrupted")
        await at.until(lambda: "process 7 on elsewhere ended without a message" in at.seen())
        assert len(at.session.history) == 3
        far.record(stepped(4))
        far.beat(time.time())
        await at.until(lambda: at.session.history.phase == "training")
        assert list(at.session.history.column("step")) == [1, 2, 3, 4]


async def test_space_resumes_a_paused_run_also_while_its_trainer_is_silent(
    far: Far, looking: Callable[..., Any]
) -> None:
    far.record(Acknowledged(step=3, command="Pause", text="paused"))
    far.beat(time.time() - 60, state="paused", paused=True)
    async with looking(far.folder) as at:
        await at.until(lambda: at.session.history and at.session.history.phase == "silent")
        await at.press("space")
        await at.until(lambda: [type(each) for each in at.session.client.pending] == [Resume])


async def test_space_asks_for_the_opposite_of_what_was_asked_last_also_before_it_is_on_the_disk(
    far: Far, looking: Callable[..., Any]
) -> None:
    far.beat(time.time())
    async with looking(far.folder) as at:
        await at.until(lambda: at.session.can_send)
        with at.session._writing:  # the disk does not answer
            await at.press("space", "space")
        await at.until(lambda: [type(each) for each in at.session.client.pending] == [Pause, Resume])
        await at.until(lambda: at.session.client.waiting == list(at.session.client.pending))
        far.record(ended(3))
        far.beat(time.time() + 1, "stopped")
        said = "the run ended before it applied: pause, resume"
        await at.until(lambda: said in [line.text for line in at.session.history.log])


@pytest.mark.parametrize("keys", [("x", "w"), ("m", "enter"), ("E", "5", "enter"), ("T", "enter")])
async def test_the_answer_to_a_question_about_one_run_is_not_sent_to_another(
    far: Far, home: Path, looking: Callable[..., Any], keys: tuple[str, ...]
) -> None:
    other = Far(home / "runs" / "other")
    other.record(started(), stepped(1))
    for run in (far, other):
        run.beat(time.time())
    async with looking(far.folder) as at:
        await at.until(lambda: at.session.can_send)
        await at.press(keys[0])
        at.session.show_run(other.folder)
        await at.until(lambda: at.session.folder == other.folder and at.session.can_send)
        await at.press(*keys[1:])
        await at.sees("another run is shown now: nothing was sent")
        at.session.finish_writing()
    assert not (far.folder / "mailbox").exists()
    assert not (other.folder / "mailbox").exists()


async def test_the_answer_to_a_question_is_sent_to_its_run_also_if_that_was_opened_anew_meanwhile(
    far: Far, looking: Callable[..., Any]
) -> None:
    far.beat(time.time())
    async with looking(far.folder) as at:
        await at.until(lambda: at.session.can_send)
        await at.press("m")
        before = at.session.history
        at.session.show_run(far.folder)
        await at.until(lambda: at.session.history is not before and at.session.can_send)
        await at.press("enter")
        await at.until(lambda: [type(each) for each in at.session.client.pending] == [SetMaxIters])


async def test_further_runs_in_training_are_announced_with_the_present_key_of_the_runs_screen(
    far: Far, home: Path
) -> None:
    other = Far(home / "runs" / "other")
    other.record(started(), stepped(1))
    far.beat(time.time())
    other.beat(time.time())
    app = LabApp(Settings(keymap={"app.runs": "f9"}))
    async with app.run_test(size=(120, 40), notifications=True) as pilot:
        at = Lab(app, pilot)
        await at.sees("1 more training; f9 lists them")
    app.session.close()


def ended(step: int) -> Finished:
    return Finished(step=step, reason="stopped", train_loss=None, val_loss=None, best_val_loss=None, elapsed_s=1.0)


@pytest.fixture
def beats_last(monkeypatch: pytest.MonkeyPatch) -> None:
    """A trainer that beats once is not silent 15 s later, however slow the machine is."""
    for module in ("state", "folder"):
        monkeypatch.setattr(f"nanogpt.runs.{module}.SLOW_S", 300.0)


@pytest.mark.usefixtures("beats_last")
async def test_a_run_that_ended_is_seen_to_go_on_to_be_renamed_and_to_fail(
    far: Far, looking: Callable[..., Any]
) -> None:
    far.record(ended(3))
    far.beat(time.time(), "stopped")
    async with looking(far.folder) as at:
        await at.until(lambda: at.session.history and at.session.history.reading is None)
        assert (at.session.history.phase, at.session.is_alive) == ("stopped", False)
        assert "■ far" in at.seen()
        far.beat(time.time())
        far.record(started(2), stepped(3), stepped(4))
        await at.until(lambda: at.session.history.phase == "training" and at.session.can_send)
        await at.sees("● far")
        await at.until(lambda: list(at.session.history.column("step")) == [1, 2, 3, 4])
        far.folder = far.folder.rename(far.folder.with_name("farther"))
        await at.sees("● farther")
        assert at.session.folder == far.folder
        far.record(stepped(5))
        await at.until(lambda: at.session.history.step == 5)
        far.beat(time.time() + 1, "failed", message="the loss became nan")
        await at.sees("× farther", "the loss became nan")


@pytest.mark.usefixtures("beats_last")
async def test_the_header_names_what_trains_not_what_is_shown(
    far: Far, home: Path, looking: Callable[..., Any]
) -> None:
    far.record(ended(3))
    far.beat(time.time(), "stopped")
    async with looking(far.folder) as at:
        await at.sees("■ far", "stopped")
        other = Far(home / "runs" / "other")
        other.record(started(), stepped(1))
        other.beat(time.time())
        await at.sees("■ far  ● other")
        assert at.session.history.run == "far", "what is shown stays"
        other.beat(time.time(), "finished")
        await at.sees("■ far", "stopped")


@pytest.mark.usefixtures("beats_last")
async def test_a_run_that_waits_for_the_disk_says_so_everywhere(
    far: Far, looking: Callable[..., Any], capsys: pytest.CaptureFixture[str]
) -> None:
    far.record(Health(step=3, state="waiting", message="training waits: the disk is full"))
    far.beat(time.time() + 1, "paused", waiting="training waits: the disk is full", paused=False)
    async with looking(far.folder) as at:
        await at.until(lambda: at.session.history and at.session.history.reading is None)
        await at.sees("‖ far")
        lines = [" ".join(line.split()) for line in at.seen().splitlines()]
        assert any("state waiting" in line for line in lines)
        await at.press("4")
        await at.sees("‖ waiting")
    for words in (["runs"], ["info", "far"], ["watch", "far", "--once"]):
        assert nanogpt(words) == 0
        shown = capsys.readouterr().out
        assert "waiting" in shown
        assert not {"paused", "running"} & set(shown.split())


@pytest.mark.usefixtures("beats_last")
async def test_an_evaluation_of_another_process_is_told(far: Far, looking: Callable[..., Any]) -> None:
    far.beat(time.time() + 1, evaluating=0.4)
    async with looking(far.folder) as at:
        await at.sees("eval 40%")
        await at.press("4")
        await at.sees("● evaluating")


async def test_a_long_record_is_drawn_coarsely_at_once_and_says_how_far_it_is_read(
    far: Far, looking: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nanogpt.runs import event_log, following, parsed_log

    monkeypatch.setattr(event_log, "LARGE", 1000)
    monkeypatch.setattr(following, "BLOCK", 2000)
    reached, go_on = threading.Event(), threading.Event()
    parse = event_log.parse_with_lines

    def slowly(block: bytes, path: Path, names: tuple[str, ...]) -> Iterator[Any]:
        yield from parse(block, path, names)
        if b'"step":60,' in block:
            reached.set()
            go_on.wait(60)

    monkeypatch.setattr(parsed_log, "parse_with_lines", slowly)
    far.record(*map(stepped, range(4, 101)), ended(100))
    far.beat(time.time(), "stopped", step=100)
    async with looking(far.folder) as at:
        await at.until(lambda: reached.is_set() and at.session.history and at.session.history.reading)
        await at.sees("reading")
        share = at.session.history.reading
        assert 0.3 < share < 0.8, "some 60 of 100 lines"
        await at.sees(f"reading {share:4.0%}")
        assert at.session.history.column("step")[-1] == 100
        assert at.session.history.phase == "stopped"
        go_on.set()
        await at.until(lambda: at.session.history.reading is None)
        await at.sees("■ far", "stopped")
        assert list(at.session.history.column("step")) == list(range(1, 101))


def test_at_step_0_there_is_no_eta() -> None:
    session: Any = SimpleNamespace(is_alive=True, other_runs=[], discovered=True)
    session.history = SimpleNamespace(run_state=RunState("r", state="running", max_iters=9), reading=None)
    for width in (80, 120, 200):
        text = running_text(session, width, 60).plain
        assert "training" in text
        assert "ETA" not in text


def test_a_run_that_is_not_there_is_one_line(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (home / "runs" / "first").mkdir(parents=True)
    (home / "runs" / "first" / "run.toml").touch()
    assert main(["watch", "firts"]) == 2
    told = capsys.readouterr().err
    assert told.count("\n") == 1
    assert "Did you mean first?" in told


async def test_a_run_in_its_own_process_whose_data_is_being_prepared_can_be_stopped(
    lab: Callable[..., Any], rhymes: dict[str, Any], home: Path, slow_server: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    monkeypatch.setattr(terminal, "print_line", said.append)
    async with lab() as at:
        at.session.start_detached(resolve(flags=rhymes).config, home / "runs" / "apart")
        await at.until(lambda: at.session.history is not None and at.session.history.preparing)
        terminal.finish_training(at.app)
        assert said == ["apart may not have started; `nanogpt runs` lists the runs"]
        await at.press("x", "w")
        await at.until(lambda: not at.session.is_starting)
        await at.sees("stopped before its first step")
        assert not at.session.is_alive
    assert not (home / "runs" / "apart").exists()
