"""Renaming, deleting, noting, comparing and exporting runs."""

import errno
from pathlib import Path

import pytest

from nanogpt import paths
from nanogpt.config import Config, resolve
from nanogpt.errors import UserError
from nanogpt.runs import find, list_runs, manage, new_folder, parsed_log, resume, start, summary
from nanogpt.runs.event_log import MEASURED
from nanogpt.runs.folder import check_free, clear_unstarted, lock, read_run_toml
from nanogpt.runs.manage import changed, delete, differences, read_note, rename, write_note


@pytest.fixture
def run(small):
    folder = new_folder("first")
    list(start(small(), folder))
    return folder


def test_a_renamed_run_is_found_by_its_new_name_and_goes_on(run):
    renamed = rename(run, "second one")
    assert [each.name for each in list_runs()] == ["second one"]
    assert find("second one") == renamed
    assert read_run_toml(renamed)["run"]["name"] == "second one"
    list(resume(renamed, {"max_iters": 16}))
    assert summary(renamed).step == 16


def test_a_name_that_is_taken_or_leads_elsewhere_is_refused(run, small):
    list(start(small(max_iters=4), other := new_folder("other")))
    refused = dict.fromkeys(("../away", "", ".x", "scratch", "resume"), "cannot name") | {"other": "already"}
    for name, problem in refused.items():
        with pytest.raises(UserError, match=problem):
            rename(run, name)
    with pytest.raises(UserError, match=r"letters, digits, spaces, '_', '-', '\+' and '\.'"):
        rename(run, "a/b c")
    assert rename(run, "first") == run
    assert {each.name for each in list_runs()} == {"first", other.name}


def test_a_run_does_not_take_the_name_of_a_training_that_is_starting(run):
    starting = run.with_name("second")
    starting.mkdir()
    (starting / "train.log").touch()
    before = contents(run)
    with pytest.raises(UserError, match="a training is starting in"):
        rename(run, "second")
    assert contents(run) == before
    (starting / "train.log").unlink()
    assert rename(run, "second") == starting


@pytest.mark.parametrize("refused", ["rename", "write"])
def test_a_rename_that_the_disk_refuses_changes_nothing(run, monkeypatch, refused):
    before = contents(run)
    if refused == "rename":
        monkeypatch.setattr(Path, "rename", full_disk)
    else:
        monkeypatch.setattr(manage, "write_atomically", full_disk)
    with pytest.raises(UserError, match="cannot rename"):
        rename(run, "second")
    assert contents(run) == before


def full_disk(*_):
    raise OSError(errno.ENOSPC, "no space")


def test_a_deleted_run_is_gone_and_its_name_is_free(run):
    delete(run)
    assert list_runs() == []
    assert list(run.parent.iterdir()) == []
    assert new_folder("first") == run


def test_what_was_kept_of_a_runs_log_is_renamed_and_deleted_with_the_run(run, monkeypatch):
    monkeypatch.setattr(parsed_log, "LARGE", 1)
    list(parsed_log.read_with_progress(run / "events.jsonl"))
    folder = paths.cache_dir() / "logs"
    assert len(list(folder.iterdir())) == 1
    renamed = rename(run, "second")
    assert parsed_log.find_parsed(renamed / "events.jsonl", MEASURED) is not None
    assert len(list(folder.iterdir())) == 1
    delete(renamed)
    assert list(folder.iterdir()) == []


def test_what_a_deletion_left_that_was_cut_off_hinders_no_later_one(run, small):
    left = run.with_name(".first.deleted")
    left.mkdir()
    (left / "events.jsonl").write_text("")
    delete(run)
    assert list(run.parent.iterdir()) == []


def test_what_is_no_run_is_not_deleted(tmp_path):
    (tmp_path / "precious").mkdir()
    with pytest.raises(UserError, match="not a run"):
        delete(tmp_path / "precious")
    assert (tmp_path / "precious").is_dir()


def test_a_run_that_is_being_trained_is_neither_deleted_nor_renamed(run):
    with lock(run).acquire():
        for act in (lambda: delete(run), lambda: rename(run, "other")):
            with pytest.raises(UserError, match="is training"):
                act()
    assert [each.name for each in list_runs()] == ["first"]
    assert summary(run).state == "finished"


def test_a_note_is_kept_changed_and_removed(run):
    assert read_note(run) == ""
    write_note(run, " too warm – ½ the rate next time\n")
    assert read_note(run) == "too warm – ½ the rate next time"
    write_note(run, "")
    assert read_note(run) == ""
    assert not (run / "note.txt").exists()
    with pytest.raises(UserError, match="the limit is 10,000"):
        write_note(run, "x" * 10_001)


def test_a_note_of_broken_bytes_is_read_all_the_same(run):
    (run / "note.txt").write_bytes(b"half \xe2\x82")
    assert read_note(run) == "half \N{REPLACEMENT CHARACTER}"


def test_only_settings_that_differ_are_shown_with_the_value_of_each():
    configs = [resolve(flags=flags).config for flags in ({"n_layer": 2}, {"n_layer": 3, "min_lr": 0.0}, {"n_layer": 2})]
    assert differences(configs) == {"n_layer": (2, 3, 2), "min_lr": (None, 0.0, None)}
    assert differences(configs[:1]) == differences([]) == {}


@pytest.fixture
def linked(run, tmp_path):
    """A run that is a link to a folder elsewhere."""
    target = tmp_path / "disk" / "first"
    target.parent.mkdir()
    run.rename(target)
    run.symlink_to(target)
    return run


def contents(folder):
    """Every file of a folder, but for the lock, which looking at a run may make."""
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_of_a_run_that_is_a_link_the_link_alone_is_deleted(linked):
    target, before = linked.resolve(), contents(linked.resolve())
    delete(linked)
    assert list(linked.parent.iterdir()) == []
    assert contents(target) == before


def test_of_a_run_that_is_a_link_the_link_alone_is_renamed(linked):
    target, before = linked.resolve(), contents(linked.resolve())
    renamed = rename(linked, "second")
    assert [each.name for each in list_runs()] == ["second"]
    assert renamed.is_symlink()
    assert renamed.resolve() == target
    assert contents(target) == before


def test_a_link_that_a_cut_off_deletion_left_hinders_no_later_one(run, tmp_path):
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious" / "file").write_text("precious")
    run.with_name(".first.deleted").symlink_to(tmp_path / "precious")
    delete(run)
    assert list(run.parent.iterdir()) == []
    assert (tmp_path / "precious" / "file").read_text() == "precious"


def test_a_name_that_a_broken_link_has_is_not_free(run, tmp_path):
    run.with_name("broken").symlink_to(tmp_path / "nowhere")
    with pytest.raises(UserError, match="not a folder: give another name"):
        rename(run, "broken")
    assert run.with_name("broken").is_symlink()
    assert new_folder("broken").name == "broken-2"


def test_what_comes_to_nothing_removes_no_file_of_the_person(tmp_path):
    """A folder of hidden files alone may become a run's; they are not the run's own."""
    home = tmp_path / "home"
    home.mkdir()
    (home / ".profile").write_text("precious")
    (home / ".run.toml.123.0badcafe").write_text("what a killed trainer left")
    (home / "lock").write_text("")
    check_free(home)
    clear_unstarted(home)
    assert [each.name for each in home.iterdir()] == [".profile"]


def test_runs_of_other_components_are_compared_by_the_settings_of_all() -> None:
    modern = resolve(flags={"architecture": "modern", "optimizer": "muon", "ngram": 3}).config
    found = differences([Config(), modern])
    assert found["architecture"] == ("gpt2", "modern")
    assert found["ngram"] == (None, 3)
    assert changed(modern) == {"architecture": "modern", "ngram": 3, "optimizer": "muon"}
