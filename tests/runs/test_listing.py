"""The list of runs: what is read again, and when."""

import json
import threading
from pathlib import Path
from shutil import rmtree
from typing import Any

import pytest

from nanogpt.runs import listing
from nanogpt.runs.folder import find, read_state
from nanogpt.runs.listing import RunListing, list_runs


def make(home: Path, name: str, state: str = "finished", step: int = 10) -> Path:
    folder = home / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "run.toml").write_text("")
    status = {"state": state, "step": step, "max_iters": 10, "host": "elsewhere", "updated": 0.0}
    (folder / "status.json").write_text(json.dumps(status))
    return folder


@pytest.fixture
def reads(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the runs whose files were read."""
    names = list[str]()

    def recorded(folder: Path) -> Any:
        names.append(folder.name)
        return read_state(folder)

    monkeypatch.setattr(listing, "read_state", recorded)
    return names


@pytest.fixture
def rarely(monkeypatch: pytest.MonkeyPatch) -> None:
    """All status files are looked at only where the folder of runs changed."""
    monkeypatch.setattr(listing, "SCAN_INTERVAL_S", 1e9)


@pytest.fixture
def often(monkeypatch: pytest.MonkeyPatch) -> None:
    """All status files are looked at in each call."""
    monkeypatch.setattr(listing, "SCAN_INTERVAL_S", 0.0)
    monkeypatch.setattr(listing, "SCAN_SHARE", 1e9)


def test_what_did_not_change_is_not_read_again_and_the_list_is_the_same(
    home: Path, reads: list[str], often: None
) -> None:
    for name in "abc":
        make(home / "runs", name)
    runs = RunListing(home / "runs")
    first = runs.read()
    assert sorted(reads) == ["a", "b", "c"]
    assert runs.read() is first
    make(home / "runs", "b", step=20)
    assert {run.name: run.step for run in runs.read()} == {"a": 10, "b": 20, "c": 10}
    assert reads[3:] == ["b"]


def test_a_run_that_came_or_went_is_seen_at_once(home: Path, reads: list[str], rarely: None) -> None:
    make(home / "runs", "a")
    runs = RunListing(home / "runs")
    assert [run.name for run in runs.read()] == ["a"]
    (home / "runs" / "b").mkdir()
    assert [run.name for run in runs.read()] == ["a"]
    make(home / "runs", "b")  # nothing in the folder of all runs changes by that
    assert [run.name for run in runs.read()] == ["b", "a"]
    rmtree(home / "runs" / "a")
    assert [run.name for run in runs.read()] == ["b"]
    assert reads == ["a", "b"]


def test_a_run_in_training_is_read_each_time_and_a_change_of_others_when_all_are_looked_at(
    home: Path, reads: list[str], rarely: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(home / "runs", "a", step=1)
    running = make(home / "runs", "b", "running", step=1)
    times = {"now": running.stat().st_mtime}
    monkeypatch.setattr("nanogpt.runs.folder.time.time", lambda: times["now"])
    runs = RunListing(home / "runs")
    assert [run.state for run in sorted(runs.read(), key=lambda run: run.name)] == ["finished", "running"]
    make(home / "runs", "a", step=2)
    make(home / "runs", "b", "running", step=2)
    assert {run.name: run.step for run in runs.read()} == {"a": 1, "b": 2}
    monkeypatch.setattr(runs, "_next_scan", 0.0)
    assert {run.name: run.step for run in runs.read()} == {"a": 2, "b": 2}


def test_a_look_at_many_files_comes_less_often(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A look that took 0.1 s is due again after 0.1 / 0.005 = 20 s."""
    make(home / "runs", "a")
    clock = {"now": 100.0}
    monkeypatch.setattr("nanogpt.runs.listing.time.monotonic", lambda: clock["now"])
    stamp = listing._stamp

    def slow(folder: Path) -> Any:
        clock["now"] += 0.1
        return stamp(folder)

    runs = RunListing(home / "runs")
    runs.read()
    clock["now"] += 3
    monkeypatch.setattr(listing, "_stamp", slow)
    runs.read()
    make(home / "runs", "a", step=20)
    for seconds, step in ((19.8, 10), (0.3, 20)):
        clock["now"] += seconds
        assert [run.step for run in runs.read()] == [step]


def test_without_a_folder_there_are_no_runs(home: Path) -> None:
    assert list_runs(home / "none") == []


def test_on_a_disk_without_locks_a_killed_run_is_not_called_running(home: Path, no_locks: None) -> None:
    folder = make(home, "a")
    (folder / "status.json").unlink()
    (folder / "lock").touch()
    assert read_state(folder)[0].state == "interrupted"


def test_a_link_that_leads_nowhere_hides_no_run(home: Path) -> None:
    make(home / "runs", "a")
    for name, place in (("itself", "itself"), ("gone", "nowhere")):
        (home / "runs" / name).symlink_to(place)
    assert [run.name for run in list_runs()] == ["a"]
    assert find().name == "a"


def test_a_run_that_is_being_imported_is_no_run_yet(home: Path) -> None:
    make(home / "runs", "a")
    make(home / "runs", ".b.1.partial")
    assert [run.name for run in list_runs()] == ["a"]
    assert find().name == "a"


def test_on_a_slow_disk_several_runs_are_read_at_the_same_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(listing, "SLOW_S", 0.0)
    names = [f"run-{number:02}" for number in range(listing.TRIED + 4)]
    for name in names:
        make(tmp_path, name)
    together, read = threading.Barrier(4), list[str]()

    def slow(folder: Path) -> Any:
        read.append(folder.name)
        if len(read) > listing.TRIED:
            together.wait(60)  # raises unless four wait here
        return read_state(folder)

    monkeypatch.setattr(listing, "read_state", slow)
    assert sorted(run.name for run in list_runs(tmp_path)) == names
