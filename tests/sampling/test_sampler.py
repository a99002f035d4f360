"""From logits to the next token."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nanogpt.config import SamplingConfig
from nanogpt.errors import UserError
from nanogpt.sampling.sampler import (
    distribution,
    draw_tokens,
    mask_below_min_p,
    mask_below_top_p,
    penalize_repetition,
    sample_tokens,
    top_k_indices,
)


def log(*probabilities):
    return np.log(np.array([probabilities], np.float32))


def kept(scores):
    """The ids whose scores, of one row, are not -inf."""
    return np.isfinite(scores[0]).nonzero()[0].tolist()


def drawn(shares, **knobs):
    """The ids that any draw can come to."""
    uniforms = np.linspace(0, 1, 1000, endpoint=False, dtype=np.float32)[:, None]
    return sorted(set(chosen(log(*shares).repeat(1000, 0), uniforms=uniforms, **knobs).ids.tolist()))


def chosen(logits, seen=None, uniforms=None, alternatives=3, **knobs):
    seen = np.zeros_like(logits, np.bool_) if seen is None else seen
    uniforms = halves(len(logits)) if uniforms is None else uniforms
    return sample_tokens(
        logits, SamplingConfig(**{"top_k": 0, "temperature": 1.0} | knobs), seen, uniforms, alternatives
    )


def halves(rows):
    return np.full((rows, 1), 0.5, np.float32)


def test_draws_come_as_often_as_the_probabilities_say():
    """Evenly spaced uniforms hit each token in proportion to its share, to within one draw."""
    uniforms = ((np.arange(1000) + 0.5) / 1000).astype(np.float32)[:, None]
    ids = draw_tokens(log(0.1, 0.2, 0.3, 0.4).repeat(1000, 0), uniforms)
    assert np.bincount(ids, minlength=4).tolist() == pytest.approx([100, 200, 300, 400], abs=1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.sampled_from([0.0, 0.5, 1 - 2**-24]), st.integers(1, 5000))
def test_a_token_without_a_share_is_never_drawn(seed, uniform, size):
    random = np.random.default_rng(seed)
    scores = random.standard_normal((4, size), np.float32) * 5
    scores[random.random((4, size)) < 0.7] = -math.inf
    scores[:, seed % size] = 0
    ids = draw_tokens(scores, np.full((4, 1), uniform, np.float32))
    assert np.isfinite(scores[range(4), ids]).all()


def test_temperature_zero_takes_the_likeliest():
    assert chosen(log(0.2, 0.5, 0.3), temperature=0.0, uniforms=halves(1) * 1.98).ids == [1]


@pytest.mark.parametrize("temperature", [1e-300, 1e-40, 1e-7, 1e-5])
def test_a_temperature_near_zero_is_greedy_and_overflows_nowhere(temperature):
    for uniform in (0.0, 0.999):
        uniforms = np.array([[uniform]], np.float32)
        assert chosen(log(0.2, 0.5, 0.3), temperature=temperature, uniforms=uniforms).ids == [1]


def test_temperature_divides_the_logits():
    """Squares, for a temperature of a half: shares of 0.04, 0.25 and 0.09 of 0.38."""
    uniforms = ((np.arange(380, dtype=np.float32) + 0.5) / 380)[:, None]
    ids = chosen(log(0.2, 0.5, 0.3).repeat(380, 0), uniforms=uniforms, temperature=0.5).ids
    assert np.bincount(ids).tolist() == pytest.approx([40, 250, 90], abs=1)


def test_top_k_keeps_exactly_k_even_of_equals():
    assert len(drawn([1 / 9] * 9, top_k=4)) == 4
    assert drawn([0.1, 0.4, 0.2, 0.3], top_k=2) == [1, 3]


@pytest.mark.parametrize("top_k", [0, 4, 5, 10**12])
def test_top_k_of_zero_or_more_than_there_are_keeps_all(top_k):
    assert drawn([0.1, 0.4, 0.2, 0.3], top_k=top_k) == [0, 1, 2, 3]


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 20_000), st.integers(1, 300), st.booleans())
def test_the_likeliest_of_many_are_the_first_of_all_sorted(seed, size, k, ties):
    random = np.random.default_rng(seed)
    values = random.standard_normal((2, size), np.float32) * 3
    if ties:
        values = values.round()
    found = top_k_indices(values, k)
    assert all(len(set(places)) == min(k, size) for places in found.tolist())
    np.testing.assert_array_equal(np.sort(np.take_along_axis(values, found, 1)), np.sort(values)[:, -k:])


def test_many_that_are_all_alike_or_impossible_are_still_counted_out():
    for value in (0.0, -math.inf):
        assert len(set(top_k_indices(np.full((1, 9999), value, np.float32), 7)[0].tolist())) == 7


@pytest.mark.parametrize(
    ("top_p", "ids"),
    [(1e-9, [1]), (0.39, [1]), (0.41, [1, 3]), (0.69, [1, 3]), (0.71, [1, 2, 3]), (0.95, [0, 1, 2, 3])],
)
def test_top_p_keeps_the_fewest_that_reach_it(top_p, ids):
    assert kept(mask_below_top_p(log(0.1, 0.4, 0.2, 0.3), top_p)) == ids


def test_top_p_counts_within_what_top_k_left():
    """Of 0.4 and 0.3 the first has 4/7 = 0.571."""
    assert drawn([0.1, 0.4, 0.2, 0.3], top_k=2, top_p=0.57) == [1]
    assert drawn([0.1, 0.4, 0.2, 0.3], top_k=2, top_p=0.58) == [1, 3]


def test_min_p_drops_what_is_less_likely_than_that_share_of_the_best():
    assert kept(mask_below_min_p(log(0.1, 0.4, 0.19, 0.31), 0.5)) == [1, 3]
    assert kept(mask_below_min_p(log(0.1, 0.4, 0.2, 0.3), 1.0)) == [1]
    assert kept(mask_below_min_p(log(0.1, 0.4, 0.2, 0.3), 0.0)) == [0, 1, 2, 3]


def test_a_repetition_penalty_lowers_seen_tokens_on_either_side_of_zero():
    logits, seen = np.array([[2.0, -2.0, 2.0, -2.0]], np.float32), np.array([[True, True, False, False]])
    assert penalize_repetition(logits, seen, 2.0).tolist() == [[1.0, -4.0, 2.0, -2.0]]
    logits, seen = np.array([[2.0, 1.5]], np.float32), np.array([[True, False]])
    assert chosen(logits, seen, temperature=0.0).ids == [0]
    assert chosen(logits, seen, temperature=0.0, repetition_penalty=1.5).ids == [1]


@pytest.mark.parametrize(
    "knobs",
    [
        {},
        {"temperature": 0.0},
        {"temperature": 1.7},
        {"top_k": 3},
        {"top_p": 0.8},
        {"min_p": 0.3},
        {"temperature": 0.6, "top_k": 4, "top_p": 0.9, "min_p": 0.1, "repetition_penalty": 1.5},
    ],
)
def test_the_distribution_is_what_evenly_spaced_draws_come_to(knobs):
    """To within one draw of 1,000, as each token owns an interval of the uniforms."""
    logits = np.array([[2.0, 1.5, 1.0, 0.5, -0.5, -1.0]], np.float32)
    seen = np.array([[True, False, False, True, False, True]])
    uniforms = ((np.arange(1000) + 0.5) / 1000).astype(np.float32)[:, None]
    ids = chosen(logits.repeat(1000, 0), seen.repeat(1000, 0), uniforms, **knobs).ids
    shares = distribution(logits, SamplingConfig(**{"top_k": 0, "temperature": 1.0} | knobs), seen)
    assert np.bincount(ids, minlength=6).tolist() == pytest.approx((1000 * shares[0]).tolist(), abs=1.001)


def test_each_row_is_chosen_as_if_it_were_alone():
    random = np.random.default_rng(4)
    logits, uniforms = random.standard_normal((6, 50), np.float32) * 3, random.random((6, 1), np.float32)
    seen = random.random((6, 50)) < 0.3
    knobs = {"top_k": 20, "top_p": 0.9, "min_p": 0.01, "repetition_penalty": 1.3, "temperature": 0.9}
    together = chosen(logits, seen, uniforms, **knobs)
    for row in range(6):
        alone = chosen(logits[[row]], seen[[row]], uniforms[[row]], **knobs)
        assert alone.ids == together.ids[row]
        assert alone.probabilities == pytest.approx([together.probabilities[row]])


def test_probabilities_are_the_models_own_whatever_the_knobs():
    choice = chosen(
        log(0.1, 0.4, 0.2, 0.3),
        np.ones((1, 4), np.bool_),
        temperature=3.0,
        top_k=1,
        repetition_penalty=5.0,
        alternatives=3,
    )
    ids, shares = choice.alternatives[0]
    assert ids == [1, 3, 2]
    assert shares == pytest.approx([0.4, 0.3, 0.2])
    assert choice.probabilities == pytest.approx([(0.1, 0.4, 0.2, 0.3)[choice.ids[0]]])


@pytest.mark.parametrize("wanted", [0, 1, 4, 100])
def test_there_are_as_many_alternatives_as_wanted_and_possible(wanted):
    ids, shares = chosen(log(0.1, 0.4, 0.2, 0.3), alternatives=wanted).alternatives[0]
    assert len(ids) == len(shares) == min(wanted, 4)


@pytest.mark.parametrize("knobs", [{}, {"top_k": 9}, {"top_k": 2}, {"top_k": 300, "repetition_penalty": 5.0}])
def test_alternatives_are_the_models_best_of_a_large_vocabulary_too(knobs):
    logits = np.random.default_rng(2).standard_normal((3, 30_000), np.float32) * 4
    choice = chosen(logits, seen=logits > 9, alternatives=5, **knobs)
    shares = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    for row, (ids, found) in enumerate(choice.alternatives):
        assert ids == (-logits[row]).argsort()[:5].tolist()
        assert found == pytest.approx(shares[row, ids].tolist(), rel=1e-4)
        assert choice.probabilities[row] == pytest.approx(shares[row, choice.ids[row]], rel=1e-4)


@pytest.mark.parametrize("value", [math.nan, math.inf])
@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_logits_that_are_no_numbers_are_refused_in_one_line(value, temperature):
    logits = np.zeros((2, 5), np.float32)
    logits[1, 3] = value
    with pytest.raises(UserError, match="not finite") as caught:
        chosen(logits, temperature=temperature)
    assert "\n" not in str(caught.value)
