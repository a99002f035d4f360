"""The experiment with sampling: its bars are the sampler's own distribution, its draws and texts the sampler's own."""

import re
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from nanogpt.events import Token
from nanogpt.learn.figures import Bars, Figures, Table
from nanogpt.learn.labels import percent
from nanogpt.sampling import generate
from tests.lessons import one, press, sentences, started

TINY = {"n_embd": 8, "n_hidden": 32, "steps": 30, "batch_size": 8, "block_size": 4}


@pytest.fixture
def experiment() -> Any:
    return started("sampling", **TINY)[0]


def shown_bars(shown: Figures) -> list[float]:
    return [bar.value for bar in one(Bars, shown).rows]


def softmax(logits: np.ndarray) -> np.ndarray:
    shares: np.ndarray = np.exp(logits - logits.max())
    return np.asarray(shares / shares.sum())


def test_bars_are_the_probabilities_at_the_temperature(experiment: Any) -> None:
    shown = press(experiment, "hotter", "hotter")  # 1, 1.3, 1.7
    logits = experiment.logits[0].astype(float)
    best = (-logits).argsort()[:10]
    assert shown_bars(shown) == pytest.approx(softmax(logits / 1.7)[best].tolist(), rel=1e-4)


def test_before_is_what_the_bars_were(experiment: Any) -> None:
    first = press(experiment, "colder")
    second = press(experiment, "colder")
    assert [bar.before for bar in one(Bars, second).rows] == shown_bars(first)


def test_top_k_and_top_p_cut_the_bars_as_defined(experiment: Any) -> None:
    shown = press(experiment, "top_k", "top_k")  # all, 10, 3
    probabilities = softmax(experiment.logits[0].astype(float))
    best = np.sort(probabilities)[::-1]
    assert shown_bars(shown)[:3] == pytest.approx((best[:3] / best[:3].sum()).tolist(), rel=1e-4)
    assert shown_bars(shown)[3:] == [0.0] * 7
    assert f"keep 3 of {len(probabilities)} characters, which had {percent(best[:3].sum())}" in sentences(shown)

    press(experiment, "top_k", "top_k")  # 1, all
    shown = press(experiment, "top_p", "top_p", "top_p")  # 1, 0.9, 0.7, 0.5
    count = int(np.searchsorted(best.cumsum(), 0.5)) + 1  # the fewest that reach a half together
    assert f"keep {count} of {len(probabilities)} characters" in sentences(shown)


def test_temperature_0_leaves_one_bar_and_no_entropy(experiment: Any) -> None:
    shown = press(experiment, *["colder"] * 9)  # one more than there are
    assert shown_bars(shown) == [1.0] + [0.0] * 9
    assert "0.00 bits with these knobs" in sentences(shown)


def test_only_what_top_k_and_top_p_cut_off_is_said_to_be_cut_off(experiment: Any) -> None:
    shown = press(experiment, "top_k", "top_k", *["colder"] * 5)  # three of them, at temperature 0
    assert "Top-k and top-p keep" not in sentences(shown)
    assert [bar.note for bar in one(Bars, shown).rows] == ["100 %"] + ["0 %"] * 9

    experiment.logits = experiment.logits * 100  # at temperature 0.2 all but the best underflow
    notes = [bar.note for bar in one(Bars, press(experiment, "hotter")).rows]
    assert notes == ["100 %"] + ["0 %"] * 9
    experiment.logits = experiment.logits / 1000
    notes = [bar.note for bar in one(Bars, press(experiment, "hotter")).rows]
    assert notes[3:] == ["cut off"] * 7


def test_reset_brings_back_the_model_s_own_distribution(experiment: Any) -> None:
    first = press(experiment, "reset")
    press(experiment, "hotter", "top_k", "top_p")
    assert shown_bars(press(experiment, "reset")) == shown_bars(first)


def test_draws_are_as_many_as_promised_and_only_from_what_is_left(experiment: Any) -> None:
    press(experiment, "top_k", "top_k")  # three characters
    rows = one(Bars, press(experiment, "draw", "draw")).rows
    drawn = [int(found[1]) if (found := re.search(r"drawn (\d+)", bar.note)) else 0 for bar in rows]
    assert sum(drawn) == 200
    assert sum(drawn[:3]) == 200
    # Five standard deviations of a binomial.
    p = rows[0].value
    assert abs(drawn[0] - 200 * p) <= 5 * (200 * p * (1 - p)) ** 0.5 + 1
    assert not any("drawn" in bar.note for bar in one(Bars, press(experiment, "hotter")).rows)


def test_a_sample_is_what_generate_writes(experiment: Any) -> None:
    shown = press(experiment, "hotter", "write")
    knobs = replace(experiment.knobs, max_new_tokens=120, seed=experiment.settings.seed)
    events = generate(experiment.model, experiment.data.tokenizer, experiment.text, knobs, dtype="float32")
    assert experiment.samples[-1].text == "".join(event.text for event in events if isinstance(event, Token))
    assert one(Table, shown).rows[-1][0] == "T 1.3"


def test_is_done_after_two_samples_with_different_knobs(experiment: Any) -> None:
    press(experiment, "write", "write")
    assert not experiment.done
    press(experiment, "colder", "write")
    assert experiment.done
    assert "at temperature 0.8" in sentences(press(experiment, "reset"))


def test_known_words_are_those_of_the_training_text(experiment: Any) -> None:
    press(experiment, "write")
    sample = experiment.samples[-1]
    words = [word for word in re.findall(r"[a-z']+", sample.text.lower())[1:-1] if len(word) >= 3]
    known = set(re.findall(r"[a-z']+", experiment.data.training_text.lower()))
    assert (sample.words, sample.known) == (len(words), sum(word in known for word in words))


def test_another_beginning_is_from_unseen_text(experiment: Any) -> None:
    first = experiment.text
    press(experiment, "draw")
    shown = press(experiment, "beginning")
    assert experiment.text != first
    unseen = experiment.data.text[len(experiment.data.train) :]
    assert experiment.text in " ".join(unseen.split())
    assert experiment.text[-10:] in one(Bars, shown).title
    assert not experiment.drawn
