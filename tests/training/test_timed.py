"""Training for a fixed time: it ends with the first step after it, and the schedule follows the clock."""

from itertools import pairwise

import pytest

from nanogpt.config import resolve
from nanogpt.errors import UserError
from nanogpt.events import Acknowledged, Evaluated, Finished, Saved, Step
from nanogpt.training.timed import train_for


def trained(config, tokens, seconds):
    events, training = [], train_for(config, tokens, seconds)
    while True:
        try:
            events.append(next(training))
        except StopIteration as end:
            return events, end.value


def test_it_ends_with_the_first_step_after_the_time_and_returns_its_weights(tiny, tokens):
    events, snapshot = trained(tiny(), tokens, 0.2)
    steps = [event for event in events if isinstance(event, Step)]
    assert steps[-1].elapsed_s >= 0.2
    assert all(step.elapsed_s < 0.2 for step in steps[:-1])
    assert snapshot.progress.step == steps[-1].step == len(steps)
    assert not [event for event in events if isinstance(event, Evaluated | Acknowledged)], "time is for steps alone"
    assert [type(event) for event in events[-2:]] == [Saved, Finished]


def test_the_learning_rate_follows_the_share_of_the_time(tiny, tokens):
    config, seconds = tiny(schedule="linear", warmup_iters=0), 0.2
    steps = [event for event in trained(config, tokens, seconds)[0] if isinstance(event, Step)]
    highest = config.optimizer.learning_rate
    for before, after in pairwise(steps):
        last = max(before.step + 2, round(before.step * seconds / before.elapsed_s))
        assert after.learning_rate == pytest.approx(config.schedule.learning_rate(before.step, highest, last))


def test_one_step_is_done_however_short_the_time(tiny, tokens):
    events, snapshot = trained(tiny(), tokens, 1e-9)
    assert snapshot.progress.step == len([event for event in events if isinstance(event, Step)]) == 1


def test_a_counted_model_takes_what_counting_takes(tokens):
    flags = {"architecture": "ngram", "vocab_size": 11, "block_size": 8, "batch_size": 4, "device": "cpu"}
    events, snapshot = trained(resolve(flags=flags).config, tokens, 1e-9)
    last = [event for event in events if isinstance(event, Step)][-1]
    assert last.tokens == snapshot.progress.tokens == len(tokens["train"])


def test_a_loss_that_diverges_is_one_line(tiny, tokens):
    with pytest.raises(UserError, match=r"the (loss|gradient) (became|diverged)") as caught:
        trained(tiny(optimizer="sgd", learning_rate=1000, grad_clip=0, warmup_iters=0), tokens, 60)
    assert "\n" not in str(caught.value)
