"""Label smoothing raises the training loss, and evaluations stay those of the plain loss."""

import math

import pytest

from nanogpt.config import resolve
from nanogpt.errors import SettingError
from nanogpt.events import Evaluated, Step
from nanogpt.training import train


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])  # the second with a fused backend
def test_the_training_loss_is_smoothed_and_no_loss_of_an_evaluation_is(tiny, tokens, dtype):
    """With a rate of almost 0 the weights stay those of the start, whose evaluation is the same."""
    still = {"learning_rate": 1e-12, "min_lr": 0, "max_iters": 1, "eval_interval": 1, "dtype": dtype}
    plain, smoothed = (list(train(tiny(label_smoothing=share, **still), tokens)) for share in (0.0, 1.0))
    evaluated = [
        [(e.train_loss, e.val_loss) for e in events if isinstance(e, Evaluated)] for events in (plain, smoothed)
    ]
    assert evaluated[0] == evaluated[1]
    steps = [next(e.loss for e in events if isinstance(e, Step)) for events in (plain, smoothed)]
    assert steps[0] != steps[1]
    # All of the target is spread: the mean of -ln p over the vocabulary is at least that of a uniform p.
    assert math.log(11) <= steps[1] < math.log(11) + 0.1


def test_an_architecture_without_it_says_so(monkeypatch):
    from nanogpt.config import ARCHITECTURE, Capabilities, component

    monkeypatch.setattr(component(ARCHITECTURE, "gpt2"), "capabilities", Capabilities())
    with pytest.raises(SettingError, match=r"label_smoothing=0.1: the architecture gpt2 has no label smoothing; use 0"):
        resolve(flags={"label_smoothing": 0.1})
