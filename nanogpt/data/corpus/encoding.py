"""Encoding of a corpus: documents from shards to token files, committed window by window."""

from collections.abc import Generator, Sequence
from contextlib import closing

import numpy as np

from nanogpt import tokenizers
from nanogpt.data.background import map_in_threads
from nanogpt.data.corpus.blocks import BLOCK_BYTES, ShardEnd, TextBlock, TokenBlock
from nanogpt.data.corpus.duplicates import HashSet
from nanogpt.data.corpus.fetch import Fetcher
from nanogpt.data.corpus.meter import Meter
from nanogpt.data.corpus.processes import BLOCKS_QUEUED, Processes
from nanogpt.data.corpus.reading import Item, read_shards
from nanogpt.data.corpus.unfinished import Unfinished
from nanogpt.data.corpus.window import Ids, new_window, split_numbers
from nanogpt.data.document_settings import DocumentSettings
from nanogpt.data.recipes import Recipe
from nanogpt.data.scanning import encoding_notice
from nanogpt.data.shards import DEFAULT_SHARD_TOKENS
from nanogpt.data.sources.base import Shard
from nanogpt.data.store import SPLITS
from nanogpt.data.token_files import TokenWriter
from nanogpt.events import Downloading, Event, Notice
from nanogpt.tokenizers import Tokenizer

BLOCKS_AHEAD = 32  # of half a megabyte: the workers have something to do while a window is written


class Encoder:
    """Writes the documents of a corpus into an unfinished folder, from where `unfinished.progress` says."""

    def __init__(self, unfinished: Unfinished, shards: Sequence[Shard], recipe: Recipe, tokenizer: Tokenizer) -> None:
        """Bring the files to the committed state. Raise `UserError` if they have less than that."""
        assert recipe.documents is not None
        self._unfinished, self._shards, self._recipe, self._tokenizer = unfinished, shards, recipe, tokenizer
        self._settings: DocumentSettings = recipe.documents
        self.progress = unfinished.progress  # what is committed between two windows
        dtype = tokenizers.token_dtype(tokenizer.vocab_size)
        self._separator = separator_ids(tokenizer, self._settings.separator)
        self.writers = {
            split: TokenWriter(
                unfinished.path,
                split,
                dtype,
                recipe.shard_tokens or DEFAULT_SHARD_TOKENS,
                committed=self.progress.tokens.get(split, 0),
            )
            for split in SPLITS[: 3 if recipe.test_ratio else 2]
        }
        self._hashes = unfinished.open_hashes(self.progress.hashes)
        self._known = HashSet()
        if not self.progress.complete:
            for hashes in self._hashes:
                self._known.load(hashes)
        self._window = new_window(self._settings)
        self._passed_shards = self.progress.shard  # committed

    def run(self, workers: int, fetcher: Fetcher) -> Generator[Event, None, None]:
        """Yield progress until all documents are written and committed. Raise OSError and `UserError`."""
        progress, meter = self.progress, Meter(self._unfinished, self._shards, fetcher)
        for number in range(progress.shard):  # a kill may have come before their removal
            fetcher.remove(number)
        if progress.complete:
            return
        with closing(Processes(self._unfinished.tokenizer_path, workers)) as processes:
            removed = progress.shard
            items = read_shards(processes, fetcher, self._shards, self._recipe, progress.shard, progress.passed)

            def encode(item: Item) -> Item:
                return processes.encode(item) if isinstance(item, TextBlock) else item

            def blocks(item: Item) -> float:  # one for a long document is larger than others
                return max(1, len(item.content) / BLOCK_BYTES) if isinstance(item, TextBlock) else 1

            concurrent = BLOCKS_QUEUED * workers
            ahead = max(BLOCKS_AHEAD, 2 * concurrent)
            with closing(map_in_threads(encode, items, concurrent, ahead, blocks)) as encoded:
                for _, item in encoded:
                    if isinstance(item, TokenBlock):
                        meter.add(item.position)
                        self._add(item)
                    elif isinstance(item, ShardEnd):
                        progress.shard, progress.passed = progress.shard + 1, 0
                        for reason, count in item.skipped.items():
                            progress.skipped[reason] = progress.skipped.get(reason, 0) + count
                        if item.codec not in ("utf-8", *progress.codecs):
                            progress.codecs.append(item.codec)
                            yield self._encoding_notice(progress.shard - 1, item)
                        meter.end_shard()
                    elif isinstance(item, int):
                        meter.add(item)
                    elif isinstance(item, Downloading) and not progress.read:
                        yield item
                    if progress.complete:
                        break
                    for number in range(removed, self._passed_shards):
                        fetcher.remove(number)
                    removed = self._passed_shards
                    yield from meter.report(progress, self._window)
        if not progress.complete:
            self._commit(is_last=True)
        yield from meter.report(progress, self._window, always=True)

    def _encoding_notice(self, number: int, end: ShardEnd) -> Notice:
        """Return the notice that a shard, the first of this encoding, is not UTF-8."""
        name, asked = self._shards[number].name, self._recipe.encoding is not None
        return encoding_notice(name, 1, end.codec, end.excerpt, detected=end.detected, asked=asked)

    def close(self) -> None:
        """Close the files. What is not committed may be lost."""
        for writer in self.writers.values():
            writer.close()
        self._hashes.close()

    def _add(self, block: TokenBlock) -> None:
        """Add the documents of a block to the window, and commit it each time it is full."""
        progress, recipe = self.progress, self._recipe
        count = len(block.tokens)
        new = self._known.add(block.hashes) if self._settings.deduplicate else np.ones(count, np.bool_)
        kept = progress.total_documents + len(self._window)
        splits = split_numbers(progress.read, new, kept, self._settings.seed, recipe.val_ratio, recipe.test_ratio)
        start = 0
        while start < count and not progress.complete:
            taken = self._window.add(block.since(start), new[start:], splits[start:])
            progress.passed += taken
            progress.read += taken
            progress.duplicates += taken - int(new[start : start + taken].sum())
            start += taken
            if self._window.is_full:
                self._commit()

    def _commit(self, *, is_last: bool = False) -> None:
        """Write the documents of the window, and record what is read and written so far once it is on disk."""
        window, settings, progress = self._window, self._settings, self.progress
        order = np.arange(len(window))
        if settings.shuffle:
            order = np.random.default_rng([settings.seed, progress.read]).permutation(order)
        if settings.max_docs is not None:
            order = order[: settings.max_docs - progress.total_documents]
        left = None if settings.max_tokens is None else settings.max_tokens - progress.total_tokens
        for output in window.outputs(self._separator, order, self._text_size, left) if len(window) else ():
            split, writer = output.split, self.writers[output.split]
            for chunk in output.chunks:
                writer.append(chunk)
            progress.tokens[split] = writer.tokens
            for counts, added in (
                (progress.documents, output.documents),
                (progress.characters, output.characters),
                (progress.bytes, output.bytes),
            ):
                counts[split] = counts.get(split, 0) + added
        if settings.deduplicate and len(window):
            self._hashes.append(window.hashes())
            progress.hashes += len(window)
        for writer in self.writers.values():
            writer.commit()
        progress.complete = is_last or (
            progress.total_documents == settings.max_docs or progress.total_tokens == settings.max_tokens
        )
        self._unfinished.commit(progress)
        self._passed_shards = progress.shard
        self._window = new_window(settings)

    def _text_size(self, ids: Ids) -> tuple[int, int]:
        """Return the characters and the UTF-8 bytes of some tokens."""
        text = b"".join(map(self._tokenizer.token_bytes, ids.tolist()))
        return sum(byte & 0xC0 != 0x80 for byte in text), len(text)


def separator_ids(tokenizer: Tokenizer, separator: str) -> Ids:
    """Return the tokens before each document: the end-of-text token, or else those of a text."""
    dtype = tokenizers.token_dtype(tokenizer.vocab_size)
    if tokenizer.end_of_text is not None:
        return np.array([tokenizer.end_of_text], dtype)
    return tokenizer.encode_to_array(separator)
