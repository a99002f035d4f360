"""Batches of token windows: for training in a resumable random order, for evaluation in a fixed one.

A window is block_size + 1 consecutive tokens: block_size inputs, and the same tokens shifted by one as targets.
"""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nanogpt.data.shuffle import RandomOrder
from nanogpt.data.token_files import TokenFiles, Tokens
from nanogpt.errors import UserError
from nanogpt.formatting import counted

Ids = NDArray[np.int64]
TRAIN_BATCHES = 20  # of the training split in an evaluation, if eval_iters=0 asks for the whole validation split
MOST_SHUFFLED = 1 << 25  # windows whose order is kept in memory: 128 MB for an epoch, 256 MB for an evaluation


def check_length(n_tokens: int, block_size: int, split: str) -> None:
    """Raise `UserError` if a split is too short for one window of `block_size` inputs and their targets."""
    if n_tokens < block_size + 1:
        advice = f"lower block_size to at most {n_tokens - 1:,}, or prepare more text"
        raise UserError(
            f"the {split} split has {counted(n_tokens, 'token')}, too few for block_size={block_size}, which needs "
            f"{block_size + 1:,}: {advice if n_tokens > 1 else 'prepare more text'}"
        )


def check_ids(ids: Ids, vocab_size: int) -> Ids:
    """Return the ids. Raise `UserError` if one is outside the model's vocabulary."""
    if (highest := int(ids.max())) >= vocab_size:
        raise UserError(
            f"the data set has the token id {highest:,}, but the model's last id is {vocab_size - 1:,}: its files are "
            "damaged; prepare it again with --force"
        )
    return ids


class Batches:
    """An endless stream of training windows; each epoch is a new permutation of windows that do not overlap.

    Drawing without replacement shows every token once an epoch; a new random offset each epoch cuts the text at other
    places. The order depends only on the seed and the window's number, so `position` (windows drawn so far, by all
    processes of the training) is all that a resume needs, with any number of processes.
    """

    def __init__(
        self,
        tokens: Tokens,
        block_size: int,
        batch_size: int,
        seed: int,
    ) -> None:
        check_length(len(tokens), block_size, "train")
        self.tokens = _plain(tokens)
        self.batch_size, self.seed = batch_size, seed
        self.within = np.arange(block_size + 1)
        # One window fewer than would fit leaves room for the offset.
        self.windows_per_epoch = max(1, (len(tokens) - 1) // block_size - 1)
        self.room = len(tokens) - 1 - self.windows_per_epoch * block_size
        self.block_size = block_size
        self.position = 0
        self._epoch = -1
        self._offset = 0
        self._order: RandomOrder | NDArray[np.int32] = np.empty(0, np.int32)  # of the windows of this epoch

    def next(self) -> Ids:
        """Return the next token ids, (batch_size, block_size + 1), and advance the position."""
        windows = self.windows(range(self.batch_size))
        self.position += self.batch_size
        return windows

    def windows(self, rows: range) -> Ids:
        """Return the token ids (rows, block_size + 1) of the windows `rows`, counted from the position."""
        starts = np.array([self._start(self.position + row) for row in rows])  # (B)
        if isinstance(self.tokens, TokenFiles):
            return self.tokens.windows(starts, self.block_size + 1)
        return self.tokens[starts[:, None] + self.within].astype(np.int64)

    def _start(self, number: int) -> int:
        epoch, place = divmod(number, self.windows_per_epoch)
        if epoch != self._epoch:
            random = np.random.default_rng([self.seed, epoch])
            self._offset = int(random.integers(self.room + 1))
            if self.windows_per_epoch <= MOST_SHUFFLED:
                self._order = random.permutation(np.arange(self.windows_per_epoch, dtype=np.int32))
            else:
                self._order = RandomOrder(self.windows_per_epoch, random)
            self._epoch = epoch
        return int(self._order[place]) * self.block_size + self._offset


def count_evaluation_batches(n_tokens: int, block_size: int, batch_size: int, n_batches: int) -> int:
    """Return the number of batches that `evaluation_batches` yields for a split of `n_tokens` tokens."""
    all_of_it = math.ceil(math.ceil((n_tokens - 1) / block_size) / batch_size)
    return min(n_batches or all_of_it, all_of_it)


def evaluation_batches(
    tokens: Tokens, block_size: int, batch_size: int, n_batches: int, seed: int
) -> Iterator[tuple[Ids, Ids]]:
    """Yield (inputs, targets), each (batch_size, block_size), the same at every call; padding targets are -1.

    If `n_batches` is 0 or larger than the split allows, the whole split is covered: each token except the first is a
    target once.
    """
    n_targets = len(tokens) - 1
    if not 0 < n_batches * batch_size < math.ceil(n_targets / block_size):
        yield from sliding_batches(tokens, block_size, batch_size, stride=block_size)
        return
    random = np.random.default_rng([seed, len(tokens)])
    windows = n_targets // block_size  # at least as many as are drawn, by the condition above
    order: RandomOrder | NDArray[np.int64]
    order = RandomOrder(windows, random) if windows > MOST_SHUFFLED else random.permutation(windows)
    starts = np.sort([int(order[place]) for place in range(n_batches * batch_size)]) * block_size
    yield from _batches_at(tokens, starts, block_size, batch_size)


def count_windows(n_tokens: int, block_size: int, stride: int) -> int:
    """Return the number of windows of `sliding_batches` for a split of `n_tokens` tokens."""
    return 1 + math.ceil(max(0, n_tokens - 1 - block_size) / stride)


def sliding_batches(tokens: Tokens, block_size: int, batch_size: int, stride: int) -> Iterator[tuple[Ids, Ids]]:
    """Yield (inputs, targets), each (batch_size, block_size), over the whole split; targets that do not count are -1.

    A window begins every `stride` tokens, 1 <= stride <= block_size. Each token except the first is a target once: the
    first window has all its targets, each later one only its last `stride`, which are new. So a target is predicted
    from at least block_size - stride + 1 tokens, except in the first window. With stride = block_size, windows do not
    overlap.
    """
    starts = range(0, count_windows(len(tokens), block_size, stride) * stride, stride)
    yield from _batches_at(tokens, starts, block_size, batch_size, known=block_size - stride)


def last_position_batches(tokens: Tokens, block_size: int, batch_size: int) -> Iterator[tuple[Ids, Ids]]:
    """Yield the same as `sliding_batches` with stride 1, for models that predict only the last position of a window.

    The first block_size tokens have fewer tokens before them: they come one by one in windows (1, 1) to (1, T).
    """
    tokens = _plain(tokens)
    n_targets = len(tokens) - 1
    for length in range(1, min(block_size, n_targets) + 1):
        inputs, targets = tokens[:length][None].astype(np.int64), np.full((1, length), -1, dtype=np.int64)
        targets[0, -1] = tokens[length]
        yield inputs, targets
    yield from _batches_at(tokens, range(1, n_targets - block_size + 1), block_size, batch_size, known=block_size - 1)


def _batches_at(
    tokens: Tokens,
    starts: Sequence[int] | NDArray[np.int64],
    block_size: int,
    batch_size: int,
    known: int = 0,
) -> Iterator[tuple[Ids, Ids]]:
    """Yield (inputs, targets) of the windows at `starts`; the first `known` targets count only in the window at 0."""
    tokens = _plain(tokens)
    for first in range(0, len(starts), batch_size):
        inputs, targets = np.zeros((2, batch_size, block_size), dtype=np.int64)
        targets[:] = -1
        for row, start in enumerate(starts[first : first + batch_size]):
            window = tokens[start : start + block_size + 1]  # the last ones may be shorter
            count, skip = len(window) - 1, known if start else 0
            inputs[row, :count] = window[:-1]
            targets[row, skip:count] = window[skip + 1 :]
        yield inputs, targets


def _plain(tokens: Tokens) -> Tokens:
    """Return a memory map as a plain array: indexing is then faster, and still lazy."""
    return tokens if isinstance(tokens, TokenFiles) else np.asarray(tokens)
