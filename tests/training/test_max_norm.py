"""max_norm limits the rows of the matrices between hidden states and of the head after each step, and nothing else."""

import pytest
import torch

from nanogpt.config import ARCHITECTURE, names
from nanogpt.events import Step
from nanogpt.training import Snapshot, train
from nanogpt.training.max_norm import constrained_weights, limit_row_norms
from tests.architectures import build


def saved(config, tokens, **more):
    """Return the losses and the snapshots by step."""
    snapshots: dict[int, Snapshot] = {}

    def save(snapshot, is_best):
        snapshots[snapshot.progress.step] = snapshot
        return ""

    return [e.loss for e in train(config, tokens, save=save, **more) if isinstance(e, Step)], snapshots


def test_a_long_row_is_shortened_to_the_limit_and_a_short_one_stays():
    weight = torch.nn.Parameter(torch.tensor([[3.0, 4.0], [0.3, 0.4]]))  # of norms 5 and 0.5
    limit_row_norms([weight], 2.0)
    torch.testing.assert_close(weight.detach(), torch.tensor([[1.2, 1.6], [0.3, 0.4]]))


@pytest.mark.parametrize("architecture", names(ARCHITECTURE))
def test_it_is_for_matrices_that_decay_and_are_no_embedding(architecture):
    model = build(architecture=architecture, n_layer=1, n_head=1, n_embd=8, block_size=4, vocab_size=5)
    constrained = set(constrained_weights(model))
    for group in model.parameter_groups():
        expected = group.decay and group.role not in ("embedding", "vector")
        assert all((parameter in constrained) == expected for parameter in group.parameters)
    assert all(parameter.dim() == 2 for parameter in constrained)


@pytest.mark.parametrize("changes", [{}, {"architecture": "modern", "optimizer": "muon"}])
def test_after_each_step_no_row_is_longer_and_a_resume_is_bit_identical(tiny, tokens, changes):
    limit = 0.3
    config = tiny(max_norm=limit, checkpoint_interval=5, **changes)
    losses, snapshots = saved(config, tokens)
    resumed_losses, resumed = saved(config, tokens, start=snapshots[5], resume=True)
    assert resumed_losses == losses[5:]
    free = saved(tiny(checkpoint_interval=5, **changes), tokens)[1][12].model
    model = config.model.build()
    model.load_state_dict(free)
    constrained = {id(weight) for weight in constrained_weights(model)}
    limited = [name for name, parameter in model.named_parameters() if id(parameter) in constrained]
    assert any(free[name].norm(dim=1).max() > limit for name in limited), "otherwise this shows nothing"
    for name, weight in snapshots[12].model.items():
        assert torch.equal(weight, resumed[12].model[name])
        if name in limited:
            assert weight.norm(dim=1).max() <= limit * (1 + 1e-6)
