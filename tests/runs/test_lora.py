"""Runs that train LoRA adapters: small checkpoints beside one file of frozen weights, read as one model."""

import json
import math

import pytest
import torch

from nanogpt import runs
from nanogpt.cli import main
from nanogpt.errors import SettingError, UserError
from nanogpt.events import Evaluated, Finished, LayerProblem, Sampled, Saved, Started, Step
from nanogpt.models.lora import merged_weights
from nanogpt.runs import checkpoints
from nanogpt.runs.load import load_model
from nanogpt.runs.manage import delete
from nanogpt.training.optimizer_step import OptimizerStep
from tests.narrowing import expect

LORA = {"init_from": "base", "lora_rank": 2, "learning_rate": 0.05, "max_iters": 12, "eval_interval": 4}


@pytest.fixture
def base(small):
    return trained(small(max_iters=4, eval_interval=4), "base")[0]


def trained(config, name):
    folder = runs.new_folder("run", name=name)
    return folder, list(runs.start(config, folder))


def losses(events):
    return {event.step: event.loss for event in events if isinstance(event, Step)}


def test_its_checkpoints_hold_the_adapters_and_load_as_a_plain_model(small, base):
    folder, events = trained(small(**LORA, sample_tokens=5, sample_interval=4), "tuned")
    files = {item.name for item in (folder / "checkpoints" / "step-00000012").iterdir()}
    assert files == {"adapters.safetensors", "optimizer.safetensors", "trainer.json"}
    before, after = (load_model(name, "latest").model.state_dict() for name in ("base", "tuned"))
    assert before.keys() == after.keys()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed == {f"h.0.{layer}.weight" for layer in ("attn.c_attn", "attn.c_proj", "mlp.c_fc", "mlp.c_proj")}
    evaluations = [event for event in events if isinstance(event, Evaluated)]
    assert evaluations[-1].val_loss < evaluations[0].val_loss
    assert any(isinstance(event, Sampled) for event in events)
    assert not [event for event in events if isinstance(event, LayerProblem) and event.problem == "no gradient"]


def test_the_loss_on_record_is_that_of_the_merged_model(small, base, capsys):
    _, events = trained(small(**LORA, eval_iters=0), "tuned")
    recorded = [event for event in events if isinstance(event, Evaluated)][-1].val_loss
    assert main(["eval", "tuned", "--checkpoint=latest", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["loss"] == pytest.approx(recorded, abs=2e-3)


def test_a_resume_is_exact_and_does_not_need_the_weights_it_came_from(small, base):
    config = small(**LORA)
    whole, events = trained(config, "whole")
    folder = runs.new_folder("run", name="parts")
    stream = runs.start(config, folder)
    for event in stream:
        if isinstance(event, Saved) and event.step == 4:
            stream.close()
    delete(base)
    rest = list(runs.resume(folder))
    assert losses(rest) == {step: loss for step, loss in losses(events).items() if step > 4}
    last = "checkpoints/step-00000012/adapters.safetensors"
    assert (folder / last).read_bytes() == (whole / last).read_bytes()


def test_another_run_can_start_from_it(small, base):
    _, events = trained(small(**LORA), "tuned")
    _, after = trained(small(init_from="tuned"), "third")
    best = min(event.val_loss for event in events if isinstance(event, Evaluated))
    assert next(event for event in after if isinstance(event, Evaluated)).val_loss == pytest.approx(best, abs=1e-5)


def test_a_run_that_was_stopped_before_its_first_checkpoint_starts_from_the_same_weights_again(small, base):
    config = small(**LORA)
    folder = runs.new_folder("run", name="stopped")
    stream = runs.start(config, folder)
    for event in stream:
        if isinstance(event, Step):
            stream.close()
    _, events = trained(config, "whole")
    again = list(runs.resume(folder))
    assert losses(again) == losses(events)


@pytest.mark.parametrize("changes", [{}, {"lora_rank": 0}])
def test_frozen_weights_of_a_start_that_was_killed_do_not_stay(small, base, changes):
    folder = runs.new_folder("run", name="tuned")
    folder.mkdir()
    (folder / "lock").touch()
    leftovers = [folder / "base.safetensors", folder / ".base.safetensors.1234.partial"]
    for file in leftovers:
        file.write_bytes(b"large")
    trained(small(**LORA | changes), "tuned")
    lora = bool({**LORA, **changes}["lora_rank"])
    assert [file.exists() for file in leftovers] == [lora, False]
    assert not lora or leftovers[0].stat().st_size > len(b"large")


def test_damaged_and_missing_frozen_weights_are_said(small, base):
    folder, _ = trained(small(**LORA), "tuned")
    file = folder / "base.safetensors"
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)
    with pytest.raises(UserError, match=r"base.safetensors is damaged"):
        load_model("tuned")
    file.unlink()
    with pytest.raises(UserError, match=r"base.safetensors"):
        load_model("tuned")


def test_frozen_weights_that_are_damaged_between_two_checkpoints_are_noticed(small, base):
    folder, _ = trained(small(**LORA), "tuned")
    *_, last = runs.list_checkpoints(folder)
    snapshot = checkpoints.read(last.path)
    content = bytearray((folder / "base.safetensors").read_bytes())
    content[-1] ^= 1
    (folder / "base.safetensors").write_bytes(content)
    snapshot.progress.step += 1
    with pytest.raises(UserError, match=r"base.safetensors is damaged"):
        checkpoints.read(checkpoints.write(folder, snapshot))


def test_a_rollback_restores_the_adapters(small, base, monkeypatch):
    """Step 7 has a loss of NaN at the first learning rate; the steps after the checkpoint are then trained again."""
    step = OptimizerStep.run

    def bad(self):
        if self.progress.step == 6 and self.progress.learning_rate_scale == 1:
            with torch.no_grad():
                for layer in self.model.adapters:
                    layer.lora_B.fill_(math.nan)
            return math.nan, 1.0, 1.0
        return step(self)

    monkeypatch.setattr(OptimizerStep, "run", bad)
    _, events = trained(small(**LORA, on_divergence="rollback"), "tuned")
    assert [event.step for event in events if isinstance(event, Started)] == [0, 4]
    assert [event.step for event in events if isinstance(event, Step)] == [*range(1, 7), *range(5, 13)]
    assert expect(Finished, events[-1]).reason == "max_iters"
    assert all(math.isfinite(event.val_loss) for event in events if isinstance(event, Evaluated))
    assert all(tensor.isfinite().all() for tensor in load_model("tuned", "latest").model.state_dict().values())


def test_a_rank_above_that_of_every_matrix_is_refused_with_the_largest(small, base):
    """The matrices have (out, in) = (48, 16), (16, 16), (64, 16) and (16, 64)."""
    trained(small(**LORA | {"lora_rank": 16, "max_iters": 1}), "largest")
    with pytest.raises(SettingError, match=r"^lora_rank=17: the matrices of this model have a rank of at most 16; use"):
        trained(small(**LORA | {"lora_rank": 17}), "larger")
    assert {run.name for run in runs.list_runs()} == {"base", "largest"}


def test_a_run_with_a_larger_rank_of_an_earlier_version_resumes(small, base, monkeypatch):
    with monkeypatch.context() as earlier:
        earlier.setattr("nanogpt.training.train_run.check_rank", lambda *_: None)
        folder, _ = trained(small(**LORA | {"lora_rank": 17}), "tuned")
    *_, last = runs.resume(folder, {"max_iters": 14})
    assert expect(Finished, last).step == 14


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"init_from": "scratch"}, "name them with init_from"),
        ({"ema_decay": 0.9}, "ema_decay"),
        ({"max_norm": 1.0}, "max_norm"),
    ],
)
def test_what_does_not_go_together_is_refused(small, settings, said):
    with pytest.raises(SettingError, match=said):
        small(**LORA | settings)


def test_a_resume_with_another_rank_is_refused(small, base):
    folder, _ = trained(small(**LORA), "tuned")
    with pytest.raises(SettingError, match="a resumed run keeps its adapters"):
        list(runs.resume(folder, {"lora_rank": 4, "max_iters": 20}))


def test_frozen_weights_count_two_of_three_products(small, base):
    flops = [
        next(event for event in trained(config, name)[1] if isinstance(event, Started)).flops_per_token
        for config, name in ((small(max_iters=1), "all"), (small(**LORA | {"max_iters": 1}), "adapters"))
    ]
    assert flops[1] == flops[0] * 2 // 3


def test_adapters_whose_product_would_be_huge_are_refused():
    weights = {"a.weight": torch.zeros(3, 4)}
    adapters = {"a.lora_A": torch.zeros(1, 200_000), "a.lora_B": torch.zeros(200_000, 1), "a.lora_scale": torch.ones(1)}
    with pytest.raises(RuntimeError, match="does not have the shape of its matrix"):
        merged_weights(weights, adapters)
