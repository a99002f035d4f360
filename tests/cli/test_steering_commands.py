"""`nanogpt train --detach`, `watch` and `ctl`: runs that outlive their terminal, seen and steered from another one."""

import json
import os
import pty
import signal
import time
from contextlib import suppress
from itertools import chain, count
from pathlib import Path

import pytest

from nanogpt import processes, runs
from nanogpt.cli import ctl, main
from nanogpt.errors import UserError
from nanogpt.events import Acknowledged, Finished, from_json
from nanogpt.models import gpt2
from nanogpt.runs.detached import resume_detached
from nanogpt.runs.folder import is_locked, lock, run_config
from nanogpt.runs.recorder import write_status
from nanogpt.runs.state import RunState
from nanogpt.schedules import cosine
from nanogpt.training import Save
from tests import forked
from tests.made_events import stepped
from tests.narrowing import expect


@pytest.fixture
def endless(small):
    return [*small, "--max_iters=10000000", "--eval_interval=5000000"]


@pytest.fixture
def ended():
    """Ends what a test started, however it went."""
    pids: list[int] = []
    yield pids.append
    for pid in pids:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def until(condition, timeout_s=60):
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_a_detached_run_is_watched_steered_and_stopped_by_other_commands(endless, capsys, ended):
    changes = ["--sample_start=a b\n?", "--min_lr=none", "--lr_decay_iters=5", "--bias", "--learning_rate=3e-4"]
    assert main(["train", *endless, *changes, "--name=one", "--detach"]) == 0
    out, err = capsys.readouterr()
    assert out == "one\n"
    assert "nanogpt watch one" in err
    folder = runs.find("one")
    pid = runs.summary(folder).pid
    ended(pid)
    assert os.getsid(pid) == pid != os.getsid(0), "a session of its own: no terminal can end it"
    every_setting_has_reached(run_config(folder))

    assert main(["watch", "one", "--once", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["state"] == "running"
    said = {
        "pause": "paused",
        "set eval-interval=7000 max_iters=20000000 learning_rate_scale=0.5": "last iteration 20,000,000",
        "sample ab": "sampling",
        "save": "checkpoint",
        "resume": "resumed",
    }
    for words, answer in said.items():
        assert main(["ctl", "one", *words.split(), "--timeout=120"]) == 0
        out = capsys.readouterr().out
        assert answer in out
        if words == "pause":
            assert main(["watch", "one", "--once"]) == 0
            assert capsys.readouterr().out.startswith("one  paused  step ")
        if words == "save":
            assert (folder / out.split()[-1] / "trainer.json").exists()
        if words.startswith("sample"):
            assert len(out.splitlines()) >= 2
    assert main(["ctl", "one", "stop", "--timeout=120"]) == 0
    assert capsys.readouterr().out == "stopping\n"
    assert main(["watch", "one"]) == 0
    out, err = capsys.readouterr()
    assert "one  stopped" in out
    until(lambda: "nanogpt train --init_from=resume" in (folder / "train.log").read_text())

    assert main(["ctl", "one", "pause"]) == 2
    assert "not training (it is stopped)" in capsys.readouterr().err
    assert main(["watch", "one", "--json"]) == 0
    events = [from_json(line) for line in capsys.readouterr().out.splitlines()]
    assert isinstance(events[-1], Finished)
    assert events == list(runs.read_events(folder))


def test_a_detached_resume_goes_on_with_the_changes_that_were_asked(small, capsys):
    assert main(["train", *small, "--name=one"]) == 0
    assert main(["train", "--init_from=resume", "--name=one", "--max_iters=9", "--detach"]) == 0
    folder = runs.find("one")
    until(lambda: runs.summary(folder).state == "finished" and not is_locked(folder))
    assert runs.summary(folder).step == 9


class Refused:
    """A process that is refused, while the trainer that has the run writes its status; it ends at the third look."""

    pid = 1

    def __init__(self, *_, stdout, **_more):
        stdout.write(b"nanogpt train: the run one is training in another process\n")
        stdout.flush()
        self.run, self.looks = Path(stdout.name).parent, 0

    def poll(self):
        self.looks += 1
        write_status(self.run, RunState("one", state="running", since=1.0, updated=1.0 + self.looks))
        return 2 if self.looks == 3 else None


def test_a_detached_resume_of_a_run_that_still_trains_is_refused(tmp_path, monkeypatch):
    (tmp_path / "run.toml").touch()
    write_status(tmp_path, RunState("one", state="running", since=1.0, updated=1.0))
    monkeypatch.setattr(processes, "start_python", Refused)
    with pytest.raises(UserError, match="the run one is training in another process"):
        resume_detached(tmp_path)


def test_a_folder_in_which_another_training_is_starting_is_left_as_it_is(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "start_python", Refused)
    with lock(tmp_path).acquire(), pytest.raises(UserError, match="is training in another process"):
        resume_detached(tmp_path)
    assert (tmp_path / "lock").exists()


def every_setting_has_reached(config):
    assert config.evaluation.sample_start == "a b\n?"
    schedule, model = expect(cosine.Config, config.schedule), expect(gpt2.Config, config.model)
    assert (schedule.min_lr, schedule.lr_decay_iters) == (None, 5)
    assert (model.bias, config.optimizer.learning_rate) == (True, 3e-4)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--n_embd=100", "--n_head=3"], "not divisible"),
        (["--block_size=90000"], "lower block_size to at most"),
        (["--init_from=nobody"], "no run 'nobody'"),
        (["--eval_only"], "--detach does not work with eval_only"),
    ],
)
def test_what_is_wrong_before_the_start_is_one_line_also_where_it_is_detached(small, capsys, words, said):
    assert main(["train", *small, *words, "--name=bad", "--detach"]) == 2
    out, err = capsys.readouterr()
    assert said in err
    assert err.count("\n") == 1
    assert out == ""
    assert not (Path(os.environ["NANOGPT_RUNS_DIR"]) / "bad").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["pause", "now"], "takes no arguments"),
        (["set"], "NAME=VALUE"),
        (["set", "max_iter=3"], "Did you mean max_iters?"),
        (["set", "max_iters=x"], "whole number"),
        (["set", "learning_rate_scale=0"], "above 0"),
        (["set", "eval_interval=0"], "at least 1"),
        (["sample", f"--seed={2**64}"], "seed=18446744073709551616: has to be at least 0 and at most"),
        (["jump"], "invalid choice"),
        (["pause", "--timeout=nan"], "0 or more"),
        (["pause", "--timeout=-1"], "0 or more"),
        ([], "are required: COMMAND\n"),
    ],
)
def test_a_wrong_order_is_one_line_and_no_command(small, capsys, words, said):
    assert main(["train", *small, "--max_iters=1", "--name=one"]) == 0
    capsys.readouterr()
    assert main(["ctl", "one", *words]) == 2
    err = capsys.readouterr().err
    assert said in err
    assert err.count("\n") == 1
    assert not (runs.find("one") / "mailbox").exists()


def test_no_answer_within_the_time_is_said(small, capsys, monkeypatch):
    assert main(["train", *small, "--max_iters=1", "--name=one"]) == 0
    folder = runs.find("one")
    status = json.loads((folder / "status.json").read_text())
    status |= {"state": "running", "host": "elsewhere", "updated": time.time()}
    (folder / "status.json").write_text(json.dumps(status))
    log = (folder / "events.jsonl").read_text().splitlines(keepends=True)
    (folder / "events.jsonl").write_text("".join(log[:-1]))
    capsys.readouterr()
    assert main(["ctl", "one", "pause", "--timeout=0.2"]) == 2
    assert "no answer within 0.2 s" in capsys.readouterr().err
    assert main(["ctl", "one", "pause", "--no-wait"]) == 0
    assert len(list((folder / "mailbox").iterdir())) == 2


def test_a_result_that_does_not_come_is_not_called_a_missing_answer(tmp_path, monkeypatch):
    """As of a checkpoint that a full disk refuses: training retries it."""
    answer = Acknowledged(step=1, command="Save", text="saving a checkpoint", id="x")
    monkeypatch.setattr(ctl, "follow", lambda *_, **__: chain([stepped(1), answer], map(stepped, count(2))))
    monkeypatch.setattr(ctl, "send_command", lambda *_: "x")
    answers = ctl.send_and_wait(tmp_path / "one", [Save()], timeout_s=0.0)
    assert next(answers) == "saving a checkpoint"
    with pytest.raises(
        UserError, match=r"^applied, but its result did not come within 0 s: `nanogpt watch .*one --once"
    ):
        next(answers)


def with_hangup(words, hangup):
    """The command, in a process that inherits how to react to SIGHUP, as from `nohup` or a shell's `trap`."""
    signal.signal(signal.SIGHUP, hangup)
    return main(words)


@pytest.mark.parametrize("hangup", [signal.SIG_DFL, signal.SIG_IGN])
def test_a_training_whose_terminal_is_closed_goes_on_to_its_end(small, ended, hangup):
    terminal, theirs = pty.openpty()
    words = ["train", *small, "--max_iters=400", "--eval_interval=200", "--name=one"]
    process = forked.Forked(with_hangup, words, hangup, terminal=os.ttyname(theirs))
    ended(process.pid)
    seen = b""
    while b"step 0" not in seen:
        seen += os.read(terminal, 4096)
    os.close(terminal)  # the kernel sends SIGHUP, and every later write fails
    os.close(theirs)
    assert process.wait(120) == 0
    about = runs.summary(runs.find("one"))
    assert (about.state, about.step) == ("finished", 400)


def test_a_training_whose_reader_has_gone_goes_on_to_its_end(small, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    words = ["train", *small, "--max_iters=400", "--eval_interval=20", "--name=one", "--sample_tokens=0"]
    process = forked.nanogpt(words, output=tmp_path / "pipe")
    with (tmp_path / "pipe").open() as reader:
        reader.readline()
    assert process.wait(120) == 0
    assert runs.summary(runs.find("one")).step == 400
