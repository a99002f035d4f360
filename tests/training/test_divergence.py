"""When a loss counts as having run away."""

import pytest

from nanogpt.training.divergence import DivergenceDetector


def runs_away(losses, vocab_size=50):
    divergence = DivergenceDetector(vocab_size)  # ln 50 = 3.9
    return next((number for number, loss in enumerate(losses, start=1) if divergence.add(loss)), None)


@pytest.mark.parametrize(
    ("losses", "at"),
    [
        ([4.0] * 10 + [2.0] * 100 + [9.0] * 100, 10 + 100 + DivergenceDetector.WINDOW),
        ([4.0] + [60.0] * 100, 1 + DivergenceDetector.WINDOW),
        ([4.0] * 10 + [2.0] * 100 + [9.0] * 49 + [2.0] * 100, None),  # it came back
        ([4.0] * 10 + [2.0] * 100 + [3.5] * 300, None),  # worse, but better than guessing
        ([30.0] * 300, None),  # bad from the start, as with foreign weights: it is not worse than it was
        ([4.0, 4.2] * 300, None),
    ],
)
def test_a_loss_has_run_away_when_it_is_worse_than_guessing_for_long_and_was_better(losses, at):
    assert runs_away(losses) == at
