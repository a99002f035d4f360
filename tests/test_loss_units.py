"""The units of a loss."""

import math

import pytest

from nanogpt.loss_units import TextSize, better_loss, convert

TEXT = TextSize(tokens=100, characters=400, bytes=500)


def test_a_uniform_guess_among_256_is_8_bits_a_token_shared_by_its_characters_and_bytes():
    loss = math.log(256)  # 8 bits a token; 4 characters and 5 bytes a token
    assert convert(loss, "perplexity", TEXT) == pytest.approx(256)
    assert convert(loss, "bits per character", TEXT) == pytest.approx(8 / 4)
    assert convert(loss, "bits per byte", TEXT) == pytest.approx(8 / 5)
    assert convert(loss, "loss", TEXT) == loss


@pytest.mark.parametrize(
    ("raw", "averaged", "better"),
    [(2.0, None, 2.0), (2.0, 1.5, 1.5), (1.5, 2.0, 1.5), (2.0, math.nan, 2.0), (math.inf, 2.0, 2.0)],
)
def test_the_loss_that_counts_is_the_lower_one_of_those_that_are_finite(raw, averaged, better):
    assert better_loss(raw, averaged) == better


def test_what_is_not_known_stays_unknown_and_nothing_overflows():
    assert convert(None, "bits per byte", TEXT) is None
    assert convert(1.0, "bits per byte", None) is None
    assert convert(1.0, "perplexity", None) == pytest.approx(math.e)
    assert convert(1e6, "perplexity", None) == math.inf
