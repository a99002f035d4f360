"""Data sets of token files that another program wrote: nanoGPT, llm.c or modded-nanogpt.

Their files become the data set's own without being copied, if the file system can link them. They are read once, to
check and count the ids.
"""

import errno
import hashlib
import json
import os
import re
import time
from collections.abc import Generator, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nanogpt import paths, tokenizers
from nanogpt.data import store
from nanogpt.data.background import run_in_background
from nanogpt.data.existing import REPLACE_ADVICE, can_keep, check_free, prepared_event
from nanogpt.data.names import check_name, dataset_name, home
from nanogpt.data.nanogpt_meta import read_characters
from nanogpt.data.shards import HEADER_BYTES, ITEM_BYTES, TokenFile, read_header, read_magic, shard_name
from nanogpt.data.text_size import counted_text_size
from nanogpt.errors import UserError
from nanogpt.events import Encoding, Event, Notice
from nanogpt.files import open_regular, why
from nanogpt.formatting import counted
from nanogpt.tokenizers import TokenDtype, Tokenizer

IDS_AT_ONCE = 1 << 20
_SPLIT = re.compile(r"(?:.*[_.-])?(?P<split>train|valid|validation|val|test)(?:[_.-]?\d+)?\.bin")
_SPLIT_NAMES = {"valid": "val", "validation": "val"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """A file of token ids. `header_bytes` is 0 for a raw one."""

    path: Path
    split: str
    dtype: TokenDtype
    tokens: int
    header_bytes: int
    modified_ns: int


def prepare_tokens(
    given: Iterable[str | Path],
    *,
    tokenizer: str | None = None,
    data_dir: Path | None = None,
    output: str | None = None,
    force: bool = False,
) -> Generator[Event, None, None]:
    """Yield Notice and Encoding events and, once the data set is complete on disk, Prepared.

    given: token files, and folders of them; a file's split is in its name, as in `train.bin` and
    `fineweb_val_000000.bin`. tokenizer: the spec of the one that made the ids; None: the characters in the `meta.pkl`
    beside nanoGPT's files. output: the name of the data set; None: that of the folder. Raise `UserError`.
    """
    began = time.monotonic()
    places = list(dict.fromkeys(paths.expanded(path).absolute() for path in given))
    if not places:
        raise UserError("no token files given; name them or their folder, as in `nanogpt prepare tokens FOLDER`")
    try:
        origin = places[0] if places[0].is_dir() else places[0].parent
        listed = yield from _token_files(places)
        spec, made = _tokenizer(tokenizer, listed)
        found = [_inspect(path, split, tokenizers.token_dtype(made.vocab_size)) for split, path in listed]
    except OSError as error:
        raise UserError(f"cannot read {error.filename}: {why(error)}") from None
    name = check_name(output) if output is not None else dataset_name(origin)
    folder = home(data_dir) / name
    _check_together(found)
    existing = store.open_dataset(folder) if can_keep(folder, force) else None
    hashes, counts = yield from _scan(found, made)
    own = {split: _own_files(split, found, hashes) for split in counts}
    meta = _meta(name, origin, spec, made, found[0].dtype, {split: list(own[split].values()) for split in own}, counts)
    if existing is not None:
        fingerprints = existing.meta.tokenizer_fingerprint, meta.tokenizer_fingerprint
        if existing.meta.sha256 != meta.sha256 or len(set(fingerprints)) > 1:
            raise UserError(f"data set {name} exists and has other tokens; {REPLACE_ADVICE}")
        yield Notice(level="info", text=f"data set {name} is already prepared from these files")
        yield prepared_event(existing.meta, folder, began)
        return
    try:
        with store.new_dataset(folder) as part:
            for files in own.values():
                for path, file in files.items():
                    yield from _link_or_copy(path, part / file.name)
            store.write_file(part / "tokenizer.json", json.dumps(made.to_json()) + "\n")
            store.write_file(part / "meta.json", meta.to_json())
            if not force:
                check_free(folder)
    except OSError as error:
        raise UserError(
            f"cannot write in {folder.parent}: {why(error)}; choose another folder with NANOGPT_DATA_DIR"
        ) from error
    yield prepared_event(meta, folder, began)


def _token_files(given: Sequence[Path]) -> Generator[Event, None, list[tuple[str, Path]]]:
    """Return the split and the path of each file, by split in the order of their names."""
    found: list[tuple[str, Path]] = []
    skipped: list[str] = []
    for path in given:
        if path.is_dir():
            inside = [
                each for each in sorted(path.iterdir()) if each.suffix == ".bin" and not each.name.startswith(".")
            ]
            if not inside:
                raise UserError(f"{path} has no token files (*.bin); name the folder that has train.bin and val.bin")
            skipped += [each.name for each in inside if not _SPLIT.fullmatch(each.name)]
            found += [(_split(each), each) for each in inside if _SPLIT.fullmatch(each.name)]
        elif not path.exists():
            raise UserError(f"{path} does not exist")
        elif not _SPLIT.fullmatch(path.name):
            raise UserError(
                f"the name of {path} does not say which split it is: rename it so that it ends in train.bin or "
                "val.bin, maybe with a number after the split"
            )
        else:
            found.append((_split(path), path))
    if skipped:
        yield Notice(level="info", text=f"skipped {', '.join(skipped)}: the name has neither train nor val")
    for split in ("train", "val"):
        if split not in dict(found):
            raise UserError(
                f"no file for the {split} split in {', '.join(map(str, given))}: its name has to end in {split}.bin or "
                f"{split} and a number, such as {split}_000001.bin"
            )
    order = {split: place for place, split in enumerate(store.SPLITS)}
    return sorted(found, key=lambda each: (order[each[0]], _number(each[1]), each[1]))


def _split(path: Path) -> str:
    match = _SPLIT.fullmatch(path.name)
    assert match is not None
    return _SPLIT_NAMES.get(match["split"], match["split"])


def _number(path: Path) -> int:
    """Return the number at the end of a file's name; 0 without one."""
    digits = re.search(r"\d*$", path.stem)
    return int(digits[0]) if digits and digits[0] else 0


def _tokenizer(spec: str | None, files: list[tuple[str, Path]]) -> tuple[str, Tokenizer]:
    """Return the canonical spec of the tokenizer, and the tokenizer."""
    pickled = files[0][1].with_name("meta.pkl")
    if spec is None and not pickled.is_file():
        raise UserError(
            f"say which tokenizer made the ids of {files[0][1]}: --tokenizer=gpt2 for those of nanoGPT, llm.c and "
            "modded-nanogpt"
        )
    if spec is None or (spec == "char" and pickled.is_file()):
        return "char", tokenizers.create("char", [read_characters(pickled)])
    parsed = tokenizers.parse_spec(spec)
    if parsed.kind.needs != "nothing":
        raise UserError(
            f"the tokenizer {spec} is made from a text, and token files have none: give the one that made their ids, "
            "such as --tokenizer=gpt2, or prepare the text with `nanogpt prepare textfile`"
        )
    return tokenizers.canonical(spec), tokenizers.create(spec)


def _inspect(path: Path, split: str, raw_dtype: TokenDtype) -> Found:
    """Return the format of a file. Raise `UserError` if its size does not fit."""
    header, about = read_header(path), path.stat()
    size = about.st_size
    if header is None and (magic := read_magic(path)) is not None:
        raise UserError(f"{path} is llm.c's, but not of token ids: its magic and version are {magic}")
    dtype, tokens = header or (raw_dtype, size // ITEM_BYTES[raw_dtype])
    header_bytes = HEADER_BYTES if header else 0
    expected = header_bytes + max(0, tokens) * ITEM_BYTES[dtype]
    if header and (tokens <= 0 or size != expected):
        raise UserError(
            f"{path} is damaged: it has {size:,} bytes, and with the {counted(tokens, 'token')} that its header says "
            f"it would have {expected:,}"
        )
    if not size or size != expected:
        raise UserError(
            f"{path} has {counted(size, 'byte')}, which are not ids of {ITEM_BYTES[dtype]} bytes: it is damaged or has "
            "other content"
        )
    return Found(
        path=path, split=split, dtype=dtype, tokens=tokens, header_bytes=header_bytes, modified_ns=about.st_mtime_ns
    )


def _check_together(found: list[Found]) -> None:
    """Raise `UserError` if the files cannot be one data set."""
    for file in found:
        if file.dtype != found[0].dtype:
            raise UserError(
                f"{found[0].path} has ids of type {found[0].dtype} and {file.path} of type {file.dtype}: the files of "
                "one data set have the same type"
            )
        several = sum(each.split == file.split for each in found) > 1
        if several and not file.header_bytes:
            raise UserError(
                f"{file.path} has no header, so it has to be the only file of the {file.split} split: give one folder "
                "of nanoGPT's at a time"
            )


def _own_files(split: str, found: list[Found], hashes: dict[Path, str]) -> dict[Path, TokenFile]:
    """Return what each file of a split is in the data set."""
    files = [file for file in found if file.split == split]
    return {
        file.path: TokenFile(
            name=shard_name(split, number) if file.header_bytes else f"{split}.bin",
            tokens=file.tokens,
            sha256=hashes[file.path],
            modified_ns=file.modified_ns,
        )
        for number, file in enumerate(files)
    }


def _scan(
    found: list[Found], tokenizer: Tokenizer
) -> Generator[Event, None, tuple[dict[Path, str], dict[str, NDArray[np.int64]]]]:
    """Return the SHA-256 of each file, and by split how often each id occurs. Raise `UserError` for an id too high."""
    total, done, tokens = sum(file.path.stat().st_size for file in found), 0, 0
    hashes: dict[Path, str] = {}
    counts = {file.split: np.zeros(tokenizer.vocab_size, np.int64) for file in found}
    for file in found:
        digest, begin, item_bytes = hashlib.sha256(), 0, ITEM_BYTES[file.dtype]
        done += file.header_bytes
        try:
            with open_regular(file.path) as content, run_in_background() as hashing:
                hashing(digest.update, content.read(file.header_bytes))
                while block := content.read(IDS_AT_ONCE * item_bytes):
                    hashing(digest.update, block)
                    ids = np.frombuffer(block, f"<u{item_bytes}")
                    if (highest := int(ids.max())) >= tokenizer.vocab_size:
                        raise UserError(
                            f"{file.path} has the id {highest:,} at token {begin + int(ids.argmax()):,}, but the last "
                            f"of {tokenizer.name} is {tokenizer.vocab_size - 1:,}: give the tokenizer that made the ids"
                        )
                    counts[file.split] += np.bincount(ids, minlength=tokenizer.vocab_size)
                    begin, tokens, done = begin + len(ids), tokens + len(ids), done + len(block)
                    yield Encoding(phase="scan", done_bytes=done, total_bytes=total, tokens=tokens)
        except OSError as error:
            raise UserError(f"cannot read {file.path}: {why(error)}") from None
        hashes[file.path] = digest.hexdigest()
    return hashes, counts


def _link_or_copy(source: Path, target: Path) -> Generator[Event, None, None]:
    """Make `target` a second name of the file, or a copy of it. Raise OSError."""
    source = source.resolve()  # of a link, the file that it leads to
    try:
        os.link(source, target)
    except OSError as error:  # another file system, or one without links, or the file of another user
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            raise
    else:
        return
    total, done = source.stat().st_size, 0
    with open_regular(source) as content, target.open("wb") as copy:
        while block := content.read(IDS_AT_ONCE * 8):
            copy.write(block)
            done += len(block)
            yield Encoding(phase="encode", done_bytes=done, total_bytes=total, tokens=0)
    about = source.stat()
    os.utime(target, ns=(about.st_atime_ns, about.st_mtime_ns))


def _meta(
    name: str,
    folder: Path,
    spec: str,
    tokenizer: Tokenizer,
    dtype: TokenDtype,
    own: dict[str, list[TokenFile]],
    counts: dict[str, NDArray[np.int64]],
) -> store.Meta:
    """Return the `Meta` of the data set. Raise `UserError` if a split has no text."""
    sizes = {split: counted_text_size(tokenizer, count) for split, count in counts.items()}
    for split, size in sizes.items():
        if not size.characters:
            raise UserError(f"the {split} split has no text, only special tokens such as end-of-text; give other files")
    characters = {split: size.characters for split, size in sizes.items()}
    fields = store.file_fields(own)
    shares = {split: tokens / sum(fields["tokens"].values()) for split, tokens in fields["tokens"].items()}
    return store.Meta(
        **fields,
        name=name,
        title=folder.name,
        licence="unknown",
        dtype=dtype,
        vocab_size=tokenizer.vocab_size,
        tokenizer=spec,
        tokenizer_fingerprint=tokenizers.fingerprint(tokenizer),
        characters=sum(characters.values()),
        val_ratio=shares["val"],
        test_ratio=shares.get("test", 0.0),
        source={"kind": "tokens", "path": str(folder), "files": sum(map(len, own.values()))},
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        split_characters=characters,
        split_bytes={split: size.bytes for split, size in sizes.items()},
    )
