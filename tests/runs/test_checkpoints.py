"""Checkpoints that are whole or not there, and damage that is noticed."""

import json
import os
import signal
import subprocess
import sys

import pytest
import torch

from nanogpt import runs
from nanogpt.errors import UserError
from nanogpt.runs import checkpoints


@pytest.fixture
def run(small):
    folder = runs.new_folder("run", name="one")
    list(runs.start(small(checkpoint_interval=4), folder))
    return folder


def test_reading_gives_back_what_was_written(run):
    path = runs.latest(run).path
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
    path = runs.latest(run).path / name
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


def test_a_truncated_file_is_noticed_and_the_other_checkpoints_are_named(run):
    path = runs.latest(run).path / "model.safetensors"
    os.truncate(path, path.stat().st_size - 1)
    with pytest.raises(UserError, match=r"damaged.*--checkpoint \(4, 8\)"):
        checkpoints.read(path.parent)


def test_a_missing_file_is_noticed(run):
    (runs.latest(run).path / "model.safetensors").unlink()
    with pytest.raises(UserError, match="damaged"):
        runs.load_model("one", "latest")


def test_a_folder_that_is_no_checkpoint_and_a_pickle_are_refused(run, tmp_path):
    with pytest.raises(UserError, match=r"no trainer\.json"):
        checkpoints.read(tmp_path)
    (tmp_path / "ckpt.pt").write_bytes(b"\x80\x04")
    with pytest.raises(UserError, match="pickle"):
        runs.load_model(str(tmp_path / "ckpt.pt"))


def test_a_checkpoint_of_another_shape_is_refused_by_name(run, small):
    path = runs.latest(run).path
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


def test_killed_while_it_writes_a_checkpoint_a_process_leaves_only_whole_ones(run):
    script = (
        "import sys; from pathlib import Path; from nanogpt.runs import checkpoints\n"
        "run = Path(sys.argv[1]); snapshot = checkpoints.read(checkpoints.latest(run).path)\n"
        "while True:\n"
        "    snapshot.progress.step += 1; snapshot.progress.evaluated_at += 1\n"
        "    checkpoints.write(run, snapshot); print(flush=True)\n"
    )
    for number in range(3):
        process = subprocess.Popen([sys.executable, "-c", script, str(run)], stdout=subprocess.PIPE)
        for _ in range(3 + number):
            process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.wait()
        there = runs.list_checkpoints(run)
        assert there
        for checkpoint in there:
            checkpoints.read(checkpoint.path)


def test_left_overs_of_a_killed_process_are_cleared_at_the_next_save(run):
    leftover = run / "checkpoints" / "step-00000099.partial"
    leftover.mkdir()
    assert 99 not in {checkpoint.step for checkpoint in runs.list_checkpoints(run)}
    checkpoints.write(run, checkpoints.read(runs.latest(run).path))
    assert not leftover.exists()


def test_a_tokenizer_that_does_not_fit_the_model_is_refused(run):
    saved = json.loads((run / "tokenizer.json").read_text())
    from nanogpt import tokenizers

    (run / "tokenizer.json").write_text(json.dumps(tokenizers.create("byte").to_json()))
    with pytest.raises(UserError, match="256 tokens"):
        runs.load_model("one")
    (run / "tokenizer.json").write_text(json.dumps(saved)[:-9])
    with pytest.raises(UserError, match="tokenizer"):
        runs.load_model("one")
