"""One odd file costs itself alone: pipes, endless files, bad lines, and what one may not read."""

import json
import os
import shutil

import pytest

from nanogpt import runs
from nanogpt.errors import UserError
from nanogpt.events import Finished, Notice, Step, to_json
from nanogpt.reports.export import export_metrics
from nanogpt.runs import checkpoints, manage
from nanogpt.runs.folder import read_run_toml, run_config
from nanogpt.runs.following import follow
from nanogpt.runs.load import load_tokenizer
from nanogpt.training import Pause, Save, control
from tests.made_events import stepped
from tests.narrowing import expect


@pytest.fixture
def run(small):
    folder = runs.new_folder("run", name="one")
    list(runs.start(small(checkpoint_interval=4), folder))
    return folder


@pytest.fixture
def odd(run):
    """A copy of a run, and a function that puts a pipe, or a link to an endless file, in place of a file."""
    copy = run.with_name("odd")
    shutil.copytree(run, copy)

    def make(name, kind):
        (copy / name).unlink(missing_ok=True)
        if kind == "pipe":
            os.mkfifo(copy / name)
        else:
            (copy / name).symlink_to("/dev/zero")
        return copy

    return make


both = pytest.mark.parametrize("kind", ["pipe", "endless"])


@both
@pytest.mark.parametrize("name", ["status.json", "run.toml"])
def test_an_odd_file_in_one_run_is_named_and_the_other_runs_are_listed(odd, name, kind):
    odd(name, kind)
    about = {each.name: each for each in runs.list_runs()}
    assert about["one"].state == "finished"
    assert about["odd"].state == "failed"
    assert name in about["odd"].message
    assert "not a regular file" in about["odd"].message


def read_latest(run):
    return checkpoints.read(expect(runs.Checkpoint, runs.latest(run)).path)


@both
def test_odd_files_that_are_read_are_refused_in_one_line(odd, kind):
    for name, read in (
        ("run.toml", read_run_toml),
        ("tokenizer.json", load_tokenizer),
        ("events.jsonl", runs.history),
        ("events.jsonl", lambda run: list(runs.resume(run, {"max_iters": 16}))),
        ("checkpoints/step-00000012/trainer.json", read_latest),
        ("checkpoints/step-00000012/model.safetensors", read_latest),
    ):
        whole = (odd("x", kind).with_name("one") / name).read_bytes()
        with pytest.raises(UserError, match="not a regular file") as caught:
            read(odd(name, kind))
        assert "damaged" not in str(caught.value)
        (odd("x", kind) / name).unlink()
        (odd("x", kind) / name).write_bytes(whole)
    assert manage.read_note(odd("note.txt", kind)) == ""


@both
def test_a_record_that_is_no_regular_file_is_not_followed(odd, kind):
    with pytest.raises(UserError, match=r"events.jsonl: not a regular file"):
        next(follow(odd("events.jsonl", kind)))


def test_of_a_status_that_is_too_large_nothing_is_read(odd):
    folder = odd("x", "pipe")
    with (folder / "status.json").open("wb") as file:
        file.truncate(1 << 40)  # without taking any room on the disk
    with pytest.raises(UserError, match=r"status.json: larger than 1,048,576 bytes"):
        runs.summary(folder)


ODD_LINES = {
    "torn": b'{"event":"Step","step":2,"lo\n',
    "zeros": b"\0" * 300 + b"\n",
    "newer": b'{"event":"Telepathy","step":2}\n',
    "too long": b'{"event":"Step","step":"' + b"2" * 20_000 + b'"}\n',
}


@pytest.mark.parametrize("kind", ODD_LINES)
def test_a_bad_line_costs_itself_alone_and_file_and_line_are_named_once(tmp_path, kind, monkeypatch):
    monkeypatch.setattr("nanogpt.runs.folder.LONGEST_EVENT", 10_000)
    (tmp_path / "run.toml").touch()
    good = [to_json(stepped(number)).encode() + b"\n" for number in (1, 3, 5)]
    end = Finished(step=5, reason="stopped", train_loss=None, val_loss=None, best_val_loss=None, elapsed_s=1.0)
    lines = [
        good[0],
        ODD_LINES[kind],
        good[1],
        ODD_LINES[kind],
        ODD_LINES[kind],
        good[2],
        to_json(end).encode() + b"\n",
    ]
    (tmp_path / "events.jsonl").write_bytes(b"".join(lines))
    followed = [event for event in follow(tmp_path, poll_s=0.001) if isinstance(event, Step)]
    assert [event.step for event in followed] == [1, 3, 5]
    for events in (list(runs.read_events(tmp_path)), runs.history(tmp_path)):
        assert [event.step for event in events if isinstance(event, Step)] == [1, 3, 5]
        (notice,) = [event for event in events if isinstance(event, Notice)]
        assert f"{tmp_path}/events.jsonl" in notice.text
        assert "\\x00" not in notice.text
        assert len(notice.text) < 500
    assert "line 2 of" in expect(Notice, runs.history(tmp_path)[1]).text
    assert export_metrics(tmp_path, tmp_path / "metrics.csv") == 3


@pytest.mark.usefixtures("unprivileged")
def test_a_refused_permission_is_called_that_and_never_damage(run):
    latest = expect(runs.Checkpoint, runs.latest(run)).path
    for path, read in (
        (latest / "model.safetensors", lambda: checkpoints.read(latest)),
        (latest / "trainer.json", lambda: checkpoints.read(latest)),
        (latest, lambda: checkpoints.read(latest)),
        (latest, lambda: checkpoints.is_checkpoint(latest)),
        (run / "checkpoints", lambda: checkpoints.latest(run)),
        (run / "checkpoints", lambda: list(runs.resume(run, {"max_iters": 16}))),
        (run / "tokenizer.json", lambda: load_tokenizer(run)),
        (run / "run.toml", lambda: read_run_toml(run)),
        (run / "status.json", lambda: runs.summary(run)),
        (run / "events.jsonl", lambda: runs.history(run)),
        (run, lambda: runs.find("one")),
        (run, lambda: runs.summary(run)),
    ):
        mode = path.stat().st_mode
        path.chmod(0)
        try:
            with pytest.raises(UserError, match="permission denied") as caught:
                read()
        finally:
            path.chmod(mode)
        assert "damaged" not in str(caught.value)
        assert str(path) in str(caught.value)


@pytest.mark.usefixtures("unprivileged")
def test_a_run_that_one_may_not_look_into_is_named_and_the_others_are_listed(odd):
    folder = odd("x", "pipe")
    folder.chmod(0)
    try:
        about = {each.name: each for each in runs.list_runs()}
    finally:
        folder.chmod(0o755)
    assert about["one"].state == "finished"
    assert "permission denied" in about["odd"].message


def test_a_status_that_is_no_status_is_named(odd):
    folder = odd("x", "pipe")
    for nonsense in ("[]", "3", "[" * 100_000, json.dumps({"state": 3})):
        (folder / "status.json").write_text(nonsense)
        with pytest.raises(UserError, match=r"cannot read .*status.json"):
            runs.summary(folder)


@pytest.mark.parametrize("text", ["run = 5", '[run]\nformat = "2"'])
def test_a_table_of_facts_that_is_none_is_refused_in_one_line(tmp_path, text):
    (tmp_path / "run.toml").write_text(text)
    with pytest.raises(UserError, match=r"cannot read .*run.toml: its table \[run\] is damaged"):
        run_config(tmp_path)


@pytest.mark.parametrize("name", ["events.jsonl", "train.log", "dashboards.log"])
def test_a_link_in_a_copied_run_is_not_written_through(small, tmp_path, name):
    folder = runs.new_folder("run", name="one")
    list(runs.start(small(max_iters=4), folder))
    (tmp_path / "precious").write_text("no line break")
    (folder / name).unlink(missing_ok=True)
    (folder / name).symlink_to(tmp_path / "precious")
    with pytest.raises(UserError, match=f"{name} is a link to another file"):
        list(runs.resume(folder, {"max_iters": 5}))
    assert (tmp_path / "precious").read_text() == "no line break"


def test_what_a_mailbox_that_is_a_link_has_is_no_command(small, tmp_path):
    folder = runs.new_folder("run", name="one")
    list(runs.start(small(max_iters=4), folder))
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "letter").write_text(control.to_json(Save()))
    (folder / "mailbox").symlink_to(tmp_path / "elsewhere")
    list(runs.resume(folder, {"max_iters": 5}))
    assert [each.name for each in (tmp_path / "elsewhere").iterdir()] == ["letter"]
    with pytest.raises(UserError, match="is a link, through which nothing is sent"):
        runs.send_command(folder, Pause())


@pytest.mark.parametrize(
    "changed", [{"n_parameters": "x"}, {"step": 10**400}, {"train_loss": 10**400}, {"val_loss": "much"}]
)
def test_a_status_with_an_impossible_number_is_refused_in_one_line(small, changed):
    folder = runs.new_folder("run", name="one")
    list(runs.start(small(max_iters=4), folder))
    status = folder / "status.json"
    status.write_text(json.dumps(json.loads(status.read_text()) | changed))
    with pytest.raises(UserError, match=r"cannot read .*status\.json"):
        runs.summary(folder)
    assert [run.state for run in runs.list_runs()] == ["failed"]


@pytest.mark.parametrize("loss", ["x", 10**400])
def test_a_trainer_json_that_says_nonsense_under_a_right_sum_hides_no_other(small, loss):
    folder = runs.new_folder("run", name="one")
    list(runs.start(small(max_iters=4), folder))
    checkpoints.record_changes(folder, {"val_loss": loss})
    (found,) = runs.list_checkpoints(folder)
    assert found.val_loss is None
    with pytest.raises(UserError):
        checkpoints.read(found.path)
