"""The training loop of lessons: it learns, the same for a seed, and changes nothing in the process around it."""

import math
import threading

import pytest
import torch

from nanogpt.learn.private_random import PrivateRandom
from nanogpt.learn.trainer import Trainer, build_model, fixed_windows, mean_loss, windows

IDS = torch.tensor([0, 1, 2, 3] * 50)


def trainer(dropout: float = 0.0) -> Trainer:
    model = build_model("gpt2", vocab_size=4, seed=1, n_layer=1, n_head=2, n_embd=16, block_size=8, dropout=dropout)
    return Trainer(model, windows(IDS, 8, 4), learning_rate=1e-2, seed=1)


def test_it_learns_what_follows_with_certainty() -> None:
    made = trainer()
    measured = fixed_windows(IDS, 8, 5)
    before = mean_loss(made.model, measured)
    assert before == pytest.approx(math.log(4), abs=0.1)  # new weights are small: all tokens are as likely
    steps = list(made.train(60))
    assert [step.number for step in steps] == list(range(1, 61))
    assert mean_loss(made.model, measured) < before / 4
    assert made.model.training


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_a_seed_gives_the_same_steps_and_torchs_random_state_stays(dropout: float) -> None:
    torch.manual_seed(5)
    state = torch.get_rng_state()
    first = [step.loss for step in trainer(dropout).train(5)]
    assert torch.equal(torch.get_rng_state(), state)
    torch.manual_seed(6)
    assert [step.loss for step in trainer(dropout).train(5)] == first


def test_private_random_numbers_are_private_to_the_thread() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    drawn: list[torch.Tensor] = []
    with PrivateRandom(torch.Generator().manual_seed(1)):
        thread = threading.Thread(target=lambda: drawn.append(torch.rand(3)))
        thread.start()
        thread.join()
    assert torch.equal(drawn[0], expected)


def test_windows_have_the_next_id_at_each_position() -> None:
    ids = torch.arange(20)
    for inputs, targets in (windows(ids, 4, 8)(torch.Generator().manual_seed(1)), fixed_windows(ids, 4, 8)):
        assert inputs.shape == targets.shape == (8, 4)
        assert torch.equal(targets, inputs + 1)
    first, last = fixed_windows(ids, 4, 8)[1][[0, -1]]
    assert (first[0], last[-1]) == (1, 19)
