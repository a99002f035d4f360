"""The gradient noise scale: its formula, what is measured in a training, and what is said of a batch size."""

import math
from typing import ClassVar

import pytest
import torch

from nanogpt.config import Config, resolve
from nanogpt.data.batches import Batches
from nanogpt.errors import SettingError
from nanogpt.events import Evaluated, GradientNoise, Notice, Step
from nanogpt.inspection import GradientNoiseObserver, observed
from nanogpt.inspection import gradient_noise as module
from nanogpt.inspection.gradient_noise import MIN_MEASUREMENTS, judge, signal_and_noise
from nanogpt.models.base import compute_loss
from nanogpt.training import train
from tests.made_events import started
from tests.training.conftest import TINY


def tiny(**changes: object) -> Config:
    return resolve(flags=TINY | {"gradient_accumulation_steps": 2} | changes).config


def test_two_batch_sizes_give_signal_and_noise():
    """With |G|² = 3 and S = 8, batches of 2 and 16 sequences have the squared norms 3 + 8/2 and 3 + 8/16."""
    assert signal_and_noise(7.0, 3.5, 2, 16) == pytest.approx((3.0, 8.0))


@pytest.mark.parametrize("dtype", ["float32", pytest.param("float16", marks=pytest.mark.slow)])
def test_it_measures_the_gradients_of_the_micro_batches_and_of_their_mean(tokens, dtype):
    config = tiny(batch_size=2, gradient_accumulation_steps=4, noise_interval=1, max_iters=1, dtype=dtype)
    events = list(train(config, tokens, observers=[GradientNoiseObserver(config)]))
    measured = next(event for event in events if isinstance(event, GradientNoise))
    torch.manual_seed(config.system.seed)
    model = config.model.build().train()
    batches = Batches(tokens["train"], config.model.block_size, 2, config.system.seed)
    gradients = []
    for _ in range(4):
        window = torch.from_numpy(batches.next().astype("int64"))
        loss = compute_loss(model, window[:, :-1], window[:, 1:])
        parts = torch.autograd.grad(loss, list(model.parameters()))
        gradients.append(torch.cat([part.flatten() for part in parts]))
    small = sum(float(each.square().sum()) for each in gradients) / 4
    large = float(torch.stack(gradients).mean(0).square().sum())
    expected = signal_and_noise(small, large, 2, 8)
    assert (measured.signal, measured.noise) == pytest.approx(expected, rel=1e-4 if dtype == "float32" else 0.05)
    assert (measured.batch_size, measured.measurements) == (8, 1)


def test_it_measures_at_its_interval_and_changes_nothing(tokens):
    config = tiny(noise_interval=5, dropout=0.1)
    plain = list(train(config, tokens))
    events = list(train(config, tokens, observers=[GradientNoiseObserver(config)]))
    assert [event.step for event in events if isinstance(event, GradientNoise)] == [5, 10]
    losses, values = (
        [[getattr(e, name) for e in each if isinstance(e, kind)] for each in (plain, events)]
        for name, kind in (("loss", Step), ("val_loss", Evaluated))
    )
    assert losses[0] == losses[1]
    assert values[0] == values[1]


def test_when_it_is_not_due_it_is_not_asked(tokens):
    class Counting(GradientNoiseObserver):
        calls: ClassVar[list[tuple[int, int]]] = []

        def after_micro_batch(self, model, step, number, factor):
            self.calls.append((step, number))
            super().after_micro_batch(model, step, number, factor)

    config = tiny(noise_interval=7)
    list(train(config, tokens, observers=[Counting(config)]))
    assert Counting.calls == [(7, 0), (7, 1)]


class OneNumber(torch.nn.Module):
    """A model whose gradient the test sets."""

    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))


def measure(observer, gradients=(0.5 * (1 + 5**0.5), 1.0)):
    """Show two micro-batches with the gradients 1 + √5 and 1 - √5, of mean square 6 and mean 1, each counting half.

    gradients: summed up to each micro-batch.
    """
    model = OneNumber()
    for number, gradient in enumerate(gradients):
        model.weight.grad = torch.tensor(gradient)
        observer.before_micro_batch(model, 1, number, torch.zeros(4, 9))
        observer.after_micro_batch(model, 1, number, 0.5)
    return list(observer.before_update(model, 1))


def test_a_signal_below_zero_gives_no_scale_and_a_rollback_forgets_the_measurements():
    observer = GradientNoiseObserver(tiny(batch_size=4, noise_interval=1))
    (event,) = measure(observer)
    assert (event.signal, event.noise) == pytest.approx((-4.0, 40.0))  # (8·1 - 4·6) / 4 and (6 - 1) / (1/4 - 1/8)
    assert event.noise_scale is None
    assert measure(observer)[0].measurements == 2
    list(observed([started()], [observer]))
    assert measure(observer)[0].measurements == 1


def test_a_gradient_that_overflowed_is_not_measured():
    observer = GradientNoiseObserver(tiny(batch_size=4, noise_interval=1))
    (before,) = measure(observer)
    assert measure(observer, (math.inf, math.inf)) == []
    (after,) = measure(observer)
    assert (after.signal, after.noise, after.measurements) == (before.signal, before.noise, 2)


def test_a_verdict_is_said_after_enough_measurements_and_only_when_it_changes(monkeypatch):
    observer, notices = GradientNoiseObserver(tiny(batch_size=4, noise_interval=1)), []
    monkeypatch.setattr(module, "signal_and_noise", lambda *_: (1.0, 64.0))
    for _ in range(MIN_MEASUREMENTS + 2):
        notices.append([event.text for event in measure(observer) if isinstance(event, Notice)])
    sentence = "a batch of 8 sequences is 0.12 of the gradient noise scale, about 64: larger batches would still pay"
    assert notices == [[]] * (MIN_MEASUREMENTS - 1) + [[sentence], [], []]


@pytest.mark.parametrize(
    ("batch", "verdict"), [(10, "small"), (49, "small"), (50, "even"), (200, "even"), (201, "large")]
)
def test_a_batch_within_a_factor_of_two_of_the_scale_is_even(batch, verdict):
    assert judge(batch, 100.0)[0] == verdict


def test_without_a_second_micro_batch_there_is_nothing_to_compare():
    with pytest.raises(SettingError, match=r"noise_interval=10: .*set gradient_accumulation_steps=2 and halve"):
        tiny(noise_interval=10, gradient_accumulation_steps=1)
