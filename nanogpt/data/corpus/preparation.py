"""Preparation of a data set from a corpus: list its shards, make a tokenizer, encode, publish the folder."""

import errno
import hashlib
import json
import os
from collections.abc import Generator, Iterable, Sequence
from contextlib import closing
from dataclasses import fields, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nanogpt import paths, tokenizers
from nanogpt.data import store
from nanogpt.data.background import available_cores
from nanogpt.data.corpus.encoding import Encoder
from nanogpt.data.corpus.fetch import Fetcher
from nanogpt.data.corpus.sample import read_sample, sample_characters, write_sample
from nanogpt.data.corpus.unfinished import CONTINUE_ADVICE, LARGEST, Unfinished
from nanogpt.data.document_settings import DocumentSettings
from nanogpt.data.existing import REPLACE_ADVICE, check_free
from nanogpt.data.names import home, unfinished_folder
from nanogpt.data.recipes import Recipe, textfile_recipe
from nanogpt.data.sources.base import Shard
from nanogpt.errors import SettingError, UserError
from nanogpt.events import Event, Notice
from nanogpt.files import read_json, why, write_atomically
from nanogpt.formatting import counted
from nanogpt.tokenizers import Tokenizer

MAX_WORKERS = 256


def prepare_corpus(
    recipe: Recipe,
    folder: Path,
    *,
    existing: store.Meta | None = None,
    workers: int | None = None,
    keep_shards: bool = False,
    force: bool = False,
) -> Generator[Event, None, store.Meta]:
    """Yield Downloading, Encoding, CorpusEncoding, TokenizerTraining and Notice events; return the data set's `Meta`.

    The data set is made at `folder`. If there is an `existing` one, it is returned if it is the same. workers:
    processes; None: one for each core. keep_shards: keep downloads in the cache folder, which are otherwise removed
    once they are read. force: replace an existing data set; if there is none, start over even if an unfinished
    preparation could be continued. Closing the iterator keeps what is committed, and a later call continues there.
    Raise `UserError`.
    """
    workers = min(available_cores(), MAX_WORKERS) if workers is None else workers
    if not 1 <= workers <= MAX_WORKERS:
        raise SettingError("workers", f"workers={workers} must be between 1 and {MAX_WORKERS}")
    if existing is not None:
        return (yield from _unchanged(recipe, existing))
    starts_over = force and not os.path.lexists(folder)
    advice = f"{CONTINUE_ADVICE} without --force" if starts_over else CONTINUE_ADVICE  # --force would start over again
    with closing(Unfinished(folder)) as unfinished:
        try:
            if starts_over:
                unfinished.clear()
            if not force:
                check_free(folder)
            return (yield from _prepare(recipe, folder, unfinished, workers, keep_shards, force))
        except UserError as error:
            if starts_over and CONTINUE_ADVICE in str(error):
                raise UserError(str(error).replace(CONTINUE_ADVICE, advice)) from error
            raise
        except OSError as error:
            if error.errno in (errno.ENOSPC, errno.EDQUOT):
                raise UserError(
                    f"the disk of {folder.parent} is full: free some space, then {advice} to continue"
                ) from error
            raise UserError(f"cannot write in {folder.parent}: {why(error)}") from error


def _unchanged(recipe: Recipe, meta: store.Meta) -> Generator[Event, None, store.Meta]:
    """Return the `Meta` of an existing data set. Raise `UserError` if it is not the one that the recipe describes."""
    recorded = meta.source.get("settings")
    if not isinstance(recorded, dict):
        raise UserError(f"data set {recipe.name} exists and is not from this corpus; {REPLACE_ADVICE}")
    if difference := _difference(recorded, recipe, was_download="url" in meta.source):
        raise UserError(f"data set {recipe.name} exists with {difference}; {REPLACE_ADVICE}")
    if not recipe.source.is_corpus:
        shards = yield from recipe.source.shards(recipe.encoding)
        if meta.source["sha256"] != _digest(shards):
            raise UserError(f"data set {recipe.name} exists, and its files have changed since; {REPLACE_ADVICE}")
    yield Notice(level="info", text=f"data set {recipe.name} is already prepared from this corpus")
    return meta


def _prepare(
    recipe: Recipe, folder: Path, unfinished: Unfinished, workers: int, keep_shards: bool, force: bool
) -> Generator[Event, None, store.Meta]:
    shards = yield from _shards(recipe, unfinished, force)
    if unfinished.is_complete:  # killed before it was published
        return _publish(unfinished, folder, force)
    downloads = paths.cache_dir() / "corpora" / recipe.name if keep_shards else unfinished.shards_folder
    headers = recipe.source.request_headers()
    yield Notice(
        level="info",
        text=f"encoding {counted(len(shards), 'file')} with {counted(workers, 'worker')}; after an "
        "interruption, preparing it again continues",
    )
    with closing(Fetcher(shards, downloads, headers, recipe.source.stall_s, keep=keep_shards)) as fetcher:
        tokenizer = yield from _tokenizer(recipe, shards, unfinished, fetcher)
        with closing(Encoder(unfinished, shards, recipe, tokenizer)) as encoder:
            yield from encoder.run(workers, fetcher)
            _check_splits(recipe, unfinished)
            files = {split: writer.finish(raw=not recipe.shard_tokens) for split, writer in encoder.writers.items()}
    progress, dtype = unfinished.progress, tokenizers.token_dtype(tokenizer.vocab_size)
    left_out = sum(progress.skipped.values())
    if left_out:
        reasons = ", ".join(f"{count:,} {reason}" for reason, count in sorted(progress.skipped.items()))
        yield Notice(level="info", text=f"skipped {counted(left_out, 'document')}: {reasons}")
    meta = store.Meta(
        name=recipe.name,
        title=recipe.title,
        licence=recipe.licence,
        dtype=dtype,
        vocab_size=tokenizer.vocab_size,
        tokenizer=recipe.tokenizer,
        tokenizer_fingerprint=tokenizers.fingerprint(tokenizer),
        characters=sum(progress.characters.values()),
        val_ratio=recipe.val_ratio,
        test_ratio=recipe.test_ratio,
        source={
            "kind": recipe.source.name,
            "sha256": _digest(shards),
            "bytes": sum(shard.size or 0 for shard in shards),
            "files": len(shards),
            "encoding": recipe.encoding or ", ".join(progress.codecs) or "utf-8",
            "settings": _settings(recipe),
            "documents": progress.documents,
            "duplicates": progress.duplicates,
            "skipped": progress.skipped,
            **recipe.source.origin(),
        },
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        split_characters=progress.characters,
        split_bytes=progress.bytes,
        **store.file_fields(files),
    )
    write_atomically(unfinished.path / "meta.json", meta.to_json())
    return _publish(unfinished, folder, force)


def _publish(unfinished: Unfinished, folder: Path, force: bool) -> store.Meta:
    """Make the data set out of the folder, and return its `Meta`. Raise `UserError` if another one is there."""
    if not force:
        check_free(folder)
    unfinished.publish(folder)
    return store.open_dataset(folder).meta


def _shards(recipe: Recipe, unfinished: Unfinished, force: bool) -> Generator[Event, None, list[Shard]]:
    """Return the shards in the order in which they are read: as recorded, or listed now."""
    settings = _settings(recipe)
    try:
        recorded = unfinished.load()
    except UserError:
        if not force:
            raise
        recorded = None
    was_download = recorded is not None and any(shard.urls for shard in recorded[1])
    is_other = recorded is None or _difference(recorded[0], recipe, was_download)
    if is_other and (force or not (unfinished.progress.read or unfinished.is_complete)):
        unfinished.clear()
        recorded = None
    if recorded is None:
        shards = ordered((yield from recipe.source.shards(recipe.encoding)), recipe)
        unfinished.start(settings, shards)
        return shards
    began_with, shards = recorded
    if difference := _difference(began_with, recipe, was_download):
        raise UserError(
            f"the preparation of {recipe.name} is not finished, and began with {difference}: continue it with the same "
            "settings, or start over with --force"
        )
    if not recipe.source.is_corpus:
        before, shards = shards, ordered((yield from recipe.source.shards(recipe.encoding)), recipe)
        if [replace(shard, path="") for shard in shards] != [replace(shard, path="") for shard in before]:
            if not force:
                raise UserError(
                    f"the preparation of {recipe.name} is not finished, and its files have changed since it began: "
                    "start over with --force"
                )
            unfinished.clear()
            unfinished.start(settings, shards)
            return shards
    progress = unfinished.progress
    yield Notice(
        level="info",
        text=f"continuing the preparation of {recipe.name} after {progress.shard:,} of {counted(len(shards), 'file')}, "
        f"{counted(progress.total_documents, 'document')}, {counted(progress.total_tokens, 'token')}",
    )
    return shards


def ordered(shards: list[Shard], recipe: Recipe) -> list[Shard]:
    """Return the shards in a random order by the seed, or as they are."""
    settings = recipe.documents
    assert settings is not None

    def key(shard: Shard) -> bytes:  # a file name may have bytes that are not UTF-8
        return hashlib.sha256(f"{settings.seed} {shard.name}".encode("utf-8", "surrogateescape")).digest()

    return sorted(shards, key=key) if settings.shuffle else shards


def _tokenizer(
    recipe: Recipe, shards: Sequence[Shard], unfinished: Unfinished, fetcher: Fetcher
) -> Generator[Event, None, Tokenizer]:
    """Return the stored tokenizer, or make it, from a sample of the documents if it needs one.

    One that is trained reads training documents alone; one that only needs the characters has those of all splits.
    """
    assert recipe.documents is not None
    path = unfinished.tokenizer_path
    if path.exists():
        return tokenizers.load(path)
    needs = tokenizers.parse_spec(recipe.tokenizer).kind.needs
    sample = unfinished.path / "sample.txt"
    text: Iterable[str] | None = None
    if needs != "nothing":
        yield from write_sample(sample, recipe, shards, fetcher, training_only=needs == "text")
        text = read_sample(sample) if needs == "text" else [sample_characters(sample, recipe.documents.separator)]
    tokenizer = yield from tokenizers.build(recipe.tokenizer, text, sample.stat().st_size if text else 0)
    sample.unlink(missing_ok=True)
    write_atomically(path, json.dumps(tokenizer.to_json()) + "\n")
    return tokenizer


def _check_splits(recipe: Recipe, unfinished: Unfinished) -> None:
    """Raise `UserError` if a split is empty; nothing is left to continue then."""
    progress = unfinished.progress
    splits = ["train", "val", *(["test"] if recipe.test_ratio else [])]
    if empty := [split for split in splits if not progress.characters.get(split)]:  # the last one may be cut off
        unfinished.clear()
        raise UserError(
            f"the corpus of {recipe.name} is too small: of {counted(progress.total_documents, 'document')} none is "
            f"left for {empty[0]} (skipped: {sum(progress.skipped.values()):,}, duplicates: {progress.duplicates:,}); "
            "give more documents"
        )


def _settings(recipe: Recipe) -> dict[str, Any]:
    """Return all that decides about the content of the data set, as plain values."""
    assert recipe.documents is not None
    chosen = recipe.source.selection()
    return {
        "source": recipe.source.describe(),
        **({"files": chosen} if chosen else {}),
        "tokenizer": recipe.tokenizer,
        "val_ratio": recipe.val_ratio,
        "test_ratio": recipe.test_ratio,
        "encoding": recipe.encoding,
        "shard_tokens": recipe.shard_tokens,
        **recipe.documents.to_json(),
    }


def interrupted_recipe(name: str) -> Recipe | None:
    """Return the recipe with which the interrupted preparation of the user's own documents continues.

    None if none is recorded, or its files are gone, or are named from another folder than this process is in.
    """
    try:
        recorded = _recorded(name)
        values, source = recorded["settings"], str(recorded["settings"]["source"])
        files = [source] if os.path.lexists(source) else source.split(", ")
        given = [Path(file).absolute() for file in files]
        if not all(map(os.path.lexists, given)) or not all(
            any(Path(shard["path"]).is_relative_to(path) for path in given) for shard in recorded["shards"]
        ):
            return None
        chosen = _chosen(values)
        recipe = textfile_recipe(files, name=name, text_column=chosen["documents"].text_column, **chosen)
    except (OSError, ValueError, TypeError, KeyError, UserError):
        return None
    return recipe if _settings(recipe) == values else None


def as_interrupted(recipe: Recipe) -> Recipe:
    """Return the recipe with the settings that its interrupted preparation began with, or as it is."""
    try:
        return replace(recipe, **_chosen(_recorded(recipe.name)["settings"]))
    except (OSError, ValueError, TypeError, KeyError, UserError):
        return recipe


def _recorded(name: str) -> Any:
    """Return what an interrupted preparation recorded. Raise OSError or ValueError."""
    return read_json(unfinished_folder(home(None) / name) / "corpus.json", LARGEST)


def _chosen(values: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a recipe, but for its source, from the values of `_settings`."""
    documents = DocumentSettings(**{each.name: values[each.name] for each in fields(DocumentSettings)})
    others = {key: values[key] for key in ("tokenizer", "val_ratio", "test_ratio", "encoding", "shard_tokens")}
    return {"documents": documents, **others}


def _difference(was: dict[str, Any], recipe: Recipe, was_download: bool) -> str:
    """Return the first setting that differs from the recipe's, with both values; empty if none does.

    A path that was given does not count: the same files may be named from another folder, and are compared themselves.
    was_download: the source was no path. Earlier versions did not record which of its files it was.
    """
    is_ = _settings(recipe)
    ignored = {"files"} - was.keys() | (set() if recipe.source.is_corpus or was_download else {"source"})
    for name in {**is_, **was}:
        if was.get(name) != is_.get(name) and name not in ignored:
            return f"{name}={was.get(name)}, not {is_.get(name)}"
    return ""


def _digest(shards: Sequence[Shard]) -> str:
    """Return a SHA-256 of what is known of the shards, in any order."""
    lines = sorted(json.dumps([shard.name, shard.size, shard.sha256, shard.modified_ns]) for shard in shards)
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
