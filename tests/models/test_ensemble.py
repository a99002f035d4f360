"""The ensemble: its members learn alone, and their probabilities are averaged."""

from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from nanogpt.models.base import Forward, compute_loss
from nanogpt.models.ensemble import model as ensemble
from nanogpt.models.ensemble.cpu_training import CpuTraining
from nanogpt.models.ensemble.model import Model
from nanogpt.models.layers.dropout import own_random_state
from tests import architectures
from tests.narrowing import expect

SHAPE = {"architecture": "ensemble", "members": 3, "n_layer": 2, "n_head": 2, "n_embd": 16, "block_size": 8}


def built(**changes: Any) -> Model:
    torch.manual_seed(1)
    model = expect(Model, architectures.build(**SHAPE | changes, vocab_size=11))
    with torch.no_grad():
        for parameter in model.parameters():  # all that starts at zero too
            parameter.add_(torch.randn_like(parameter), alpha=0.3)
    return model


def batch() -> tuple[torch.Tensor, torch.Tensor]:
    ids = torch.randint(11, (5, 9), generator=torch.Generator().manual_seed(2))
    targets = ids[:, 1:].clone()
    targets[2, 3:] = -1
    return ids[:, :-1], targets


def test_it_predicts_with_the_mean_of_the_probabilities() -> None:
    model, (ids, targets) = built().eval(), batch()
    members = model.synchronized_members()
    mean = torch.stack([member.logits(ids).softmax(-1) for member in members]).mean(0)
    torch.testing.assert_close(model.logits(ids).exp(), mean)
    loss = F.nll_loss(mean.log().flatten(0, 1), targets.flatten(), ignore_index=-1)
    torch.testing.assert_close(model(ids, targets)[1], loss)
    assert loss < torch.stack([expect(torch.Tensor, member(ids, targets)[1]) for member in members]).mean()


def test_a_loss_in_parts_is_that_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    model, (ids, targets) = built().eval(), batch()
    whole = model(ids, targets)[1]
    monkeypatch.setattr(ensemble, "CHUNK_LOGITS", 33)  # three rows
    torch.testing.assert_close(model(ids, targets)[1], whole)


def test_in_training_each_member_has_the_gradient_that_it_has_alone() -> None:
    model, (ids, targets) = built().train(), batch()
    loss = expect(torch.Tensor, model(ids, targets)[1])
    loss.backward()
    losses = []
    for member in model.synchronized_members():
        own = expect(torch.Tensor, member(ids, targets)[1])
        for found, alone in zip(
            [p.grad for p in member.parameters()], torch.autograd.grad(own, list(member.parameters())), strict=True
        ):
            torch.testing.assert_close(expect(torch.Tensor, found) * 3, alone)
        losses.append(own)
    torch.testing.assert_close(loss, torch.stack(losses).mean())


@pytest.fixture
def two_threads() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    yield
    torch.set_num_threads(before)


def loss_and_gradients(model: Model, forward: Forward) -> list[torch.Tensor]:
    model.zero_grad()
    ids, targets = batch()
    loss = compute_loss(forward, ids, targets)
    (loss * 3).backward()
    return [loss.detach(), *(expect(torch.Tensor, parameter.grad) for parameter in model.parameters())]


@pytest.mark.parametrize("members", [1, 2, 3, 4])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_side_by_side_the_members_have_the_same_losses_and_gradients(
    members: int, dtype: torch.dtype, two_threads: None
) -> None:
    model = built(members=members).train()
    backend = expect(CpuTraining, model.training_backend("cpu", dtype))
    with torch.autocast("cpu", dtype, enabled=dtype != torch.float32):
        expected, found = loss_and_gradients(model, model), loss_and_gradients(model, backend)
    torch.testing.assert_close(found, expected)
    assert torch.get_num_threads() == 2
    model.eval()
    torch.testing.assert_close(backend(*batch()), model(*batch()))


@pytest.mark.parametrize("threads", [1, 2])
def test_the_masks_of_a_member_follow_torchs_random_state_alone(threads: int, two_threads: None) -> None:
    torch.set_num_threads(threads)
    model = built(members=2, dropout=0.3).train()
    backend = expect(CpuTraining, model.training_backend("cpu", torch.float32))
    state = torch.get_rng_state()
    first, second = loss_and_gradients(model, backend), loss_and_gradients(model, backend)
    torch.set_rng_state(state)
    again = loss_and_gradients(model, backend)
    assert all(map(torch.equal, first, again))
    assert not torch.equal(first[0], second[0])
    torch.set_rng_state(state)
    alone = []
    for member, seed in zip(model.synchronized_members(), torch.randint(2**62, (2,)).tolist(), strict=True):
        with own_random_state(seed):
            alone.append(compute_loss(member, *batch()))
    torch.testing.assert_close(first[0], torch.stack(alone).mean())


def test_what_else_is_random_keeps_the_members_one_after_the_other() -> None:
    for name in ("ngram_dropout", "token_replacement", "stochastic_depth"):
        assert built(**{name: 0.1}).training_backend("cpu", torch.float32) is None
    assert built().training_backend("cuda", torch.float32) is None


def test_its_members_differ_and_see_the_documents_that_it_sees() -> None:
    model = built()
    first, second, _ = model.synchronized_members()
    assert not torch.equal(first.wte.weight, second.wte.weight)
    model.document_separator = 4
    assert all(member.document_separator == 4 for member in model.synchronized_members())
    model.crop_block_size(5)
    assert all(member.config.block_size == 5 for member in model.synchronized_members())
