"""The documents of all shards of a corpus in their order, downloaded and read by a child process."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TypeAlias

from nanogpt.data.corpus.blocks import ShardEnd, TextBlock, TokenBlock
from nanogpt.data.corpus.fetch import Fetcher
from nanogpt.data.corpus.processes import Processes
from nanogpt.data.recipes import Recipe
from nanogpt.data.sources.base import Shard
from nanogpt.errors import UserError
from nanogpt.events import Downloading

Item: TypeAlias = Downloading | TextBlock | TokenBlock | ShardEnd | int


def read_shards(
    processes: Processes, fetcher: Fetcher, shards: Sequence[Shard], recipe: Recipe, first: int, skip: int
) -> Iterator[Item]:
    """Yield the blocks of the shards from number `first` on, without its first `skip` documents, and downloads between.

    Raise `UserError`, which names the shard, if one cannot be downloaded or read.
    """
    assert recipe.documents is not None
    for number in range(first, len(shards)):
        path = yield from fetcher.wait_for(number)
        _check_unchanged(shards[number])
        try:
            for item in processes.read(path, skip, text_column=recipe.documents.text_column, encoding=recipe.encoding):
                yield item
                fetcher.advance(number)
        except UserError as error:
            if shards[number].sha256 is None:
                fetcher.discard(number)  # it may be damaged: the next preparation downloads it again
            raise UserError(f"shard {shards[number].name}: {error}") from error
        skip = 0


def _check_unchanged(shard: Shard) -> None:
    """Raise `UserError` if a local file has changed since the preparation began."""
    if shard.path:
        try:
            about = Path(shard.path).stat()
        except OSError:
            return  # reading it says why
        if (about.st_size, about.st_mtime_ns) != (shard.size, shard.modified_ns):
            raise UserError(f"{shard.path} has changed since this preparation began: start over with --force")
