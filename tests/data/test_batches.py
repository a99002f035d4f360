"""The order of training windows, and the windows of an evaluation."""

import tempfile
import tracemalloc
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nanogpt.data.batches import (
    Batches,
    check_length,
    count_windows,
    evaluation_batches,
    last_position_batches,
    sliding_batches,
)
from nanogpt.data.token_files import TokenFiles, Tokens, TokenWriter
from nanogpt.errors import UserError
from nanogpt.training.distributed import World


def counting(n: int) -> np.ndarray:
    """Tokens that say where they are, so that a window tells its place."""
    return np.arange(n, dtype=np.uint16)


def windows(batches: Batches, n_batches: int) -> np.ndarray:
    return np.concatenate([batches.next() for _ in range(n_batches)])


@pytest.mark.parametrize(
    ("n_tokens", "said"),
    [
        (0, "has 0 tokens, too few for block_size=8, which needs 9: prepare more text"),
        (1, "has 1 token, too few for block_size=8, which needs 9: prepare more text"),
        (
            2,
            "which needs 9: lower block_size to at most 1, or prepare more text",
        ),
    ],
)
def test_a_split_that_is_too_short_is_refused_with_advice_that_can_be_followed(n_tokens, said):
    with pytest.raises(UserError) as caught:
        check_length(n_tokens, 8, "val")
    assert str(caught.value).endswith(said)


def test_a_window_is_consecutive_tokens_and_one_more_for_the_last_target():
    first = Batches(counting(1000), block_size=8, batch_size=4, seed=1).next()
    assert first.shape == (4, 9)
    assert (np.diff(first, axis=1) == 1).all()


def test_an_epoch_shows_every_window_once_and_none_overlaps_another():
    batches = Batches(counting(1001), block_size=10, batch_size=1, seed=1)
    inputs = windows(batches, batches.windows_per_epoch)[:, :-1]
    assert len(np.unique(inputs)) == inputs.size == 10 * 99


def test_another_epoch_has_another_order_and_cuts_the_text_elsewhere():
    batches = Batches(counting(1001), block_size=10, batch_size=1, seed=1)
    epochs = [windows(batches, batches.windows_per_epoch)[:, 0] for _ in range(4)]
    assert len({int(starts.min()) % 10 for starts in epochs}) > 1
    assert len({tuple(starts) for starts in epochs}) == 4


def test_the_position_alone_resumes_the_order_in_the_middle_of_an_epoch():
    whole = windows(Batches(counting(500), block_size=7, batch_size=3, seed=5), 60)
    resumed = Batches(counting(500), block_size=7, batch_size=3, seed=5)
    resumed.position = 31 * 3
    assert (windows(resumed, 29) == whole[31 * 3 :]).all()


@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_the_processes_of_a_training_take_each_window_of_a_step_once(size):
    alone, shared = (Batches(counting(500), block_size=7, batch_size=6, seed=5) for _ in range(2))
    for _ in range(20):  # steps, of 6 windows in micro-batches of at most 2
        ranks = [World(rank, size).micro_batches(6, 2) for rank in range(size)]
        taken = np.concatenate([shared.windows(rows) for micro_batches in ranks for rows in micro_batches])
        shared.position += 6
        assert (taken == alone.next()).all()


def test_a_split_of_just_one_window_is_enough():
    batches = Batches(counting(9), block_size=8, batch_size=2, seed=1)
    assert batches.next().tolist() == [list(range(9))] * 2


def test_a_split_without_a_single_window_is_an_error_that_names_the_highest_block_size():
    with pytest.raises(UserError, match=r"8 tokens.*block_size=8.*at most 7"):
        Batches(counting(8), block_size=8, batch_size=1, seed=1)


@given(n=st.integers(10, 400), block_size=st.integers(1, 9), batch_size=st.integers(1, 5))
def test_a_whole_evaluation_has_every_token_but_the_first_as_a_target_once(n, block_size, batch_size):
    seen = []
    for inputs, targets in evaluation_batches(counting(n), block_size, batch_size, n_batches=0, seed=1):
        assert inputs.shape == targets.shape == (batch_size, block_size)
        there = targets >= 0
        assert (targets[there] == inputs[there] + 1).all()
        seen += targets[there].tolist()
    assert sorted(seen) == list(range(1, n))


def contexts(batches):
    """The first and the last token that each target is predicted from, by target."""
    found = {}
    for inputs, targets in batches:
        for row, column in np.argwhere(targets >= 0).tolist():
            assert targets[row, column] not in found, "it counts twice"
            found[int(targets[row, column])] = int(inputs[row, 0]), int(inputs[row, column])
    return found


@given(n=st.integers(2, 200), block_size=st.integers(1, 9), data=st.data(), batch_size=st.integers(1, 5))
def test_a_sliding_window_predicts_each_token_once_from_as_many_as_the_stride_leaves(n, block_size, data, batch_size):
    stride = data.draw(st.integers(1, block_size))
    batches = list(sliding_batches(counting(n), block_size, batch_size, stride))
    assert len(batches) == -(-count_windows(n, block_size, stride) // batch_size)
    found = contexts(batches)
    assert sorted(found) == list(range(1, n))
    for target, (first, last) in found.items():
        assert last == target - 1
        assert first == 0 or block_size - stride + 1 <= target - first <= block_size


@given(n=st.integers(2, 60), block_size=st.integers(1, 9), batch_size=st.integers(1, 5))
def test_windows_for_the_last_position_alone_give_each_token_the_same_context_as_a_stride_of_1(
    n, block_size, batch_size
):
    alone = list(last_position_batches(counting(n), block_size, batch_size))
    assert all((targets[:, :-1] == -1).all() for _, targets in alone)
    assert contexts(alone) == contexts(sliding_batches(counting(n), block_size, batch_size, stride=1))


def test_a_partial_evaluation_is_the_same_each_time_and_spread_over_the_split():
    batches = [list(evaluation_batches(counting(10_000), 10, 4, n_batches=20, seed=1)) for _ in range(2)]
    first, second = (np.concatenate([targets for _, targets in one]) for one in batches)
    assert (first == second).all()
    assert first.shape == (80, 10)
    assert len(np.unique(first)) == 800
    assert first.min() < 1000
    assert first.max() > 9000


def test_a_partial_evaluation_of_very_many_windows_has_each_of_them_once(monkeypatch: pytest.MonkeyPatch) -> None:
    tokens = counting(1009)  # 100 windows and 8 targets more
    of_permutation = [inputs.tolist() for inputs, _ in evaluation_batches(tokens, 10, 4, n_batches=25, seed=1)]
    monkeypatch.setattr("nanogpt.data.batches.MOST_SHUFFLED", 10)
    for n_batches in (5, 25):
        batches = [list(evaluation_batches(tokens, 10, 4, n_batches, seed=1)) for _ in range(2)]
        first, second = (np.concatenate([inputs for inputs, _ in one])[:, 0].tolist() for one in batches)
        assert first == second == sorted(set(first))
        assert len(first) == 4 * n_batches
        assert first[-1] <= 990
    assert [inputs.tolist() for inputs, _ in batches[0]] == of_permutation  # all of the windows


def test_the_order_of_an_epoch_is_that_of_earlier_versions() -> None:
    """So that a run of an earlier version resumes exactly: a permutation of the windows, and one offset."""
    tokens, block_size = counting(1001), 10
    batches = Batches(tokens, block_size, batch_size=1, seed=5)
    for epoch in range(3):
        random = np.random.default_rng([5, epoch])
        offset = random.integers(batches.room + 1)
        expected = random.permutation(99) * block_size + offset
        assert windows(batches, 99)[:, 0].tolist() == expected.tolist()


def test_an_epoch_of_very_many_windows_takes_no_memory_and_is_the_same_from_any_position(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("nanogpt.data.batches.MOST_SHUFFLED", 50)
    batches = Batches(counting(1001), block_size=10, batch_size=1, seed=1)
    epochs = [windows(batches, batches.windows_per_epoch)[:, 0] for _ in range(3)]
    for starts in epochs:
        assert len(np.unique(starts)) == 99
        assert len({int(start) % 10 for start in starts}) == 1
    assert epochs[0].tolist() != epochs[1].tolist()
    resumed = Batches(counting(1001), block_size=10, batch_size=1, seed=1)
    resumed.position = 99 + 40
    assert windows(resumed, 59)[:, 0].tolist() == epochs[1][40:].tolist()


def test_a_data_set_larger_than_any_memory_has_a_first_batch_and_an_evaluation() -> None:
    class Counting(TokenFiles):
        """A trillion tokens that say where they are."""

        def __init__(self) -> None:
            pass

        def __len__(self) -> int:
            return 10**12

        def windows(self, starts: np.ndarray, length: int) -> np.ndarray:
            return np.repeat(starts[:, None], length, axis=1)

        def _between(self, start: int, stop: int) -> np.ndarray:
            return np.arange(start, stop)

    tracemalloc.start()
    trained = Batches(Counting(), block_size=8, batch_size=64, seed=1).next()
    [(evaluated, _)] = evaluation_batches(Counting(), 8, 64, n_batches=1, seed=1)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    for starts in (trained[:, 0], evaluated[:, 0]):
        assert len(set(starts.tolist())) == 64
        assert starts.max() > 10**11  # from all over the data set
    assert peak < 10**8  # a list of all windows has 10**12 bytes; other threads of this process are counted too


def drawn(tokens: Tokens, block_size: int) -> list[np.ndarray]:
    batches = Batches(tokens, block_size, batch_size=3, seed=1)
    return [batches.next() for _ in range(2 * batches.windows_per_epoch)]


@pytest.mark.parametrize(
    "read",
    [
        drawn,
        lambda tokens, block_size: [
            each for pair in evaluation_batches(tokens, block_size, 3, n_batches=2, seed=1) for each in pair
        ],
        lambda tokens, block_size: [
            each for pair in sliding_batches(tokens, block_size, 3, stride=max(1, block_size // 3)) for each in pair
        ],
        lambda tokens, block_size: [each for pair in last_position_batches(tokens, block_size, 3) for each in pair],
    ],
    ids=["training", "evaluation", "sliding", "last position"],
)
@given(
    n_tokens=st.integers(2, 120), block_size=st.integers(1, 30), shard_tokens=st.one_of(st.just(1), st.integers(1, 60))
)
def test_windows_over_shards_are_those_of_one_array(
    read: Callable[[Tokens, int], Iterable[np.ndarray]], n_tokens: int, block_size: int, shard_tokens: int
) -> None:
    whole = np.random.default_rng(n_tokens).integers(0, 65_536, n_tokens).astype(np.uint16)
    block_size = min(block_size, n_tokens - 1)
    with tempfile.TemporaryDirectory() as name:
        writer = TokenWriter(Path(name), "train", "uint16", shard_tokens)
        writer.append(whole)
        files = writer.finish(raw=False)
        tokens = TokenFiles([Path(name, file.name) for file in files], [file.tokens for file in files], "uint16")
        for expected, found in zip(read(whole, block_size), read(tokens, block_size), strict=True):
            assert found.dtype == expected.dtype
            assert found.tolist() == expected.tolist()
