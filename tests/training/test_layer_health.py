"""Each layer's health in real trainings: the figures beside hooks of the test, the sick networks, the healthy ones."""

import math

import numpy as np
import pytest
import torch

from nanogpt.events import LayerHealth, LayerProblem, Spike, Step, from_json, to_json
from nanogpt.inspection import LayerHealthObserver, LayerProblemObserver, Observer, SpikeObserver, observed
from nanogpt.inspection.layer_problems import MESSAGES
from nanogpt.inspection.spikes import FIRST, SpikeDetector
from nanogpt.runs.state import RunState, reduce
from nanogpt.training import train
from tests.architectures import TRAINED
from tests.made_events import started, stepped


def decode(ids):
    return "".join(chr(ord("a") + id) for id in ids)


def observers(config):
    return [LayerHealthObserver(config), LayerProblemObserver(), SpikeObserver(decode)]


def of(kind, events):
    return [event for event in events if isinstance(event, kind)]


class Weights(Observer):
    """Keeps all gradients and weights of one step."""

    interval = 1

    def __init__(self, step):
        self.step, self.gradients, self.before, self.after = step, {}, {}, {}

    def is_due(self, step):
        return step == self.step

    def before_update(self, model, step):
        self.gradients = {name: p.grad.clone() for name, p in model.named_parameters()}
        self.before = {name: p.detach().clone() for name, p in model.named_parameters()}
        return ()

    def after_update(self, model, step):
        self.after = {name: p.detach().clone() for name, p in model.named_parameters()}
        return ()


def test_gradients_weights_and_updates_are_those_of_the_step(tiny, tokens):
    config = tiny(health_interval=4, grad_clip=1e-3)
    seen = Weights(8)
    events = list(train(config, tokens, observers=[seen, *observers(config)]))
    health = next(event for event in of(LayerHealth, events) if event.step == 8)
    for number, layer in enumerate(health.layers):
        names = [name for name in seen.before if name.startswith(f"{layer}.")]
        assert names
        gradient, before, after = (
            torch.cat([each[name].flatten() for name in names]) for each in (seen.gradients, seen.before, seen.after)
        )
        assert health.gradient_norm[number] == pytest.approx(float(gradient.norm()), rel=2e-5)
        assert health.weight_norm[number] == pytest.approx(float(before.norm()), rel=2e-5)
        ratio = math.log10(float((after - before).norm() / before.norm()))
        assert health.update_ratio[number] == pytest.approx(ratio, abs=1e-3)
    assert health.clipped == 1.0, "every gradient was larger than 1e-3"
    assert from_json(to_json(health)) == health


def test_it_measures_early_and_at_its_interval_and_changes_nothing(tiny, tokens):
    config = tiny(dropout=0.1, health_interval=4)
    plain, events = list(train(config, tokens)), list(train(config, tokens, observers=observers(config)))
    assert [event.step for event in of(LayerHealth, events)] == [1, 2, 4, 8, 12]
    assert [event.loss for event in of(Step, plain)] == [event.loss for event in of(Step, events)]


@pytest.mark.parametrize("architecture", TRAINED)
def test_a_healthy_training_lights_no_lamp(tiny, tokens, architecture):
    config = tiny(architecture=architecture, max_iters=80, learning_rate=1e-3, warmup_iters=20, health_interval=10)
    events = list(train(config, tokens, observers=observers(config)))
    assert of(LayerHealth, events)
    assert of(LayerProblem, events) == of(Spike, events) == []


@pytest.fixture
def altered(monkeypatch):
    """Returns a function that changes each new GPT-2 before it is trained."""
    from nanogpt.models.gpt2.model import Model

    build = Model.__init__

    def alter(change):
        def built(model, config):
            build(model, config)
            with torch.no_grad():
                change(model)

        monkeypatch.setattr(Model, "__init__", built)

    return alter


def problems(config, tokens):
    events = list(train(config, tokens, observers=observers(config)))
    return {(event.layer, event.problem) for event in of(LayerProblem, events) if not event.over}


def test_a_dead_relu_layer_is_named(tiny, tokens, altered):
    altered(lambda model: model.h[1].mlp.c_fc.bias.fill_(-50.0))
    config = tiny(n_layer=3, activation="relu", bias=True, learning_rate=1e-4, max_iters=10, health_interval=5)
    assert problems(config, tokens) == {("h.1.mlp", "dead units")}


def test_a_layer_without_gradient_is_named(tiny, tokens, altered):
    def detach(model):
        model.h[1].mlp.register_forward_hook(lambda module, inputs, output: output.detach())

    altered(detach)
    config = tiny(n_layer=3, max_iters=10, health_interval=5, learning_rate=1e-3)
    assert problems(config, tokens) == {("h.1.mlp", "no gradient")}


def test_a_learning_rate_100_times_too_high_is_told_within_the_first_steps(tiny, tokens):
    config = tiny(n_layer=2, learning_rate=0.1, warmup_iters=20, max_iters=50, health_interval=50)
    events = list(train(config, tokens, observers=observers(config)))
    first = of(LayerProblem, events)[0]
    assert (first.layer, first.problem) == ("", "large updates")
    assert first.step <= 20


def test_an_initialisation_10_times_too_large_is_told_at_the_first_step(tiny, tokens, altered):
    altered(lambda model: [p.mul_(10) for p in model.parameters() if p.dim() > 1])
    found = problems(tiny(n_embd=64, max_iters=2, vocab_size=11), tokens)
    assert ("", "large first loss") in found


def test_one_block_that_starts_10_times_too_large_is_named(tiny, tokens, altered):
    altered(lambda model: [p.mul_(10) for p in model.h[2].mlp.parameters() if p.dim() > 1])
    assert ("h.2.mlp", "large start") in problems(tiny(n_layer=4, max_iters=2), tokens)


@pytest.mark.parametrize("is_frozen", [False, True])
def test_a_batch_of_garbage_is_reported_with_its_text(tiny, tokens, altered, monkeypatch, is_frozen):
    """Also where some weights have no gradient, as in fine-tuning with LoRA."""
    from nanogpt.data.batches import Batches

    take, taken = Batches.windows, []
    garbage = np.array([10, 0] * 5, np.uint16)[:9]  # downwards, where the text counts upwards

    def windows(self, rows):
        window = take(self, rows)
        taken.append(window)
        if len(taken) == 150:
            window = window.copy()
            window[:] = garbage
        return window

    monkeypatch.setattr(Batches, "windows", windows)
    altered(lambda model: model.ln_f.requires_grad_(not is_frozen))
    config = tiny(max_iters=200, batch_size=4)
    spikes = of(Spike, list(train(config, tokens, observers=observers(config))))
    assert [spike.step for spike in spikes] == [150]
    spike = spikes[0]
    assert spike.texts[0] == decode(garbage)
    assert spike.loss > spike.usual_loss + 0.25
    assert spike.text_losses == tuple(sorted(spike.text_losses, reverse=True))
    assert spike.layer


def test_a_spike_needs_a_past_and_does_not_become_usual():
    wavering = [2.0 + 0.05 * math.sin(step) for step in range(FIRST)]
    detector = SpikeDetector()
    assert not any(detector.add(loss, 1.0) for loss in [9.0, *wavering])
    assert detector.add(4.0, 1.0)
    assert 4.0 not in detector.losses
    assert not detector.add(math.nan, 1.0)


def health_of_one_layer(step, dead):
    nothing = (None,)
    return LayerHealth(
        step=step, layers=("h.0.mlp",), gradient_norm=(1.0,), weight_norm=(1.0,), update_ratio=(-3.0,),
        dead_units=(dead,), activation_mean=nothing, activation_std=nothing, activation_kurtosis=nothing,
        attention_entropy=((),), histograms=((),), clipped=None,
    )  # fmt: skip


def test_a_problem_has_to_last_and_is_over_when_it_is_gone():
    def states(*dead):
        given = [started(), *(health_of_one_layer(50 * step, share) for step, share in enumerate(dead, 1))]
        return [(e.step, e.over) for e in observed(given, [LayerProblemObserver()]) if isinstance(e, LayerProblem)]

    assert states(0.9, 0.0, 0.9) == []
    assert states(0.9, 0.9, 0.9, 0.1) == [(100, False), (200, True)]


def test_a_problem_that_is_still_there_after_a_rollback_is_among_those_of_the_run():
    given = [started(), *(health_of_one_layer(step, 0.9) for step in (50, 100))]
    given += [started(), *(health_of_one_layer(step, 0.9) for step in (50, 100))]
    state = reduce(RunState(), given[0])
    for event in observed(given, [LayerProblemObserver()]):
        state = reduce(state, event)
    assert [text.partition(":")[0] for text in state.problems] == ["h.0.mlp"]


def test_every_problem_has_a_message_and_an_advice():
    for problem, (message, advice) in MESSAGES.items():
        assert message.format(figure=0.5, uniform=4.0), problem
        assert advice


def test_a_large_first_loss_is_over_at_the_second_measurement():
    given = [started(), stepped(1, loss=90.0), *(health_of_one_layer(step, 0.0) for step in (1, 2, 3))]
    found = [e for e in observed(given, [LayerProblemObserver()]) if isinstance(e, LayerProblem)]
    assert [(e.step, e.problem, e.over) for e in found] == [
        (1, "large first loss", False),
        (2, "large first loss", True),
    ]
