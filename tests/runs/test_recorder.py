"""What is written down of a training, and read back."""

import json
import resource
from contextlib import closing

import pytest

from nanogpt import runs
from nanogpt.events import Finished, Step, to_json
from nanogpt.runs.recorder import Recorder, truncate_torn_line
from tests.made_events import started, stepped
from tests.narrowing import expect


def events(*given):
    yield from given


def record(events, folder):
    return Recorder(folder).record(events)


def test_each_event_is_on_disk_before_anybody_else_sees_it(tmp_path):
    for seen, _ in enumerate(record(events(started(), stepped(1), stepped(2)), tmp_path), start=1):
        assert len((tmp_path / "events.jsonl").read_bytes().splitlines()) == seen


def test_a_torn_last_line_is_left_out_in_reading_and_cut_off_before_appending(tmp_path):
    whole = to_json(stepped(1)) + "\n"
    (tmp_path / "events.jsonl").write_text(whole + to_json(stepped(2))[:20])
    assert [expect(Step, event).step for event in runs.read_events(tmp_path)] == [1]
    list(record(events(started(1)), tmp_path))
    assert len(list(runs.read_events(tmp_path))) == 2


def test_mending_a_file_of_one_torn_line_empties_it_and_a_whole_file_stays(tmp_path):
    path = tmp_path / "events.jsonl"
    for torn, kept in ((b"torn", b""), (b"a\nb\n", b"a\nb\n"), (b"a\n" + b"x" * 200_000, b"a\n"), (b"", b"")):
        path.write_bytes(torn)
        truncate_torn_line(path)
        assert path.read_bytes() == kept


def test_an_error_of_the_work_is_the_status_and_still_raised(tmp_path):
    def failing():
        yield started()
        raise RuntimeError("boom")

    try:
        list(record(failing(), tmp_path))
    except RuntimeError:
        status = json.loads((tmp_path / "status.json").read_text())
        assert (status["state"], status["message"]) == ("failed", "boom")
    else:
        raise AssertionError("the error was swallowed")


def test_work_that_fails_before_it_begins_leaves_the_status_as_it_was(tmp_path):
    list(record(events(started(), stepped(1)), tmp_path))
    before = (tmp_path / "status.json").read_bytes()

    def refused():
        raise RuntimeError("no such device")
        yield

    with pytest.raises(RuntimeError):
        list(record(refused(), tmp_path))
    assert (tmp_path / "status.json").read_bytes() == before


def test_closing_closes_the_work_too(tmp_path):
    closed = []

    def work():
        try:
            yield started()
            yield stepped(1)
        finally:
            closed.append(True)

    recorded = record(work(), tmp_path)
    next(recorded)
    recorded.close()
    assert closed == [True]
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "stopped"


def test_closing_at_the_last_event_leaves_the_training_finished(tmp_path):
    finished = Finished(step=1, reason="max_iters", train_loss=1.0, val_loss=1.0, best_val_loss=1.0, elapsed_s=1.0)
    with closing(record(events(started(), stepped(1), finished), tmp_path)) as recorded:
        next(event for event in recorded if isinstance(event, Finished))
    assert json.loads((tmp_path / "status.json").read_text())["state"] == "finished"


def test_the_status_survives_losses_that_json_has_no_number_for(tmp_path):
    finished = Finished(
        step=1, reason="nan", train_loss=float("nan"), val_loss=None, best_val_loss=None, elapsed_s=float("inf")
    )
    list(record(events(started(), stepped(1, float("nan")), finished), tmp_path))
    status = json.loads((tmp_path / "status.json").read_text(), parse_constant=str)
    assert (status["state"], status["train_loss"]) == ("failed", None)


def test_history_drops_what_a_resume_undid(tmp_path):
    given = [started(), *map(stepped, (1, 2, 3)), started(2), stepped(3, 7.0)]
    (tmp_path / "events.jsonl").write_text("".join(to_json(event) + "\n" for event in given))
    assert [(e.step, e.loss) for e in runs.history(tmp_path) if isinstance(e, Step)] == [(1, 1.0), (2, 1.0), (3, 7.0)]


def test_a_line_that_the_disk_takes_only_half_of_is_written_whole_when_there_is_space(tmp_path, monkeypatch):
    monkeypatch.setattr("nanogpt.runs.recorder.RETRY_S", 0.0)
    given = [started(), *map(stepped, range(1, 9))]
    recorder = Recorder(tmp_path)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        for event in recorder.record(events(*given)):
            size = (tmp_path / "events.jsonl").stat().st_size
            if event == given[5]:
                assert recorder.problem() == ""
                resource.setrlimit(resource.RLIMIT_FSIZE, (size + 30, limits[1]))
            if event == given[6]:
                assert "the disk" in recorder.problem()
                assert len(list(runs.read_events(tmp_path))) == 6
            if event == given[7]:
                resource.setrlimit(resource.RLIMIT_FSIZE, limits)
                assert recorder.problem() == ""
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(runs.read_events(tmp_path)) == given
    assert (tmp_path / "events.jsonl").read_bytes().count(b"\n") == len(given)
