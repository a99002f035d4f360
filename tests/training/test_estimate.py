"""What the estimates promise, against real models: parameters exactly, activations closely."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from torch.utils._pytree import tree_leaves

from nanogpt.config import ARCHITECTURE, Config, component_settings, names, resolve
from nanogpt.events import Measured
from nanogpt.training import estimate
from nanogpt.training.distributed import World
from nanogpt.training.step_timing import estimate_step_time, time_step_parts
from tests.generators import outcome

SMALL = {"n_layer": 3, "n_head": 4, "n_embd": 128, "block_size": 64, "batch_size": 8, "vocab_size": 300}


def configured(**changes: Any) -> Config:
    return resolve(flags=SMALL | changes).config


@pytest.mark.parametrize("changes", [{}, {"n_layer": 1, "vocab_size": 7, "block_size": 1024}])
@pytest.mark.parametrize("architecture", names(ARCHITECTURE))
def test_parameters_are_counted_as_the_model_has_them(architecture: str, changes: dict[str, Any]) -> None:
    own = component_settings(ARCHITECTURE, architecture)
    sizes = {name: value for name, value in (SMALL | changes).items() if name in own}
    config = resolve(flags={"architecture": architecture} | sizes).config
    assert config.model.n_parameters() == config.model.build().n_parameters()


def test_published_gpt2_has_its_124_million_parameters() -> None:
    assert resolve(preset="gpt2", flags={"vocab_size": 50257}).config.model.n_parameters() == 124_439_808


def kept_for_backward(config: Config, dtype: str) -> int:
    """Bytes that a forward pass keeps, each piece of memory once, besides the weights and their 16-bit copies."""
    model = config.model.build()
    weights = {p.untyped_storage().data_ptr() for p in model.parameters()}
    kept: dict[int, torch.Tensor] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor  # held, so that no address is used twice
        return tensor

    ids = torch.randint(0, config.model.vocab_size, (config.data.batch_size, config.model.block_size))
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=dtype == "bfloat16"),
    ):
        backend = model.training_backend("cpu", getattr(torch, dtype)) or model
        _, loss = backend(ids, ids)
    assert loss is not None
    for block in getattr(loss.grad_fn, "saved_blocks", []):  # a loss in one piece keeps these itself
        for tensor in tree_leaves(block):
            if tensor is not None:
                keep(tensor)
    return sum(kept[place].untyped_storage().nbytes() for place in kept.keys() - weights)


@pytest.mark.slow
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"dropout": 0.2},
        {"vocab_size": 4000},
        {"n_layer": 8, "n_embd": 256},
        {"block_size": 256, "dropout": 0.1},
        {"block_size": 512, "n_layer": 2},
        {"activation": "swiglu", "mlp_width": 768},
        {"architecture": "transformer", "vocab_size": 8000, "batch_size": 40},  # more tokens than CHUNK_ROWS
    ],
)
def test_activations_are_estimated_within_a_third(dtype: str, changes: dict[str, Any]) -> None:
    config = configured(**changes)
    kept = kept_for_backward(config, dtype)
    head = config.data.batch_size * config.model.block_size * config.model.vocab_size  # logits
    head *= 8 if dtype == "float32" else 2 + 4  # in pieces, which are not kept: of both formats
    estimated = estimate.memory(config, dtype).activations
    assert 0.9 * kept < estimated < 1.35 * (kept + head)


def test_weights_gradients_and_moments_take_16_bytes_a_parameter() -> None:
    config = configured()
    memory = estimate.memory(config)
    assert memory.weights + memory.gradients + memory.optimizer == 16 * config.model.n_parameters()
    assert memory.total == memory.activations + 16 * config.model.n_parameters()


def test_sharded_processes_hold_a_part_of_the_state_and_collect_two_blocks_and_the_embeddings() -> None:
    config = configured(n_layer=4, processes=2, sharding="fsdp", bias=True)
    parameters, memory = config.model.n_parameters(), estimate.memory(config)
    assert memory.gradients == 4 * parameters / 2
    assert memory.optimizer == 8 * parameters / 2
    embeddings = config.model.vocab_size * config.model.width
    assert memory.weights == 4 * parameters / 2 + 4 * (embeddings + (parameters - embeddings) / 2)
    assert estimate.memory(config, processes=1).weights == 4 * parameters
    alone = estimate.memory(configured(n_layer=4, processes=2, bias=True))
    assert alone.weights + alone.gradients + alone.optimizer == 16 * parameters


@pytest.mark.parametrize("processes", range(1, 13))
def test_activations_are_those_of_the_largest_micro_batch_of_a_process(processes: int) -> None:
    config = configured(batch_size=3, gradient_accumulation_steps=4, processes=processes)
    shares = [World(rank, processes).micro_batches(12, 3) for rank in range(processes)]
    largest = max(len(part) for share in shares for part in share)
    assert estimate.micro_batch(config, processes) == largest
    assert estimate.memory(config).activations == config.model.activation_bytes(largest, "float32", "cpu")


def test_epochs_and_the_uniform_guess() -> None:
    config = configured(max_iters=100)
    assert estimate.epochs(config, 51_200) == 1.0  # 100 iterations of 8 · 64 tokens
    assert estimate.uniform_loss(65) == pytest.approx(math.log(65))


def test_a_counted_model_takes_one_epoch_whatever_max_iters_is() -> None:
    flags = {"architecture": "ngram", "max_iters": 100_000, "block_size": 64, "batch_size": 8, "vocab_size": 300}
    config = resolve(flags=flags).config
    assert estimate.steps(config, 1025) == 3  # of 8 · 64 tokens at most
    assert estimate.equivalent_steps(config, {"train": 1025, "val": 100}) == 3
    assert estimate.epochs(config, 1025) == 1.0
    memory = estimate.memory(config)
    assert memory.gradients == memory.optimizer == 0


def test_evaluations_lengthen_a_run_by_their_forward_passes() -> None:
    config = configured(max_iters=100, eval_interval=50, eval_iters=30)
    tokens = dict.fromkeys(("train", "val"), 10**6)
    assert estimate.equivalent_steps(config, tokens) == 100 + 3 * 60 / 3  # at 0, 50 and 100: 30 batches of both splits
    averaged = configured(max_iters=100, eval_interval=50, eval_iters=30, ema_decay=0.9)
    assert estimate.equivalent_steps(averaged, tokens) == 100 + 3 * 90 / 3


@pytest.mark.parametrize(
    ("preset", "steps"),
    [
        ("baby", 5000 + 21 * (7 + 62) / 3),  # 200 batches are more than either split has
        ("speedrun", 40 + (28 + 20) / 3),  # one evaluation, of the whole validation split and 20 batches of the other
        ("modern", 1600 + 9 * (28 + 20) / 3),
    ],
)
def test_an_evaluation_counts_as_many_batches_as_it_has(preset: str, steps: float) -> None:
    config = resolve(preset=preset, flags={"vocab_size": 65}).config
    assert estimate.equivalent_steps(config, {"train": 1_003_854, "val": 111_540}) == steps


def test_steps_are_timed_whatever_the_configuration_evaluates() -> None:
    tokens = {split: torch.arange(4000).remainder(300).numpy().astype("uint16") for split in ("train", "val")}
    work = time_step_parts(
        configured(eval_only=True, device="cpu", compile="false"), tokens, burn_in=1, steps=2, limit_s=60
    )
    assert len(outcome(work)[-1][2]) == 2


@pytest.mark.parametrize(
    "changes",
    [{"noise_interval": 5, "gradient_accumulation_steps": 2}, {"lora_rank": 4, "init_from": "another"}],
)
def test_settings_that_need_others_are_timed_too(changes: dict[str, Any]) -> None:
    tokens = {split: np.zeros(200, np.uint16) for split in ("train", "val")}
    config = configured(n_layer=1, threads=1, dtype="float32", **changes)
    events = estimate_step_time(config, tokens, budget_s=0.01)
    assert any(isinstance(event, Measured) for event in events)


def test_a_quick_measure_comes_before_the_fuller_one_and_can_be_cut_short() -> None:
    tokens = {split: torch.arange(4000).remainder(300).numpy().astype("uint16") for split in ("train", "val")}
    measured = [
        event for event in estimate_step_time(configured(), tokens, budget_s=0.5) if isinstance(event, Measured)
    ]
    assert measured[0].batch_size == 1
    assert all(event.seconds_per_step > 0 for event in measured)
    events = estimate_step_time(configured(), tokens)
    next(events)
    events.close()
