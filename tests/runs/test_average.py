"""A run whose weights are averaged: its files, what it shows, and the weights that a text is generated with."""

import json
import math

import pytest
import torch
from safetensors.torch import load_file

from nanogpt import runs
from nanogpt.cli import main
from nanogpt.data import open_dataset
from nanogpt.errors import UserError
from nanogpt.events import Evaluated, Notice
from nanogpt.runs import checkpoints, load_model
from nanogpt.runs.load import Weights
from nanogpt.runs.weights import read_weights
from nanogpt.training import loop
from tests.narrowing import expect


def trained(config, name="one"):
    folder = runs.new_folder("run", name=name)
    return folder, list(runs.start(config, folder))


def test_a_checkpoint_has_the_average_beside_the_raw_weights_and_a_resume_continues_it(small):
    constant = {"ema_decay": 0.9, "schedule": "constant"}
    whole, _ = trained(small(**constant), "whole")
    part, _ = trained(small(**constant, max_iters=8), "part")
    list(runs.resume(part, {"max_iters": 12}))
    files = [folder / "checkpoints" / "step-00000012" / "average.safetensors" for folder in (whole, part)]
    assert files[0].read_bytes() == files[1].read_bytes()


def test_the_weights_are_chosen_or_those_with_the_lower_validation_loss(small):
    folder, events = trained(small(ema_decay=0.9))
    last = [event for event in events if isinstance(event, Evaluated)][-1]
    step = folder / "checkpoints" / "step-00000012"
    files = {False: load_file(step / "model.safetensors"), True: load_file(step / "average.safetensors")}
    assert last.ema_val_loss is not None
    cases: list[tuple[Weights, bool]] = [("raw", False), ("ema", True), ("auto", last.ema_val_loss <= last.val_loss)]
    for weights, average in cases:
        loaded = load_model(str(folder), "latest", "cpu", weights=weights)
        assert loaded.is_average == average
        assert loaded.val_loss == (last.ema_val_loss if average else last.val_loss)
        assert torch.equal(loaded.model.state_dict()["wte.weight"], files[average]["wte.weight"])


@pytest.mark.parametrize(
    ("raw", "ema", "average"), [(2.0, 1.9, True), (1.9, 2.0, False), (2.0, math.nan, False), (None, None, True)]
)
def test_by_itself_the_average_is_taken_unless_it_was_worse(small, raw, ema, average):
    folder, _ = trained(small(ema_decay=0.9))
    snapshot = checkpoints.read(folder / "checkpoints" / "step-00000012")
    progress = snapshot.progress
    progress.evaluated_at, progress.val_loss, progress.ema_val_loss = (12 if raw else 8), raw, ema
    loaded = load_model(str(checkpoints.write(folder, snapshot)), device="cpu")
    assert (loaded.is_average, loaded.val_loss) == (average, ema if average else raw)


def test_the_best_loss_is_the_lowest_of_raw_and_averaged_weights_and_its_checkpoint_is_kept(small, monkeypatch):
    losses = [(3.0, 3.0), (2.0, 2.5), (2.1, 1.5), (1.9, math.nan)]  # (raw, averaged) at steps 0, 4, 8 and 12
    measured = iter([loss for raw, average in losses for loss in (raw, raw, average)])

    def evaluate(*_args, **_more):
        yield
        return next(measured), 4

    monkeypatch.setattr(loop, "evaluate", evaluate)
    folder, events = trained(small(ema_decay=0.9, patience=1, keep_checkpoints=0))
    evaluations = [event for event in events if isinstance(event, Evaluated)]
    assert [event.best_val_loss for event in evaluations] == [3.0, 2.0, 1.5, 1.5]
    assert [event.is_best for event in evaluations] == [True, True, True, False]
    assert [(each.step, each.val_loss) for each in runs.list_checkpoints(folder)] == [(8, 1.5), (12, 1.9)]
    assert runs.summary(folder).best_val_loss == 1.5
    loaded = load_model(str(folder), device="cpu")
    assert (loaded.step, loaded.val_loss, loaded.is_average) == (8, 1.5, True)


@pytest.mark.parametrize(("ema", "average"), [(0.5, True), (9.0, False)])
def test_a_run_starts_from_those_weights_of_another_that_have_the_lower_loss(small, ema, average):
    folder, _ = trained(small(ema_decay=0.9))
    checkpoints.record_changes(folder, {"ema_val_loss": ema})
    files = expect(runs.Checkpoint, runs.latest(folder)).path
    expected = load_file(files / ("average.safetensors" if average else "model.safetensors"))
    snapshot, is_average = read_weights(str(files), open_dataset("small"))
    assert is_average == average
    assert torch.equal(snapshot.model["wte.weight"], expected["wte.weight"])
    _, events = trained(small(init_from=str(files), max_iters=1), "two")
    told = [event.text for event in events if isinstance(event, Notice)]
    assert told == ([f"the run starts from the averaged weights of {files}"] if average else [])


def test_without_an_average_none_can_be_chosen(small):
    folder, _ = trained(small())
    assert not (folder / "checkpoints" / "step-00000012" / "average.safetensors").exists()
    assert load_model(str(folder), device="cpu").is_average is False
    with pytest.raises(UserError, match="no averaged weights: train with --ema_decay"):
        load_model(str(folder), device="cpu", weights="ema")


def test_both_losses_are_shown(small, capsys):
    folder, events = trained(small(ema_decay=0.9))
    last = [event for event in events if isinstance(event, Evaluated)][-1]
    assert main(["info", str(folder)]) == 0
    assert f"{last.ema_val_loss:.4f}" in capsys.readouterr().out
    assert main(["info", str(folder), "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["ema_val_loss"] == last.ema_val_loss
    assert main(["sample", str(folder), "--weights=ema", "--max_new_tokens=3", "--device=cpu"]) == 0
    assert "averaged weights" in capsys.readouterr().err
