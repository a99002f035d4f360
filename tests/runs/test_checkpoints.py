"""Checkpoints that are whole or not there, and damage that is noticed."""

import errno
import json
import math
import os
import shutil
from contextlib import suppress
from multiprocessing import Pipe
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nanogpt import files, runs
from nanogpt.errors import UserError
from nanogpt.runs import checkpoints
from nanogpt.runs.folder import run_config
from nanogpt.runs.load import _placed
from nanogpt.training import Snapshot
from tests.forked import Forked
from tests.narrowing import expect


@pytest.fixture
def run(small):
    folder = runs.new_folder("run", name="one")
    list(runs.start(small(checkpoint_interval=4), folder))
    return folder


@pytest.fixture
def snapshot(run):
    return checkpoints.read(expect(runs.Checkpoint, runs.latest(run)).path)


@pytest.mark.parametrize(
    ("steps", "needed", "count", "kept"),
    [
        ([10, 20, 30, 40, 50], {50}, 5, [10, 20, 30, 40, 50]),
        ([10, 20, 30, 40, 50, 60], {60}, 5, [10, 20, 30, 40, 60]),
        ([10, 20, 30, 40, 60, 70], {70}, 5, [10, 20, 40, 60, 70]),
        ([10, 20, 100, 200], {200}, 3, [20, 100, 200]),
        ([10, 20, 30], {20, 30}, 0, [20, 30]),
        ([10, 20, 30], {10, 20, 30}, 1, [10, 20, 30]),
    ],
)
def test_checkpoints_are_thinned_where_they_are_closest(steps, needed, count, kept):
    assert checkpoints.thin_out(steps, needed, count) == kept


def test_reading_gives_back_what_was_written(run):
    path = expect(runs.Checkpoint, runs.latest(run)).path
    snapshot = checkpoints.read(path)
    other = checkpoints.write(run, snapshot, keep_every=4)
    again = checkpoints.read(other)
    assert (again.progress, again.position, again.model_config) == (
        snapshot.progress,
        snapshot.position,
        snapshot.model_config,
    )
    for one, two in ((snapshot.model, again.model), (snapshot.optimizer, again.optimizer)):
        assert one.keys() == two.keys()
        assert all(torch.equal(one[name], two[name]) for name in one)


@pytest.mark.parametrize("name", ["model.safetensors", "optimizer.safetensors", "trainer.json"])
def test_a_flipped_bit_anywhere_is_noticed_in_one_line(run, name):
    path = expect(runs.Checkpoint, runs.latest(run)).path / name
    data = bytearray(path.read_bytes())
    for place in (0, len(data) // 2, len(data) - 2):
        data[place] ^= 1
        path.write_bytes(data)
        with pytest.raises(UserError, match=rf"{name} is damaged") as caught:
            checkpoints.read(path.parent)
        assert "\n" not in str(caught.value)
        data[place] ^= 1
    path.write_bytes(data)
    checkpoints.read(path.parent)


@pytest.mark.parametrize("wrong", [{"n_head": 0}, {"n_layer": "many"}, {"vocab_size": 10**12}])
def test_a_checkpoint_of_an_impossible_shape_is_one_line(run, wrong):
    path = expect(runs.Checkpoint, runs.latest(run)).path / "trainer.json"
    trainer = json.loads(path.read_text())
    trainer["model"] |= wrong
    del trainer["sha256"]["trainer"]
    trainer["sha256"]["trainer"] = checkpoints._fingerprint(trainer)
    path.write_text(json.dumps(trainer))
    with pytest.raises(UserError, match="not a checkpoint that this version can read"):
        checkpoints.read(path.parent)


def test_a_truncated_file_is_noticed_and_the_other_checkpoints_are_named(run):
    path = expect(runs.Checkpoint, runs.latest(run)).path / "model.safetensors"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(UserError, match=r"damaged.*steps 4, 8"):
        checkpoints.read(path.parent)


def test_a_copy_beside_a_damaged_checkpoint_is_not_named_and_saving_goes_on(run, snapshot):
    folder = run / "checkpoints" / "step-00000004"
    shutil.copytree(folder, folder.with_name("step-00000004-copy2"))
    (folder / "trainer.json").write_text("{")
    with pytest.raises(UserError, match=r"damaged.*the run also has steps 8, 12;"):
        checkpoints.read(folder)
    checkpoints.write(run, snapshot, keep_every=4)


def test_a_missing_file_is_noticed(run):
    (expect(runs.Checkpoint, runs.latest(run)).path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="damaged"):
        runs.load_model("one", "latest")


def test_a_folder_that_is_no_checkpoint_and_a_pickle_are_refused(run, tmp_path):
    with pytest.raises(UserError, match=r"no trainer\.json"):
        checkpoints.read(tmp_path)
    (tmp_path / "ckpt.pt").write_bytes(b"\x80\x04")
    with pytest.raises(UserError, match="pickle"):
        runs.load_model(str(tmp_path / "ckpt.pt"))


def test_a_checkpoint_of_another_shape_is_refused_by_name(run, small):
    path = expect(runs.Checkpoint, runs.latest(run)).path
    trainer = json.loads((path / "trainer.json").read_text())
    trainer["model"]["n_embd"] = 32
    del trainer["sha256"]["trainer"]
    trainer["sha256"]["trainer"] = checkpoints._fingerprint(trainer)
    (path / "trainer.json").write_text(json.dumps(trainer))
    with pytest.raises(UserError, match="does not fit this model"):
        runs.load_model("one", "latest")


def test_choosing_by_best_latest_or_step_and_what_there_is_otherwise(run):
    assert runs.choose(run, "latest").step == 12
    assert runs.choose(run, "8").step == 8
    assert runs.choose(run, "best") == runs.best(run)
    with pytest.raises(UserError, match="4, 8, 12"):
        runs.choose(run, "9")


def test_nothing_in_a_checkpoint_is_a_pickle(run):
    files = [path for path in run.rglob("*") if path.is_file()]
    assert not [path for path in files if path.read_bytes().startswith((b"\x80\x02", b"\x80\x04", b"PK"))]
    assert {path.suffix for path in files} <= {".json", ".jsonl", ".toml", ".safetensors", ""}


def write_without_end(run, told):
    snapshot = checkpoints.read(expect(runs.Checkpoint, runs.latest(run)).path)
    while True:
        snapshot.progress.step += 1
        snapshot.progress.evaluated_at += 1
        checkpoints.write(run, snapshot)
        told.send(None)


def test_killed_while_it_writes_a_checkpoint_a_process_leaves_only_whole_ones(run):
    for number in range(3):
        written, told = Pipe(duplex=False)
        process = Forked(write_without_end, run, told)
        told.close()
        for _ in range(3 + number):
            written.recv()
        process.kill()
        process.wait()
        there = runs.list_checkpoints(run)
        assert there
        for checkpoint in there:
            checkpoints.read(checkpoint.path)


def test_left_overs_of_a_killed_process_are_cleared_at_the_next_save(run):
    leftover = run / "checkpoints" / "step-00000099.partial"
    leftover.mkdir()
    assert 99 not in {checkpoint.step for checkpoint in runs.list_checkpoints(run)}
    checkpoints.write(run, checkpoints.read(expect(runs.Checkpoint, runs.latest(run)).path))
    assert not leftover.exists()


def refusing(place, read):
    """`read`, except that the disk refuses this file."""

    def refuse(path, *rest):
        if path == place:
            raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
        return read(path, *rest)

    return refuse


def test_the_best_checkpoint_outlives_a_moment_in_which_the_disk_refuses_to_read_it(snapshot, tmp_path, monkeypatch):
    def write(step, val_loss):
        snapshot.progress.step = snapshot.progress.evaluated_at = step
        snapshot.progress.val_loss = val_loss
        return checkpoints.write(tmp_path, snapshot)

    best = write(1, 1.0)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "read_text", refusing(best / "trainer.json", files.read_text))
        write(2, 2.0)
        write(3, 3.0)
        assert [each.step for each in runs.list_checkpoints(tmp_path)] == [1, 2, 3]
    assert expect(runs.Checkpoint, runs.best(tmp_path)).path == best
    write(4, 4.0)
    assert [each.step for each in runs.list_checkpoints(tmp_path)] == [1, 4]


def test_going_back_removes_no_checkpoint_that_the_disk_refuses_to_read_now(run, monkeypatch):
    *_, before, last = runs.list_checkpoints(run)
    with monkeypatch.context() as patch:
        patch.setattr(checkpoints, "sha256", refusing(last.path / "model.safetensors", files.sha256))
        with pytest.raises(UserError, match=r"cannot read .*Input/output error"):
            checkpoints.roll_back_to(run, last.step)
    assert runs.list_checkpoints(run)[-2:] == [before, last]
    (last.path / "model.safetensors").write_bytes(b"")
    assert expect(Snapshot, checkpoints.roll_back_to(run, last.step)).progress.step == before.step
    assert runs.list_checkpoints(run)[-1] == before


class Killed(BaseException):
    """What no handler mends."""


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    saves=st.lists(
        st.tuples(
            st.integers(0, 2),  # steps since the last save; none: it takes that one's place
            st.sampled_from([1.0, 2.0, 3.0, math.nan, None]),  # validation loss, if there was an evaluation
            st.integers(0, 4) | st.none(),  # after how many renamings it is killed
        ),
        min_size=1,
        max_size=8,
    ),
    keep_every=st.sampled_from([0, 2]),
)
def test_neither_the_best_nor_the_latest_is_ever_lost_however_often_saving_is_killed(
    snapshot, tmp_path_factory, saves, keep_every
):
    run = tmp_path_factory.mktemp("run")
    step, rename = 1, Path.rename
    for ahead, loss, killed_after in saves:
        step += ahead
        before = {(each.step, each.val_loss) for each in runs.list_checkpoints(run)}
        snapshot.progress.step, snapshot.progress.val_loss = step, loss
        snapshot.progress.evaluated_at = -1 if loss is None else step
        renames: list[Path] = []

        def renamed(path, target, renames=renames, most=killed_after):
            renames.append(target)
            if most is not None and len(renames) > most:
                raise Killed
            return rename(path, target)

        def removed(path, renames=renames, most=killed_after, **_):
            if most is None or len(renames) <= most:  # who is dead removes nothing
                shutil.rmtree(path, ignore_errors=True)

        with pytest.MonkeyPatch.context() as patch, suppress(Killed):
            patch.setattr(Path, "rename", renamed)
            patch.setattr(checkpoints, "remove", removed)
            checkpoints.write(run, snapshot, keep_every)
        there = runs.list_checkpoints(run)
        was = max(before)[0] if before else 0
        newest = runs.latest(run)
        assert newest is None or newest.step in (was, step)
        assert killed_after is not None or expect(runs.Checkpoint, newest).step == step
        assert not before or newest is not None
        known = [(value, number) for number, value in before if value is not None and number != step]
        if known:
            assert expect(float, expect(runs.Checkpoint, runs.best(run)).val_loss) <= min(known)[0]
        for each in there:
            assert checkpoints.read(each.path).progress.step == each.step


def test_a_checkpoint_whose_successor_never_came_is_there_all_the_same(run, monkeypatch):
    """Killed between the two renamings that put another checkpoint of the same step in its place."""
    latest = expect(runs.Checkpoint, runs.latest(run))
    latest.path.rename(latest.path.with_suffix(".replaced"))
    assert expect(runs.Checkpoint, runs.latest(run)).step == latest.step
    snapshot = checkpoints.read(expect(runs.Checkpoint, runs.latest(run)).path)
    assert checkpoints.write(run, snapshot) == latest.path
    assert not list((run / "checkpoints").glob("*.replaced"))


def test_a_tokenizer_that_does_not_fit_the_model_is_refused(run):
    saved = json.loads((run / "tokenizer.json").read_text())
    from nanogpt import tokenizers

    (run / "tokenizer.json").write_text(json.dumps(tokenizers.create("byte").to_json()))
    with pytest.raises(UserError, match="256 tokens"):
        runs.load_model("one")
    (run / "tokenizer.json").write_text(json.dumps(saved)[:-9])
    with pytest.raises(UserError, match="tokenizer"):
        runs.load_model("one")


def test_pruning_and_replacing_leave_what_a_linked_checkpoint_leads_to(run, snapshot, tmp_path):
    first, *_, last = runs.list_checkpoints(run)
    targets = {}
    for checkpoint in (first, last):
        target = targets[checkpoint.step] = tmp_path / f"disk-{checkpoint.step}"
        checkpoint.path.rename(target)
        checkpoint.path.symlink_to(target)
    checkpoints.write(run, snapshot)  # of the last one's step; keeps nothing but the best and the latest
    assert not last.path.is_symlink()
    for target in targets.values():
        assert sorted(each.name for each in target.iterdir()) == [
            "model.safetensors",
            "optimizer.safetensors",
            "trainer.json",
        ]
    there = {each.name for each in (run / "checkpoints").iterdir()}
    assert there == {each.path.name for each in runs.list_checkpoints(run)}  # and nothing hidden is left


def test_its_files_have_the_modes_that_the_umask_asks_for(run, snapshot):
    before = os.umask(0o027)
    try:
        path = checkpoints.write(run, snapshot, keep_every=4)
    finally:
        os.umask(before)
    assert {oct(each.stat().st_mode & 0o777) for each in path.iterdir()} == {"0o640"}  # 666 less 027


def test_the_settings_of_a_run_are_those_that_commands_changed(run, snapshot):
    assert checkpoints.trained_config(run).schedule.max_iters == 12
    snapshot.progress.max_iters = 40
    path = checkpoints.write(run, snapshot)
    assert checkpoints.trained_config(run).schedule.max_iters == 40
    assert run_config(run).schedule.max_iters == 12
    assert checkpoints.latest_step(run) == 12
    (path / "trainer.json").write_text("{")
    assert checkpoints.trained_config(run).schedule.max_iters == 12
    assert checkpoints.latest_step(run.parent) == 0


def test_a_run_whose_name_ends_as_that_of_a_pickle_is_read(run, tmp_path):
    run.rename(run.with_name("best.pth"))
    assert checkpoints.locate("best.pth")[0] == run.with_name("best.pth")
    with pytest.raises(UserError, match="is a pickle"):
        checkpoints.locate(str(tmp_path / "other.pth"))


def test_a_model_goes_to_the_cpu_if_a_gpu_that_nobody_asked_for_is_full(monkeypatch):
    class Large:
        def to(self, device):
            if device != "cpu":
                raise torch.OutOfMemoryError("CUDA out of memory")
            return self

    monkeypatch.setattr("nanogpt.hardware.resolve_device", lambda asked: "cuda")
    model: Any = Large()
    assert _placed(model, "auto") == (model, "cpu")
    with pytest.raises(UserError, match="out of memory on cuda: use --device=cpu"):
        _placed(model, "cuda")
