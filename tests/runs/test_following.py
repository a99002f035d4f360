"""A run seen from outside: while it trains, when it ends or dies, on other machines' disks, and as a copy."""

import fcntl
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from nanogpt import runs
from nanogpt.errors import UserError
from nanogpt.events import Event, Finished, Notice, Status, Step, to_json
from nanogpt.runs import following, parsed_log
from nanogpt.runs.event_log import Steps
from nanogpt.runs.folder import LOST_S, is_locked, lock
from nanogpt.runs.following import follow, follow_blocks
from nanogpt.runs.recorder import Recorder
from nanogpt.runs.state import SLOW_S
from tests.forked import Forked
from tests.narrowing import expect

QUICKLY: dict[str, Any] = {"poll_s": 0.01}


class Clock:
    """Time that passes by sleeping alone."""

    now = 0.0

    def monotonic(self):
        return self.now

    def sleep(self, seconds):
        self.now += seconds


def stepped(step, loss=1.0):
    figures = dict.fromkeys(("learning_rate", "grad_norm", "tokens_per_second", "elapsed_s", "eta_s"), 1.0)
    return Step(step=step, loss=loss, tokens=1, mfu=None, memory_bytes=1, **figures)


def finished(step):
    return Finished(step=step, reason="max_iters", train_loss=1.0, val_loss=None, best_val_loss=None, elapsed_s=1.0)


def lines(*events):
    return "".join(to_json(event) + "\n" for event in events)


@pytest.fixture
def away(tmp_path):
    """The folder of a run that another machine trains; returns a function that writes its status."""
    (tmp_path / "run.toml").touch()

    def beat(state="running", updated=None, host="elsewhere", pid=1):
        status = {"state": state, "step": 1, "max_iters": 9, "updated": updated or time.time(), "host": host}
        (tmp_path / "status.json").write_text(json.dumps(status | {"pid": pid}))
        return tmp_path

    return beat


def test_the_last_event_is_read_though_its_trainer_ends_between_two_looks_at_the_run(away, monkeypatch):
    """The trainer writes its status first, then the event, then it releases the lock."""
    folder = away(state="finished", host=socket.gethostname())
    (folder / "events.jsonl").write_text(lines(stepped(1)))
    ends = iter((True, False))

    def is_locked(run):
        if held := next(ends, False):
            return held
        with (run / "events.jsonl").open("a") as file:
            file.write(lines(finished(1)))
        monkeypatch.setattr(following, "is_locked", lambda run: False)
        return False

    monkeypatch.setattr(following, "is_locked", is_locked)
    seen = [type(event) for event in follow(folder, **QUICKLY) if not isinstance(event, Status)]
    assert seen == [Step, Finished]


def test_a_run_that_trains_in_another_process_is_followed_to_its_end(small):
    whole: list[Event] = []
    folder = runs.new_folder("run", name="one")
    config = small(max_iters=200, eval_interval=50)

    def work():
        whole.extend(runs.start(config, folder))

    thread = threading.Thread(target=work)
    thread.start()
    while not (folder / "events.jsonl").exists():
        assert thread.is_alive()
        time.sleep(0.01)
    seen = [event for event in follow(folder, **QUICKLY) if not isinstance(event, Status)]
    thread.join()
    assert seen == whole
    assert [event for event in follow(folder) if not isinstance(event, Status)] == whole, "a finished run ends at once"
    assert list(follow(folder, from_start=False)) == []


def train_in(folder, config):
    for _ in runs.start(config, folder):
        pass


def test_a_run_whose_process_is_killed_ends_and_is_told_from_one_that_is_slow(small):
    folder = runs.new_folder("run", name="one")
    process = Forked(train_in, folder, small(max_iters=10**6))
    while not (folder / "run.toml").exists():
        assert process.poll() is None
        time.sleep(0.01)
    killed = False
    for event in follow(folder, from_start=False, **QUICKLY):
        if isinstance(event, Step) and not killed:
            process.send_signal(signal.SIGSTOP)
            killed = True
            assert runs.summary(folder).state == "running", "stopped, but alive"
            process.send_signal(signal.SIGKILL)
            process.wait()
    assert runs.summary(folder).state == "interrupted"


def test_a_torn_line_is_waited_for(away):
    folder = away()
    log = folder / "events.jsonl"
    whole = lines(stepped(1), stepped(2))
    log.write_text(whole[:-30])
    with closing(follow(folder, **QUICKLY)) as events:
        assert expect(Step, next(events)).step == 1
        assert isinstance(next(events), Status)
        log.write_text(whole)
        assert expect(Step, next(event for event in events if not isinstance(event, Status))).step == 2


def test_a_copy_that_is_replaced_cut_and_grows_again_gives_each_event_once(away):
    folder = away()
    log = folder / "events.jsonl"
    log.write_text(lines(stepped(1), stepped(2)))
    seen = []
    with closing(follow(folder, **QUICKLY)) as events:
        for event in events:
            seen += [event.step] if isinstance(event, Step) else []
            if seen == [1, 2] and isinstance(event, Status):
                partial = folder / ".copy"
                text = log.read_text()
                partial.write_text(text + lines(stepped(3)))
                partial.replace(log)  # as rsync does
            elif seen == [1, 2, 3] and isinstance(event, Status):
                text = log.read_text() if log.stat().st_size else text
                log.write_text("" if log.stat().st_size else text + lines(stepped(3), finished(3)))
                if log.stat().st_size:
                    break
    assert seen == [1, 2, 3]


def test_another_recording_in_the_same_place_is_followed_from_its_start(away):
    folder = away()
    log = folder / "events.jsonl"
    log.write_text(lines(stepped(1), stepped(2)))
    with closing(follow(folder, **QUICKLY)) as events:
        assert [expect(Step, next(events)).step for _ in range(2)] == [1, 2]
        next(events)
        log.write_text(lines(stepped(1, loss=7.0)))
        again = next(event for event in events if not isinstance(event, Status))
        assert expect(Step, again).loss == 7.0


def test_a_run_that_is_renamed_while_its_copy_is_read_is_followed(tmp_path, monkeypatch):
    monkeypatch.setattr(parsed_log, "LARGE", 1)
    (folder := tmp_path / "old").mkdir()
    (folder / "run.toml").touch()
    unreadable = '{"event":"Step","step":1,"loss":"what"}\n'
    (folder / "events.jsonl").write_text(lines(stepped(1)) + unreadable)

    with closing(follow_blocks(folder, **QUICKLY)) as items:
        next(item for item in items if isinstance(item, Status))  # now the copy is written
    with closing(follow_blocks(folder, **QUICKLY)) as items:
        seen = [next(items)]
        renamed = folder.rename(tmp_path / "new")
        with (renamed / "events.jsonl").open("a") as file:
            file.write(lines(stepped(2)) + unreadable)
        while not isinstance(seen[-1], Status):
            seen.append(next(items))
    assert [item.last.step for item in seen if isinstance(item, Steps)] == [1, 2]
    texts = [item.text for item in seen if isinstance(item, Notice)]
    assert len(texts) == 2
    assert all(text.startswith("a line of events.jsonl cannot be read") for text in texts)


def test_a_link_to_a_run_is_followed_under_its_new_name(tmp_path):
    (folder := tmp_path / "disk" / "run").mkdir(parents=True)
    (folder / "run.toml").touch()
    (home := tmp_path / "runs").mkdir()
    (link := home / "old").symlink_to(folder)
    (home / "gone").symlink_to(tmp_path / "nothing")
    with closing(follow(link, keep_waiting=True, **QUICKLY)) as events:
        assert Path(expect(Status, next(events)).path) == link
        link.rename(home / "new")
        assert Path(expect(Status, next(events)).path) == home / "new"


def test_a_line_that_stays_unreadable_is_told_and_passed_over(away):
    folder = away()
    (folder / "events.jsonl").write_text(lines(stepped(1)) + "\0" * 20 + "\n" + lines(stepped(2), finished(2)))
    seen = [event for event in follow(folder, **QUICKLY) if not isinstance(event, Status)]
    assert [type(event) for event in seen] == [Step, Notice, Step, Finished]
    assert expect(Notice, seen[1]).text.isprintable()


def test_on_another_machine_the_heartbeat_alone_counts_and_clocks_may_be_wrong(away, monkeypatch):
    clock = Clock()
    monkeypatch.setattr(following, "time", clock)
    long_ago = time.time() - 1e6

    def wrong_clock(updated):
        folder = away(updated=updated)
        os.utime(folder / "status.json", (updated, updated))
        return folder

    folder = wrong_clock(long_ago)
    assert runs.summary(folder).state == "interrupted", "by the clock alone"
    for _ in follow(folder, poll_s=1.0):
        wrong_clock(long_ago := long_ago + 1)
        if clock.now > 2 * LOST_S:
            break
    else:
        raise AssertionError("a run whose heart beats was taken for dead")
    assert all(isinstance(event, Status) for event in follow(folder, poll_s=1.0)), "ends when the heart stops"


def test_a_clock_that_is_ahead_does_not_make_a_dead_run_live_or_a_live_one_dead(away):
    folder = away(updated=time.time() + 1e6)
    assert runs.summary(folder).state == "running"
    assert runs.summary(folder).silent_s < SLOW_S  # since the file was written


def test_here_a_dead_pid_is_certain_and_a_live_one_needs_a_recent_heartbeat(away):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    here = socket.gethostname()
    assert runs.summary(away(host=here, pid=dead.pid)).state == "interrupted"
    folder = away(host=here, pid=1)
    assert runs.summary(folder).state == "running"  # a copy of a run that trains on this machine
    old = time.time() - 60
    away(host=here, pid=1, updated=old)
    os.utime(folder / "status.json", (old, old))
    assert runs.summary(folder).state == "interrupted"


def test_who_asks_for_the_lock_is_not_taken_for_a_trainer(away):
    folder = away(host=socket.gethostname())
    with lock(folder).acquire():
        assert is_locked(folder)
    with (folder / "lock").open("rb") as other:
        fcntl.flock(other, fcntl.LOCK_SH)  # another process asks at the same time
        assert not is_locked(folder)
    with lock(folder).acquire(timeout=0):  # asking has left no lock
        pass


def test_a_run_that_ends_between_two_looks_is_not_taken_for_dead(away, monkeypatch):
    dead = subprocess.Popen([sys.executable, "-c", ""])
    dead.wait()
    folder = away(host=socket.gethostname(), pid=dead.pid)

    def ends(run):
        away(state="stopped", host=socket.gethostname(), pid=dead.pid)
        return False

    monkeypatch.setattr("nanogpt.runs.folder.is_locked", ends)
    assert runs.summary(folder).state == "stopped"


def test_the_heart_beats_while_nothing_happens(tmp_path, monkeypatch):
    monkeypatch.setattr("nanogpt.runs.recorder.HEARTBEAT_S", 0.02)

    def idle():
        yield stepped(1)

    recorded = Recorder(tmp_path).record(idle())
    next(recorded)
    beats: set[float] = set()
    end = time.monotonic() + 60
    while len(beats) < 3:  # nobody asks for the next event
        assert time.monotonic() < end
        status = tmp_path / "status.json"
        beats |= {json.loads(status.read_text())["updated"]} if status.exists() else set()
    recorded.close()
    last = (tmp_path / "status.json").read_text()
    time.sleep(0.1)
    assert (tmp_path / "status.json").read_text() == last, "and stops when training does"


def test_a_copied_folder_of_a_run_that_still_trains_can_be_followed(small, tmp_path):
    folder = runs.new_folder("run", name="one")
    copy = tmp_path / "copy"
    training = runs.start(small(), folder)
    events = [next(training) for _ in range(4)]
    no_partials = shutil.ignore_patterns(".*")  # the heartbeat's are renamed meanwhile
    shutil.copytree(folder, copy, ignore=no_partials)
    assert runs.summary(copy).state == "running"
    followed = follow(copy, **QUICKLY)
    seen = [next(followed) for _ in range(4)]
    events += list(training)
    shutil.copytree(folder, copy, dirs_exist_ok=True)
    seen += [event for event in followed if not isinstance(event, Status)]
    assert seen == events


def test_what_is_no_run_is_refused(tmp_path):
    with pytest.raises(UserError, match=r"no run\.toml"):
        next(follow(tmp_path))


def test_another_machines_clock_that_is_behind_makes_no_dead_of_a_trainer_that_is_seen_to_live(away):
    long_ago = time.time() - 3600
    folder = away(updated=long_ago)

    def beat(number):
        away(updated=long_ago + number)
        os.utime(folder / "status.json", (long_ago + number, long_ago + number))

    beat(1)
    with closing(follow(folder, **QUICKLY)) as events:
        assert expect(Status, next(events)).state == "interrupted", "nothing was seen yet"
        beat(2)
        about = expect(Status, next(event for event in events if event.time == long_ago + 2))
        assert about.state == "running"
        assert about.silent_s < 60


def test_a_clock_that_is_ahead_keeps_no_dead_trainer_alive(away, monkeypatch):
    monkeypatch.setattr(following, "time", Clock())
    folder = away(updated=time.time() + 3600)
    *states, last = [expect(Status, event).state for event in follow(folder, **QUICKLY)]
    assert states, "at first it lives"
    assert set(states) == {"running"}
    assert last == "interrupted"


def test_a_patient_watcher_waits_for_another_trainer(away, monkeypatch):
    monkeypatch.setattr(following, "SLOW_S", 0.05)
    folder = away(updated=1.0)
    os.utime(folder / "status.json", (1, 1))
    (folder / "events.jsonl").write_text(lines(stepped(1)))
    assert [type(event) for event in follow(folder, **QUICKLY)][-1] is Status, "it ends"
    with closing(follow(folder, **QUICKLY, keep_waiting=True)) as events:
        assert expect(Step, next(events)).step == 1
        for _ in range(20):
            assert expect(Status, next(events)).state == "interrupted"
        with (folder / "events.jsonl").open("a") as log:
            log.write(lines(stepped(2)))
        assert next(event for event in events if isinstance(event, Step)).step == 2


def test_a_process_that_has_died_and_was_not_waited_for_trains_nothing(away):
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
        folder = away(host=socket.gethostname(), pid=process.pid)
        assert runs.summary(folder).state == "interrupted"


def ahead(folder, by_s):
    """Moves the file's own time as well, as a copy that keeps times has it."""
    os.utime(folder / "status.json", (time.time() + by_s, time.time() + by_s))
    return folder


def state_in_list(folder):
    return next(each.state for each in runs.list_runs(folder.parent) if each.path == str(folder))


def test_a_time_that_is_far_ahead_is_no_sign_of_life(away, monkeypatch):
    monkeypatch.setattr("nanogpt.runs.folder.RECHECK_S", 0.01)
    for updated, modified in ((3 * 86400, 3 * 86400), (3 * 86400, -3600), (-3600, 3 * 86400), (-3600, -3600)):
        folder = ahead(away(updated=time.time() + updated), modified)
        assert runs.summary(folder).state == "interrupted"
        assert state_in_list(folder) == "interrupted"
        monkeypatch.setattr("nanogpt.runs.folder._last_heartbeats", {})


def test_a_heartbeat_from_the_future_that_changes_is_a_sign_of_life_at_the_first_look(away, monkeypatch):
    folder, beats = ahead(away(updated=time.time() + 86400), 86400), []

    def another_beat(_):
        beats.append(away(updated=time.time() + 86401))
        ahead(folder, 86401)

    monkeypatch.setattr("nanogpt.runs.folder.time.sleep", another_beat)
    assert runs.summary(folder).state == "running"
    assert len(beats) == 1
    assert state_in_list(folder) == "running"


def test_a_heartbeat_that_changes_is_a_sign_of_life_however_late_the_other_clock_is(away):
    for beat in range(1, 4):
        folder = ahead(away(updated=time.time() - 86400 + beat), -86400 + beat)
        assert runs.summary(folder).state == ("interrupted" if beat == 1 else "running")


def test_all_runs_whose_times_are_ahead_are_watched_at_once(tmp_path, monkeypatch):
    waits: list[float] = []
    monkeypatch.setattr("nanogpt.runs.folder.time.sleep", waits.append)
    for name in "abc":
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.toml").touch()
        status = {"state": "running", "step": 1, "max_iters": 9, "updated": 1e11, "host": "elsewhere", "pid": 1}
        (tmp_path / name / "status.json").write_text(json.dumps(status))
        ahead(tmp_path / name, 1e6)
    assert [each.state for each in runs.list_runs(tmp_path)] == ["interrupted"] * 3
    assert len(waits) == 1
