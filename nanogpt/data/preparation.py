"""Preparation of a data set from a recipe, as an iterator of events, in constant memory.

The text is read twice: first for its length, encoding and characters, then to write its tokens; in between, a
tokenizer that is trained reads the text of the training split. Hashing, encoding and writing run in threads. Closing
the iterator at any point leaves nothing incomplete on disk.
"""

import errno
import json
import shutil
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import ExitStack, closing
from dataclasses import replace
from datetime import UTC, datetime
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, TypeVar

from nanogpt import tokenizers
from nanogpt.data import shards, sources, store
from nanogpt.data.background import map_in_threads, run_in_background
from nanogpt.data.corpus.preparation import prepare_corpus
from nanogpt.data.encodings import codec_name
from nanogpt.data.existing import REPLACE_ADVICE, can_keep, check_free, prepared_event
from nanogpt.data.names import home
from nanogpt.data.recipes import Recipe, load_recipe
from nanogpt.data.scanning import scan_files
from nanogpt.data.shards import TokenFile
from nanogpt.data.spooling import spool
from nanogpt.data.text import SEPARATOR, TextFile, first_characters, read
from nanogpt.data.token_files import TokenWriter
from nanogpt.errors import UserError
from nanogpt.events import Encoding, Event, Notice, Skipped
from nanogpt.files import why
from nanogpt.formatting import counted
from nanogpt.tokenizers import Tokenizer

T = TypeVar("T")
MAX_CARRY = 1 << 21  # characters without a safe place to cut, after which the text is cut anywhere
REPORT_INTERVAL_S = 0.05


def prepare(
    recipe: Recipe | str,
    *,
    data_dir: Path | None = None,
    source: Path | None = None,
    tokenizer: str | None = None,
    val_ratio: float | None = None,
    test_ratio: float | None = None,
    encoding: str | None = None,
    shard_tokens: int | None = None,
    output: str | None = None,
    force: bool = False,
    workers: int | None = None,
    keep_shards: bool = False,
) -> Generator[Event, None, None]:
    """Yield Downloading | Receiving | Skipped | Notice | Encoding | TokenizerTraining events, and at the end Prepared.

    recipe: a recipe or its name; the other arguments take precedence over its values. source: a local copy of the file
    that the recipe downloads. force: replace a data set of the same name. Without it, an existing data set is kept if
    it is the same, and `UserError` is raised otherwise. Raise `UserError` for all that a user can fix.

    For a recipe of documents see `prepare_corpus`, which `workers` and `keep_shards` are for; `source` is a file or a
    folder to read instead of a download.
    """
    began = time.monotonic()
    if isinstance(recipe, str):
        recipe = load_recipe(recipe, data_dir)
    recipe = replace(
        recipe,
        name=recipe.name if output is None else output,
        tokenizer=tokenizers.canonical(recipe.tokenizer if tokenizer is None else tokenizer),
        val_ratio=recipe.val_ratio if val_ratio is None else val_ratio,
        test_ratio=recipe.test_ratio if test_ratio is None else test_ratio,
        encoding=recipe.encoding if encoding is None else encoding,
        shard_tokens=recipe.shard_tokens if shard_tokens is None else shard_tokens,
    )
    folder = home(data_dir) / recipe.name

    existing = _find_existing(folder, recipe, force)
    if recipe.documents is not None:
        if source is not None:
            recipe = replace(
                recipe,
                source=sources.create(sources.OWN_TEXT, paths=(source,), text_column=recipe.documents.text_column),
            )
        meta = yield from prepare_corpus(
            recipe,
            folder,
            existing=existing.meta if existing else None,
            workers=workers,
            keep_shards=keep_shards,
            force=force,
        )
        yield prepared_event(meta, folder, began)
        return
    if existing and source is None and _is_known_same(existing.meta, recipe):
        yield from _report_unchanged(existing, began)
        return
    with ExitStack() as cleanup:
        yield from _prepare_text(recipe, folder, existing, source, force, cleanup, began)


def _prepare_text(
    recipe: Recipe,
    folder: Path,
    existing: store.Dataset | None,
    source: Path | None,
    force: bool,
    cleanup: ExitStack,
    began: float,
) -> Generator[Event, None, None]:
    """Prepare the text of a recipe that is not made of documents. `cleanup` removes the files that this needs."""
    skipped: dict[str, dict[str, int]] = {}
    if source is not None:
        found = [recipe.source.check_local_copy(source)]
    else:
        found = yield from _collect_skipped(recipe.source.files(recipe.encoding), skipped)
    found, streams = yield from spool(found, folder, cleanup)
    files, text_bytes, alphabet, sha256 = yield from _collect_skipped(
        scan_files(found, recipe.encoding, recipe.source.text_column, streams), skipped
    )
    read_as = ", ".join(sorted({file.codec for file in files}))
    if existing:
        _check_same_text(existing.meta, recipe, sha256, read_as)
        yield from _report_unchanged(existing, began)
        return

    ends = split_ends(recipe, sum(file.characters for file in files) + len(SEPARATOR) * (len(files) - 1))
    made = yield from build_tokenizer(recipe, files, alphabet, ends)
    if made.vocab_size < 2:
        raise UserError(f"the text of {recipe.name} has no other character than {alphabet!r}: give another text")
    described = {
        "kind": recipe.source.name,
        "sha256": sha256,
        "bytes": text_bytes,
        "files": len(files),
        "encoding": read_as,
        **({"skipped": skipped} if skipped else {}),
    }
    try:
        with store.new_dataset(folder) as part:
            token_files, text_sizes = yield from _write(part, read(files), ends, made, text_bytes, recipe.shard_tokens)
            meta = store.Meta(
                **store.file_fields(token_files),
                name=recipe.name,
                title=recipe.title,
                licence=recipe.licence,
                dtype=tokenizers.token_dtype(made.vocab_size),
                vocab_size=made.vocab_size,
                tokenizer=recipe.tokenizer,
                tokenizer_fingerprint=tokenizers.fingerprint(made),
                characters=max(ends.values()),
                val_ratio=recipe.val_ratio,
                test_ratio=recipe.test_ratio,
                source=described | _origin(recipe, files, streams),
                created=datetime.now(UTC).isoformat(timespec="seconds"),
                split_characters={split: characters for split, (characters, _) in text_sizes.items()},
                split_bytes={split: utf8_bytes for split, (_, utf8_bytes) in text_sizes.items()},
            )
            store.write_file(part / "tokenizer.json", json.dumps(made.to_json()) + "\n")
            store.write_file(part / "meta.json", meta.to_json())
            if not force:
                check_free(folder)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise UserError(_disk_full(folder, sum(file.characters for file in files), made)) from error
        raise UserError(f"cannot write in {folder.parent}: {why(error)}; {_ELSEWHERE}") from error
    yield prepared_event(meta, folder, began)


_ELSEWHERE = "choose another folder with NANOGPT_DATA_DIR"


def _find_existing(folder: Path, recipe: Recipe, force: bool) -> store.Dataset | None:
    """Return the data set of the recipe's name if it may be the requested one; None if there is none to keep.

    Raise `UserError` if it certainly is another one, or is not a data set.
    """
    if not can_keep(folder, force):
        return None
    try:
        found = store.open_dataset(folder)
    except UserError as error:
        raise UserError(f"data set {recipe.name} exists and cannot be used: {error}") from error
    meta = found.meta
    for what, is_, asked in (
        ("tokenizer", meta.tokenizer, recipe.tokenizer),
        ("val_ratio", meta.val_ratio, recipe.val_ratio),
        ("test_ratio", meta.test_ratio, recipe.test_ratio),
    ):
        if is_ != asked:
            raise UserError(f"data set {recipe.name} exists with {what}={is_}, not {asked}; {REPLACE_ADVICE}")
    if recipe.shard_tokens and not _is_in_shards_of(meta, recipe.shard_tokens):
        raise UserError(
            f"data set {recipe.name} exists and is not in shards of {recipe.shard_tokens:,} tokens; {REPLACE_ADVICE}"
        )
    return found


def _is_in_shards_of(meta: store.Meta, shard_tokens: int) -> bool:
    """Return whether each split is in shards of so many tokens; the last one may have fewer."""
    return all(
        meta.shards.get(split)
        and all(shard.tokens == shard_tokens for shard in meta.shards[split][:-1])
        and len(meta.shards[split]) == -(-tokens // shard_tokens)
        for split, tokens in meta.tokens.items()
    )


def _is_known_same(meta: store.Meta, recipe: Recipe) -> bool:
    """Return whether a data set is known to have the recipe's text, without reading the text."""
    expected = recipe.source.expected_sha256
    known = expected is not None and meta.source.get("sha256") == expected
    read_as = meta.source.get("encoding")  # earlier versions did not record it
    if recipe.encoding is not None:
        return known and read_as == codec_name(recipe.encoding)
    return known and read_as in (None, "utf-8")


def _check_same_text(meta: store.Meta, recipe: Recipe, sha256: str, read_as: str) -> None:
    """Raise `UserError` if a data set has another text, or the text in another encoding."""
    if meta.source.get("sha256") != sha256:
        raise UserError(f"data set {recipe.name} exists and has another text; {REPLACE_ADVICE}")
    was = meta.source.get("encoding", read_as if recipe.encoding is None else "unknown")
    if was != read_as:
        raise UserError(f"data set {recipe.name} exists with encoding={was}, not {read_as}; {REPLACE_ADVICE}")


def _report_unchanged(dataset: store.Dataset, began: float) -> Iterator[Event]:
    yield Notice(level="info", text=f"data set {dataset.name} is already prepared from this text")
    yield prepared_event(dataset.meta, dataset.path, began)


def _collect_skipped(
    events: Generator[Event, None, T], skipped: dict[str, dict[str, int]]
) -> Generator[Event, None, T]:
    """Yield the events and return what they return; add up in `skipped` what was left out."""
    with closing(events):
        while True:
            try:
                event = next(events)
            except StopIteration as end:
                result: T = end.value
                return result
            if isinstance(event, Skipped):
                skipped[event.what] = dict(Counter(skipped.get(event.what, {})) + Counter(event.counts))
            yield event


def _origin(recipe: Recipe, files: list[TextFile], streams: Mapping[Path, str]) -> dict[str, Any]:
    only = files[0].path if len(files) == 1 else None
    return recipe.source.origin() or ({"path": streams.get(only, str(only.absolute()))} if only else {})


def split_ends(recipe: Recipe, characters: int) -> dict[str, int]:
    """Return the end of each split in characters, with nanoGPT's rounding. Raise `UserError` if a split is empty."""
    ends = {
        "train": int(characters * (1 - recipe.val_ratio - recipe.test_ratio)),
        "val": int(characters * (1 - recipe.test_ratio)),
        "test": characters,
    }
    if not recipe.test_ratio:
        del ends["test"]
    begin = 0
    for split, end in ends.items():
        if end <= begin:
            raise UserError(
                f"the text of {recipe.name} is too short: of {counted(characters, 'character')} none is left for "
                f"{split} with val_ratio={recipe.val_ratio} and test_ratio={recipe.test_ratio}; give more text or "
                "change the ratios"
            )
        begin = end
    return ends


def build_tokenizer(
    recipe: Recipe, files: list[TextFile], alphabet: str, ends: dict[str, int], most: int | None = None
) -> Generator[Event, None, Tokenizer]:
    """Yield the progress of a training, and notices; return the recipe's tokenizer.

    One that is trained reads the text of the training split alone, of which `most` is the number of characters; None:
    all. Raise `UserError`.
    """
    spec = tokenizers.parse_spec(recipe.tokenizer)
    if spec.kind.needs != "text":
        return tokenizers.create(recipe.tokenizer, [alphabet])
    characters = ends["train"] if most is None else min(most, ends["train"])
    total = sum(file.text_bytes for file in files) * characters // max(ends.values())
    made = yield from tokenizers.build(recipe.tokenizer, first_characters(read(files), characters), total)
    if spec.vocab_size and made.vocab_size < spec.vocab_size:
        text = f"the text is too short for {spec.vocab_size:,} entries: the vocabulary has {made.vocab_size:,}"
        yield Notice(level="warning", text=text)
    return made


def _write(
    folder: Path, texts: Iterable[str], ends: dict[str, int], tokenizer: Tokenizer, text_bytes: int, shard_tokens: int
) -> Generator[Event, None, tuple[dict[str, list[TokenFile]], dict[str, tuple[int, int]]]]:
    """Read the text again and write the token files of each split, in shards if `shard_tokens` is not 0.

    Return by split: the files, the size of the text (characters, bytes in UTF-8).
    """
    characters, done, tokens, reported = max(ends.values()), 0, 0, 0.0
    dtype, text_sizes = tokenizers.token_dtype(tokenizer.vocab_size), dict.fromkeys(ends, (0, 0))
    with ExitStack() as stack:
        writers = {
            split: stack.enter_context(
                closing(TokenWriter(folder, split, dtype, shard_tokens or shards.DEFAULT_SHARD_TOKENS))
            )
            for split in ends
        }
        with run_in_background() as writing:
            encoded = map_in_threads(
                lambda piece: (tokenizer.encode_to_array(piece[1]), utf8_length(piece[1])),
                pieces(split_texts(texts, ends), tokenizer),
            )
            for (split, text), (ids, utf8_bytes) in encoded:
                writing(writers[split].append, ids)
                tokens += len(ids)
                characters_before, bytes_before = text_sizes[split]
                text_sizes[split] = characters_before + len(text), bytes_before + utf8_bytes
                done += len(text)
                if time.monotonic() - reported > REPORT_INTERVAL_S:
                    reported = time.monotonic()
                    share = text_bytes * done // characters
                    yield Encoding(phase="encode", done_bytes=share, total_bytes=text_bytes, tokens=tokens)
        yield Encoding(phase="encode", done_bytes=text_bytes, total_bytes=text_bytes, tokens=tokens)
        return {split: writer.finish(raw=not shard_tokens) for split, writer in writers.items()}, text_sizes


def utf8_length(text: str) -> int:
    """Return the number of bytes of a text in UTF-8."""
    return len(text) if text.isascii() else len(text.encode())


def split_texts(texts: Iterable[str], ends: dict[str, int]) -> Iterator[tuple[str, str]]:
    """Yield (split, text), with the text cut at the ends of the splits."""
    splits = iter(ends.items())
    split, end = next(splits)
    position = 0
    for text in texts:
        while position + len(text) > end:
            yield split, text[: end - position]
            text, position = text[end - position :], end
            split, end = next(splits)
        yield split, text
        position += len(text)


def pieces(texts: Iterable[tuple[str, str]], tokenizer: Tokenizer) -> Iterator[tuple[str, str]]:
    """Yield (split, piece), cut so that the tokens of the pieces are the tokens of the whole split."""
    for split, parts in groupby(texts, itemgetter(0)):
        carry = ""
        for _, text in parts:
            text = carry + text
            cut = tokenizer.safe_cut(text) or (len(text) if len(text) >= MAX_CARRY else 0)
            if cut:
                yield split, text[:cut]
            carry = text[cut:]
        if carry:
            yield split, carry


def _disk_full(folder: Path, characters: int, tokenizer: Tokenizer) -> str:
    item_bytes = 2 if tokenizers.token_dtype(tokenizer.vocab_size) == "uint16" else 4
    free = shutil.disk_usage(folder.parent).free
    return (
        f"the disk of {folder.parent} is full: {folder.name} needs up to {characters * item_bytes / 1e6:.0f} MB and "
        f"{free / 1e6:.0f} MB are free; free some space, or {_ELSEWHERE}"
    )
