"""`nanogpt watch` of a run that ends, is resumed, renamed, silent or killed: what it prints, and when it ends."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from nanogpt.cli import main
from nanogpt.cli.training_display import show
from nanogpt.cli.watch import RunLocation, json_lines, status_line, watched_events
from nanogpt.events import Event, Finished, Notice, Sampled, Saved, Started, Status, Step, from_json, to_json
from nanogpt.runs.folder import lock, summary
from nanogpt.runs.following import follow
from nanogpt.runs.state import RunState, status_event
from tests.made_events import started, stepped


class Run:
    """A run's folder as a trainer on another machine writes it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True)
        (folder / "run.toml").touch()

    def record(self, *events: Event) -> None:
        with (self.folder / "events.jsonl").open("a") as log:
            log.writelines(to_json(event) + "\n" for event in events)

    def beat(self, state: str = "running", ago_s: float = 0.0, message: str = "") -> None:
        updated = time.time() - ago_s
        about = {"state": state, "step": 3, "max_iters": 9, "updated": updated, "host": "elsewhere", "pid": 7}
        about["message"] = message
        partial = self.folder / ".status"
        partial.write_text(json.dumps(about))
        os.utime(partial, (updated, updated))
        partial.replace(self.folder / "status.json")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    monkeypatch.setenv("NANOGPT_RUNS_DIR", str(tmp_path / "runs"))
    made = Run(tmp_path / "runs" / "one")
    made.record(started(), stepped(1))
    made.beat()
    return made


def ended(step: int) -> Finished:
    return Finished(step=step, reason="stopped", train_loss=1.0, val_loss=None, best_val_loss=None, elapsed_s=1.0)


def test_json_gives_the_record_as_it_is_and_a_status_where_no_event_tells(run: Run) -> None:
    location = RunLocation(run.folder)
    given: list[str] = []

    with closing(json_lines(run.folder, True, location)) as texts:

        def until(phase: str) -> Status:
            for text in texts:
                given.extend(text.splitlines())
                event = from_json(given[-1])
                if isinstance(event, Status) and event.phase == phase:
                    return event
            raise AssertionError

        assert until("training").state == "running"
        run.record(ended(1))
        run.beat("stopped")
        until("stopped")
        run.record(started(1), stepped(2))
        run.beat()
        until("training")
        run.folder = run.folder.rename(run.folder.with_name("two"))
        assert until("training").run == "two"
        assert location.folder == run.folder
        run.beat(ago_s=60)
        until("silent")
        run.beat()
        until("training")
    as_json_lines = [text for text in given if '"event":"Status"' not in text]
    assert as_json_lines == (run.folder / "events.jsonl").read_text().splitlines()


@pytest.fixture
def happens(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Does things one after another while a run is watched, each when all before it was seen."""

    def do(*actions: Callable[[], object]) -> None:
        left = list(actions)

        def watched(*args: Any, **options: Any) -> Iterator[Event]:
            for event in follow(*args, poll_s=0.01, **options):
                yield event
                if isinstance(event, Status):
                    if not left:
                        return
                    left.pop(0)()

        monkeypatch.setattr("nanogpt.cli.watch.follow", watched)

    return do


def test_with_follow_a_run_that_ended_is_watched_when_it_is_resumed(run: Run, happens: Callable[..., None]) -> None:
    run.record(ended(1))
    run.beat("stopped")

    def end() -> None:
        run.record(ended(2))
        run.beat("stopped")

    happens(lambda: run.record(started(1), stepped(2)), run.beat, end, lambda: None)
    events = list(watched_events(run.folder, True, RunLocation(run.folder)))
    assert [type(event) for event in events] == [Started, Started, Step, Finished, Notice]
    assert isinstance(events[-1], Notice)
    assert events[-1].text == "stopped at step 3"  # as the status says


def test_without_it_watching_ends_with_the_run(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.record(ended(1))
    run.beat("stopped")
    assert [type(event) for event in watched_events(run.folder, False, RunLocation(run.folder))] == [Started], (
        "how it began"
    )
    assert main(["watch", "one"]) == 0
    assert capsys.readouterr().out.startswith("one  stopped  step 3/9")


def test_a_run_that_is_being_resumed_while_one_looks_is_waited_for(run: Run, happens: Callable[..., None]) -> None:
    run.record(ended(1))
    run.beat("stopped")
    held = lock(run.folder)
    held.acquire()  # a trainer that has not told anything yet
    happens(lambda: run.record(started(1), stepped(2), ended(2)), held.release, lambda: None)
    watched = [type(event) for event in watched_events(run.folder, False, RunLocation(run.folder))]
    assert watched == [Started, Started, Step, Finished]


def test_what_no_event_tells_is_a_notice(run: Run, happens: Callable[..., None]) -> None:
    def rename() -> None:
        run.folder = run.folder.rename(run.folder.with_name("two"))

    def fail() -> None:
        run.beat("failed", message="out of memory")

    happens(rename, lambda: run.beat(ago_s=60), run.beat, fail, lambda: None)
    notices = [
        event.text for event in watched_events(run.folder, True, RunLocation(run.folder)) if isinstance(event, Notice)
    ]
    silent = "no heartbeat for some time: the process, its disk or its connection may be slow"
    assert notices == ["the run is now named two", silent, "the heartbeat is back", "failed: out of memory"]


def test_a_record_of_another_writer_reaches_the_terminal_as_json_alone(
    run: Run, capsys: pytest.CaptureFixture[str]
) -> None:
    with (run.folder / "events.jsonl").open("ab") as log:
        log.write(b'{"event":"Notice","time":1,"level":"info","text":"\x1b]0;x\x07"}\n')
        log.write('{"event":"Notice","time":1,"level":"info","text":"\u009b31m"}\n'.encode())
        log.write(b"not JSON \x1b[31m\n")
    run.record(ended(1))
    run.beat("stopped")
    main(["watch", "one", "--json"])
    out = capsys.readouterr().out
    assert out.isascii()
    assert "\x1b" not in out
    assert all(json.loads(text) for text in out.splitlines())


def test_a_run_that_was_imported_is_watched(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    run.record(replace(started(3), train_tokens=0), ended(3))
    run.beat("stopped")
    assert main(["watch", "one"]) == 0
    assert "r: 1 parameters, imported at step 3" in capsys.readouterr().err


@pytest.mark.parametrize(("saved", "words"), [(False, "it has no checkpoint yet"), (True, "--init_from=resume")])
def test_the_way_to_go_on_is_named_where_there_is_one(run: Run, saved: bool, words: str) -> None:
    if saved:
        (run.folder / "checkpoints" / "step-00000001").mkdir(parents=True)
        run.record(Saved(step=1, path="checkpoints/step-00000001", is_best=True, stall_s=0.0))
    assert words in status_line(RunState("one", str(run.folder), "interrupted"))


def test_the_length_is_the_one_that_a_command_has_set(run: Run) -> None:
    first = next(watched_events(run.folder, False, RunLocation(run.folder)))
    assert isinstance(first, Started)
    assert first.max_iters == 9, "as the status says"


def test_the_last_sample_is_shown_where_nobody_prints_it(capsys: pytest.CaptureFixture[str]) -> None:
    for is_watched in (False, True):
        show(iter([started(max_iters=5), Sampled(step=5, prompt="To", text=" be", seed=1)]), is_watched=is_watched)
        assert ("sample at step 5: To be" in capsys.readouterr().err) == is_watched


def test_watching_ends_when_its_reader_is_gone(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    run.record(ended(1))
    run.beat("stopped")
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as stream, monkeypatch.context() as piped:
        piped.setattr(sys, "stderr", stream)
        assert main(["watch", "one"]) == 141


def test_a_reader_that_is_gone_is_noticed_while_nothing_happens(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    status, location = status_event(summary(run.folder)), RunLocation(run.folder)
    for name in ("follow", "follow_lines"):
        monkeypatch.setattr(f"nanogpt.cli.watch.{name}", lambda *args, **options: iter([status]))
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as stream, monkeypatch.context() as piped:
        piped.setattr(sys, "stdout", stream)
        piped.setattr(sys, "stderr", stream)
        assert len(list(json_lines(run.folder, True, location))) == 1
        assert len(list(watched_events(run.folder, True, location))) == 1
        os.close(reader)
        with pytest.raises(BrokenPipeError):
            list(json_lines(run.folder, True, location))
        with pytest.raises(BrokenPipeError):
            list(watched_events(run.folder, True, location))
