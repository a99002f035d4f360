"""The n-gram model against an independent count in dictionaries, written from the formula of Chen & Goodman (1998)."""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch

from nanogpt.errors import SettingError
from nanogpt.models.ngram.counts import Counts, add_up, count_ngrams, digits, digits_per_word
from nanogpt.models.ngram.model import FALLBACK_DISCOUNTS, discounts
from tests.architectures import build, shape
from tests.narrowing import expect

V = 11
Probability = Callable[[int, Sequence[int]], float]


def repetitive_text(length: int, seed: int = 1) -> list[int]:
    """Return tokens with n-grams of all lengths and counts: a noisy walk, of which stretches come again."""
    random = np.random.default_rng(seed)
    text = [0]
    while len(text) < length:
        if random.random() < 0.1 and len(text) > 30:
            start = random.integers(len(text) - 20)
            text += text[start : start + random.integers(3, 20)]
        else:
            text.append(int((text[-1] + random.integers(1, 5)) % (V - 1)))  # never the last token
    return text[:length]


def kneser_ney(text: Sequence[int], order: int, vocab_size: int) -> Probability:
    """Return p(token, context) from dictionaries of tuples."""
    types: dict[int, Counter[tuple[int, ...]]] = {length: Counter() for length in range(1, order + 1)}
    for end in range(order - 1, len(text)):
        types[order][tuple(text[end - order + 1 : end + 1])] += 1
    for length in range(order - 1, 0, -1):
        before = defaultdict(set)  # the tokens before each n-gram
        for longer in types[length + 1]:
            before[longer[1:]].add(longer[0])
        types[length] = Counter({gram: len(tokens) for gram, tokens in before.items()})

    def discount(length: int, count: int) -> float:
        if count == 0:
            return 0.0
        n = Counter(types[length].values())
        if n[1] and n[2] and n[3]:
            y = n[1] / (n[1] + 2 * n[2])
            all_of_them = [i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3)]
            if min(all_of_them) > 0:
                return all_of_them[min(count, 3) - 1]
        return 0.5 * min(count, 3)

    def probability(token: int, context: Sequence[int]) -> float:
        context = tuple(context[max(0, len(context) - order + 1) :])
        shorter = 1 / vocab_size if not context else None
        following = [count for gram, count in types[len(context) + 1].items() if gram[:-1] == context]
        lower = probability(token, context[1:]) if shorter is None else shorter
        if not following:
            return lower
        length = len(context) + 1
        count = types[length][*context, token]
        gamma = sum(discount(length, each) for each in following)
        return (max(count - discount(length, count), 0) + gamma * lower) / sum(following)

    return probability


@pytest.mark.parametrize("order", [1, 2, 3, 5])
@torch.inference_mode()
def test_probabilities_are_those_of_an_independent_count(order: int) -> None:
    text, test = repetitive_text(600), [*repetitive_text(40, seed=2), V - 1, 3, 4]
    model = build(architecture="ngram", order=order, block_size=64, vocab_size=V)
    model.count(np.array(text, np.uint16), 0, len(text))
    expected = kneser_ney(text, order, V)
    nats = [-math.log(expected(test[t], test[:t])) for t in range(1, len(test))]
    ids = torch.tensor([test])
    _, loss = model(ids[:, :-1], ids[:, 1:])
    assert expect(torch.Tensor, loss).item() == pytest.approx(sum(nats) / len(nats), rel=1e-12)
    p = model.logits(ids)[0].double().exp()  # (T, V), rounded to float32
    for t in (0, 1, 7, len(test) - 1):
        assert p[t].tolist() == pytest.approx([expected(token, test[: t + 1]) for token in range(V)], rel=1e-5)


@pytest.mark.parametrize("vocab_size", [V, 60_000])  # of the second, an n-gram takes two words
@torch.inference_mode()
def test_probabilities_sum_to_one(vocab_size: int) -> None:
    text = np.array(repetitive_text(600)) * (vocab_size // V)
    model = build(architecture="ngram", order=5, block_size=32, vocab_size=vocab_size)
    model.count(text, 0, len(text))
    assert model.state_dict()["keys"].shape == (1 if vocab_size == V else 2, model.n_parameters())
    p = model.logits(torch.from_numpy(text[None, :20])).double().exp()
    torch.testing.assert_close(p.sum(-1), torch.ones_like(p[..., 0]), atol=1e-6, rtol=0)


@torch.inference_mode()
def test_a_large_vocabulary_changes_only_the_uniform_distribution() -> None:
    """The same text with ids 5,000 times as large: p(w) is of 1 / 60,000 and 1 / 12, the rest stays."""
    text, ids = np.array(repetitive_text(600)), repetitive_text(30, seed=3)
    small, large = (build(architecture="ngram", order=5, block_size=32, vocab_size=v) for v in (12, 60_000))
    small.count(text, 0, len(text))
    large.count(text * 5000, 0, len(text))
    for model, tokens, v in ((small, ids, 12), (large, [5000 * token for token in ids], 60_000)):
        reference = kneser_ney([token * v // 12 for token in text.tolist()], 5, v)
        window = torch.tensor([tokens])
        _, loss = model(window[:, :-1], window[:, 1:])
        nats = [-math.log(reference(tokens[t], tokens[:t])) for t in range(1, len(tokens))]
        assert expect(torch.Tensor, loss).item() == pytest.approx(sum(nats) / len(nats), rel=1e-12)


def test_the_number_of_parameters_is_that_of_the_distinct_longest_ngrams() -> None:
    text = np.array([1, 2, 3, 1, 2, 3, 1, 2, 4])  # 123 231 312 123 231 312 124
    model = build(architecture="ngram", order=3, block_size=8, vocab_size=5)
    model.count(text, 0, len(text))
    assert model.n_parameters() == 4 <= min(5**3, len(text))


def test_discounts_are_those_of_the_paper_or_the_fallback() -> None:
    """With n_1 … n_4 = 8, 4, 2, 1, Y = 8 / 16: D_1 = 1 - 4 / 8, D_2 = 2 - 3 / 2 · 2 / 4, D_3 = 3 - 4 / 2 · 1 / 2."""
    assert discounts(np.repeat([1, 2, 3, 4, 9], [8, 4, 2, 1, 3])) == pytest.approx((0.5, 1.25, 2.0))
    assert discounts(np.repeat([1, 2, 4], [8, 4, 1])) == FALLBACK_DISCOUNTS  # n_3 = 0
    assert discounts(np.repeat([1, 2, 3, 4], [8, 4, 2, 9])) == FALLBACK_DISCOUNTS  # D_3 = 3 - 2 · 9 / 2


@pytest.mark.parametrize("vocab_size", [2, 65, 256, 50_257, 100_277, 2**40])
def test_keys_hold_the_ids_of_any_vocabulary(vocab_size: int) -> None:
    tokens = np.array([0, vocab_size - 1, 1, vocab_size - 2, vocab_size - 1, 0, 1], np.int64)
    counts = count_ngrams(tokens, 5, vocab_size)
    assert len(counts.keys) == math.ceil(5 / digits_per_word(vocab_size))
    rows = {tuple(int(digit) for digit in row) for row in zip(*digits(counts.keys, 5, vocab_size), strict=True)}
    assert rows == {(*tokens[end - 4 : end][::-1].tolist(), int(tokens[end])) for end in (4, 5, 6)}
    assert counts.counts.tolist() == [1] * len(rows)


def test_equal_keys_are_added_up() -> None:
    keys = np.array([[2, 1, 2, 1], [0, 5, 0, 4]])
    summed = add_up(Counts(keys, np.array([1, 2, 3, 4])))
    assert summed.keys.tolist() == [[1, 1, 2], [4, 5, 0]]
    assert summed.counts.tolist() == [4, 2, 4]


def test_a_window_shorter_than_the_context_is_refused() -> None:
    with pytest.raises(SettingError, match=r"order=5: block_size=3 has to be at least 4"):
        shape(architecture="ngram", order=5, block_size=3, vocab_size=V)
