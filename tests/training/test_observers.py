"""What an observer sees of a training, when it sees it, and that the training does not notice."""

from contextlib import closing

import pytest
import torch

from nanogpt.events import Evaluated, Event, Finished, Notice, Started, Step
from nanogpt.inspection import Observer, observed
from nanogpt.training import train
from tests.made_events import started, stepped


class Everything(Observer):
    """Remembers what it was shown, and reports each look."""

    def __init__(self, interval):
        self.interval = interval
        self.gradients, self.weights, self.events, self.closed = {}, {}, [], 0

    def before_update(self, model, step):
        self.gradients[step] = [parameter.grad.clone() for parameter in model.parameters()]
        self.weights[step] = [[parameter.detach().clone() for parameter in model.parameters()]]
        yield Notice(level="info", text=f"before {step}")

    def after_update(self, model, step):
        self.weights[step].append([parameter.detach().clone() for parameter in model.parameters()])
        assert all(parameter.grad is None for parameter in model.parameters())
        yield Notice(level="info", text=f"after {step}")

    def on_event(self, event):
        self.events.append(event)
        return ()

    def close(self):
        self.closed += 1


def test_it_sees_gradients_before_and_weights_after_an_update_at_its_own_interval(tiny, tokens):
    observer = Everything(interval=5)
    events = list(train(tiny(max_iters=12, grad_clip=1e-3), tokens, observers=[observer]))
    norms = {event.step: event.grad_norm for event in events if isinstance(event, Step)}
    assert list(observer.gradients) == [5, 10]
    for step, gradients in observer.gradients.items():
        norm = torch.linalg.vector_norm(torch.stack([gradient.norm() for gradient in gradients]))
        assert norm.item() == pytest.approx(norms[step]), "those of this very step, not yet clipped"
    for before, after in observer.weights.values():
        assert not all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_what_it_yields_is_reported_beside_the_step_that_it_saw(tiny, tokens):
    events = train(tiny(max_iters=4, log_interval=2), tokens, observers=[Everything(interval=3)])
    told = [
        event.text if isinstance(event, Notice) else event.step for event in events if isinstance(event, Step | Notice)
    ]
    assert told == [2, "before 3", "after 3", 4]


def test_an_observer_that_is_not_due_is_not_asked(tiny, tokens):
    observer = Everything(interval=0)
    list(train(tiny(), tokens, observers=[observer]))
    assert observer.gradients == observer.weights == {}


def test_a_training_that_is_observed_is_bit_identical_to_one_that_is_not(tiny, tokens):
    config = tiny(dropout=0.2)
    plain, seen = train(config, tokens), train(config, tokens, observers=[Everything(interval=1)])
    figures = [
        [(type(e), e.step, getattr(e, "loss", None)) for e in events if isinstance(e, Step | Evaluated)]
        for events in (plain, seen)
    ]
    assert figures[0] == figures[1]


def test_it_sees_every_event_and_is_closed_at_the_end(tiny, tokens):
    observer, other = Everything(interval=6), Everything(interval=0)
    events = list(train(tiny(), tokens, observers=[observer, other]))
    assert observer.events == other.events == events
    assert isinstance(events[0], Started)
    assert isinstance(events[-1], Finished)
    assert observer.closed == other.closed == 1


def test_it_is_closed_once_where_the_training_is_closed(tiny, tokens):
    observer = Everything(interval=1)
    with closing(train(tiny(), tokens, observers=[observer])) as events:
        next(events)
    assert observer.closed == 1


def test_what_an_observer_answers_follows_the_event_and_is_shown_to_the_others():
    class Answering(Observer):
        def on_event(self, event):
            if isinstance(event, Step):
                yield Notice(level="info", text=f"step {event.step}")

    listener = Everything(interval=0)
    given: list[Event] = [started(), stepped(1), stepped(2)]
    seen = list(observed(given, [Answering(), listener]))
    assert [getattr(event, "text", type(event).__name__) for event in seen] == [
        *("Started", "Step", "step 1", "Step", "step 2"),
    ]
    assert listener.events == seen
