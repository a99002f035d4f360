"""on_spike=skip: a batch of garbage changes nothing, it is said, and a resume is exact."""

import json
from dataclasses import asdict, replace

import numpy as np
import pytest
import torch

from nanogpt.data.batches import Batches
from nanogpt.events import Notice, Step
from nanogpt.inspection import Observer
from nanogpt.records import from_values
from nanogpt.training import train
from nanogpt.training.snapshot import Progress

GARBAGE_AT = 150  # the step; a step of the small training is one call of `Batches.next`
GARBAGE = np.array([10, 0] * 5, np.uint16)[:9]  # downwards, where the text counts upwards


class Weights(Observer):
    """Keeps the weights after each step."""

    interval = 1

    def __init__(self):
        self.after = {}

    def after_update(self, model, step):
        self.after[step] = torch.cat([p.detach().flatten().clone() for p in model.parameters()])
        return ()


@pytest.fixture(autouse=True)
def garbage(monkeypatch, tiny):
    """The text of one batch is replaced, also in a resumed training."""
    take, batch_size = Batches.windows, tiny().data.batch_size

    def windows(self, rows):
        is_garbage = self.position == (GARBAGE_AT - 1) * batch_size
        window = take(self, rows)
        return np.broadcast_to(GARBAGE, window.shape).astype(window.dtype) if is_garbage else window

    monkeypatch.setattr(Batches, "windows", windows)


def trained(config, tokens, **options):
    weights = Weights()
    events = list(train(config, tokens, observers=[weights], **options))
    notices = [event.text for event in events if isinstance(event, Notice)]
    return weights.after, events, notices


def test_the_batch_changes_nothing_and_training_continues(tiny, tokens):
    after, events, notices = trained(tiny(max_iters=160, on_spike="skip"), tokens)
    assert torch.equal(after[GARBAGE_AT], after[GARBAGE_AT - 1])
    assert not torch.equal(after[GARBAGE_AT + 1], after[GARBAGE_AT])
    assert [notice.split(":")[0] for notice in notices] == [f"step {GARBAGE_AT}"]
    assert "the batch is skipped and the weights stay as they are" in notices[0]
    losses = {event.step: event.loss for event in events if isinstance(event, Step)}
    assert losses[GARBAGE_AT] > losses[GARBAGE_AT - 1] + 0.25, "the loss of the batch is reported"


def test_by_default_the_batch_is_trained_on(tiny, tokens):
    after, _, notices = trained(tiny(max_iters=160), tokens)
    assert not torch.equal(after[GARBAGE_AT], after[GARBAGE_AT - 1])
    assert notices == []


def test_a_resume_just_before_it_skips_it_too(tiny, tokens):
    config = tiny(max_iters=160, on_spike="skip", checkpoint_interval=GARBAGE_AT - 4)
    snapshots = []

    def save(snapshot, is_best):
        snapshots.append(snapshot)
        return "kept"

    expected, _, notices = trained(config, tokens, save=save)
    found = next(each for each in snapshots if each.progress.step == GARBAGE_AT - 4)
    progress = from_values(Progress, json.loads(json.dumps(asdict(found.progress))))
    assert progress == found.progress
    after, _, repeated = trained(config, tokens, start=replace(found, progress=progress), resume=True)
    assert repeated == notices
    assert torch.equal(after[160], expected[160])


def test_an_earlier_version_kept_no_state_of_spikes():
    known = asdict(Progress(step=3))
    old = {name: value for name, value in known.items() if "usual" not in name and "spike" not in name}
    assert from_values(Progress, old) == Progress(step=3)
