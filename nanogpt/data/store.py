"""Prepared data sets on disk: folders of token files, created atomically.

<data_dir>/<name>/  train.bin, val.bin[, test.bin]   raw little-endian token ids, as nanoGPT reads them
                    train-00000.bin, …               or shards instead, see `shards.py`
                    meta.json                        see `Meta`
                    tokenizer.json                   the tokenizer itself
"""

import errno
import json
import os
import re
import secrets
import shlex
import socket
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, fields
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from nanogpt import paths, tokenizers
from nanogpt.data.names import check_name, home, prepared_names, unfinished_folder
from nanogpt.data.recipes import recipe_paths
from nanogpt.data.shards import HEADER_BYTES, ITEM_BYTES, TokenFile, combined_sha256
from nanogpt.errors import UserError, nearest
from nanogpt.files import (
    file_lock,
    new_folder,
    open_regular,
    publish_folder,
    read_bytes,
    remove,
    remove_folder,
    sha256,
    why,
)
from nanogpt.processes import is_running

if TYPE_CHECKING:
    from nanogpt.data.token_files import Tokens

FORMAT = 1  # of meta.json
FORMAT_OF_SHARDS = 2  # the same, with shards: earlier versions cannot read them
CHECKED_IDS = 1 << 22  # ids checked at a time, so that memory stays constant
SPLITS = ("train", "val", "test")
_SHARD = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,200}\.bin")


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """The content of `meta.json`.

    `tokenizer` is the tokenizer's spec in canonical form, such as `char` or `bpe:9157`. `tokens` and `sha256` are by
    split (see `combined_sha256` for that of shards); `source` describes the text (kind, sha256, bytes, encoding …);
    `created` is ISO 8601 in UTC. Three more are by split, and earlier versions did not record them: `modified_ns` is
    the time of change of a raw token file when it was written, in ns since 1970 (a file that still has it is
    unchanged); `split_characters` and `split_bytes` are the size of the text, in UTF-8. `shards` has the files of each
    split that is not raw, in their order.
    """

    format: int
    name: str
    title: str
    licence: str
    dtype: tokenizers.TokenDtype
    vocab_size: int
    tokenizer: str
    tokenizer_fingerprint: str
    tokens: dict[str, int]
    sha256: dict[str, str]
    characters: int
    val_ratio: float
    test_ratio: float
    source: dict[str, Any]
    created: str
    modified_ns: dict[str, int] = field(default_factory=dict)
    split_characters: dict[str, int] = field(default_factory=dict)
    split_bytes: dict[str, int] = field(default_factory=dict)
    shards: dict[str, list[TokenFile]] = field(default_factory=dict)

    def to_json(self) -> str:
        """Return the text of `meta.json`."""
        return json.dumps(asdict(self), indent=2) + "\n"

    @property
    def item_bytes(self) -> int:
        """The bytes of one token id."""
        return ITEM_BYTES[self.dtype]

    def files(self, split: str) -> list[TokenFile]:
        """Return the token files of a split, in their order."""
        return self.shards.get(split) or [
            TokenFile(
                name=f"{split}.bin",
                tokens=self.tokens[split],
                sha256=self.sha256[split],
                modified_ns=self.modified_ns.get(split, -1),
            )
        ]


def file_fields(files: Mapping[str, Sequence[TokenFile]]) -> dict[str, Any]:
    """Return the fields of `Meta` that describe the token files of each split."""
    shards = {split: list(each) for split, each in files.items() if each[0].name != f"{split}.bin"}
    return {
        "format": FORMAT_OF_SHARDS if shards else FORMAT,
        "tokens": {split: sum(file.tokens for file in each) for split, each in files.items()},
        "sha256": {split: combined_sha256(each) for split, each in files.items()},
        "modified_ns": {split: each[0].modified_ns for split, each in files.items() if split not in shards},
        "shards": shards,
    }


@dataclass(frozen=True)
class Dataset:
    """A prepared data set whose files have the expected sizes."""

    name: str
    path: Path
    meta: Meta

    @cached_property
    def tokenizer(self) -> tokenizers.Tokenizer:
        """The tokenizer of the data set. Raise `UserError` if `tokenizer.json` is damaged or of another tokenizer."""
        tokenizer = tokenizers.from_json(_read_json(self.path / "tokenizer.json", self.name))
        if tokenizers.fingerprint(tokenizer) != self.meta.tokenizer_fingerprint:
            raise UserError(f"{self.path / 'tokenizer.json'} is not the tokenizer of its tokens; {self._repair_advice}")
        return tokenizer

    def split(self, name: str) -> "Tokens":
        """Return the token ids of a split, (n,), uint16 or uint32, mapped into memory. Raise `UserError`.

        The ids of one file are an array. Those of several are a `TokenFiles`, which is indexed like one.
        """
        import numpy as np

        from nanogpt.data.token_files import TokenFiles, map_shard

        self._check_has(name)
        files = self.meta.files(name)
        paths = [self.path / file.name for file in files]
        if len(files) > 1:
            return TokenFiles(paths, [file.tokens for file in files], self.meta.dtype)
        if name in self.meta.shards:
            return map_shard(paths[0], self.meta.dtype, files[0].tokens)
        try:
            open_regular(paths[0]).close()
        except OSError as error:
            raise UserError(f"cannot read {paths[0]}: {why(error)}") from None
        return np.memmap(paths[0], dtype="<u2" if self.meta.dtype == "uint16" else "<u4", mode="r")

    @property
    def _repair_advice(self) -> str:
        return _repair_advice(self.name, self.meta)

    def check_ids(self, name: str) -> None:
        """Raise `UserError` if a split does not exist, or has an id outside the tokenizer's vocabulary.

        Read the files of the split (1 GB in 0.1 s from memory), but not those unchanged since they were written.
        """
        self._check_has(name)
        ids: Tokens | None = None
        begin = 0
        for file in self.meta.files(name):
            path, end = self.path / file.name, begin + file.tokens
            if path.stat().st_mtime_ns != file.modified_ns:
                ids = self.split(name) if ids is None else ids
                self._check_ids_between(ids, begin, end, path)
            begin = end

    def _check_has(self, split: str) -> None:
        if split not in self.meta.tokens:
            raise UserError(_no_split(self.name, split, list(self.meta.tokens)))

    def _check_ids_between(self, ids: "Tokens", begin: int, end: int, path: Path) -> None:
        vocab_size = self.tokenizer.vocab_size
        for first in range(begin, end, CHECKED_IDS):
            highest = int(ids[first : min(end, first + CHECKED_IDS)].max())
            if highest >= vocab_size:
                raise UserError(
                    f"{path} has the token id {highest:,}, but the last id of its vocabulary is {vocab_size - 1:,}: it "
                    f"is damaged or of another data set; {self._repair_advice}"
                )


def open_dataset(name_or_path: str | Path, data_dir: Path | None = None, *, verify: bool = False) -> Dataset:
    """Return a data set by its name, or by its folder's path.

    verify: also read all files and check their SHA-256. Raise `UserError` if the data set is not prepared, damaged, or
    made by a newer version.
    """
    path = _folder(name_or_path, data_dir)
    if not is_dataset(path):
        raise UserError(_not_found(str(name_or_path), path, data_dir))
    meta = _read_meta(path)
    for split in meta.tokens:
        header_bytes = HEADER_BYTES if split in meta.shards else 0
        for file in meta.files(split):
            _check_size(path / file.name, header_bytes + file.tokens * meta.item_bytes, meta)
    dataset = Dataset(path.name, path, meta)
    if verify:
        _verify(dataset)
    return dataset


def delete_dataset(name: str, data_dir: Path | None = None) -> None:
    """Delete a data set, and its unfinished preparation, but not its recipe.

    Raise `UserError` if it does not exist, or if a process is preparing it.
    """
    path = _folder(check_name(name), data_dir)
    if has_unfinished := os.path.lexists(unfinished_folder(path)):
        _remove_unfinished(unfinished_folder(path), name)
    if not is_dataset(path):
        if has_unfinished:
            return
        raise UserError(_not_found(name, path, data_dir))
    try:
        remove_stale_folders(path.parent)
        remove_folder(path, temporary_path(path, "old"), marker="meta.json")  # without it `clean` does not put it back
    except OSError as error:
        raise UserError(f"cannot delete {path}: {why(error)}") from None


def _remove_unfinished(folder: Path, name: str) -> None:
    from filelock import Timeout  # here: a list of the data sets needs none

    lock = file_lock(folder / "lock")
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise UserError(f"the data set {name} is being prepared: it can be deleted once that has ended") from None
    except OSError:  # a folder without permission; a disk without locks
        pass
    try:
        remove(folder, ignore_errors=True)
    finally:
        lock.release()


def is_dataset(folder: Path) -> bool:
    """Return whether `folder` has a prepared data set. Raise `UserError` if its permissions forbid looking."""
    try:
        return (folder / "meta.json").is_file()
    except PermissionError as error:
        raise UserError(f"cannot look into {folder}: {why(error)}") from None


def is_prepared(name_or_path: str, data_dir: Path | None = None) -> bool:
    """Return whether `open_dataset` finds a data set with this name or path, so that none has to be prepared."""
    return name_or_path in prepared_names(data_dir) or (
        os.sep in name_or_path and paths.expanded(name_or_path).is_dir()
    )


# A folder or a file that is being written or removed has the name of its data set, host and process in its name, so
# that what a killed process left can be distinguished from what is in use.
_STALE = re.compile(r"\.(?P<name>.+)~(?P<host>[^~]+)~(?P<pid>\d+)~(?P<role>part|old)~[^~]*")


@contextmanager
def new_dataset(path: Path) -> Iterator[Path]:
    """Yield a folder to fill, which takes the place of `path` if the block succeeds and is removed otherwise.

    Raise OSError.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_stale_folders(path.parent)
    with new_folder(path, temporary_path(path, "part"), temporary_path(path, "old")) as folder:
        yield folder


def publish(partial: Path, path: Path) -> None:
    """Rename a complete folder beside `path` to `path`, in the place of a data set that may be there. Raise OSError."""
    remove_stale_folders(path.parent)
    publish_folder(path, partial, temporary_path(path, "old"))


def remove_stale_folders(data_dir: Path) -> None:
    """Remove incomplete folders of processes that have ended, and restore the data sets that these had moved away."""
    for path in data_dir.glob(".*~*"):
        stale = _STALE.fullmatch(path.name)
        if not stale or stale["host"] != _host() or is_running(int(stale["pid"])):
            continue
        home = data_dir / stale["name"]
        if stale["role"] == "old" and (path / "meta.json").exists() and not home.exists():
            path.replace(home)
        else:
            remove(path, ignore_errors=True)


def write_file(path: Path, text: str) -> None:
    """Write a text file in UTF-8 with line feeds, on every system."""
    path.write_text(text, "utf-8", newline="\n")


def temporary_path(path: Path, role: str) -> Path:
    """Return an unused name beside `path`, which `remove_stale_folders` knows. `role` is "part" or "old"."""
    return path.with_name(f".{path.name}~{_host()}~{os.getpid()}~{role}~{secrets.token_hex(4)}")


def _host() -> str:
    return re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()) or "host"


def _folder(name_or_path: str | Path, data_dir: Path | None) -> Path:
    if isinstance(name_or_path, Path) or os.sep in name_or_path:
        return paths.expanded(name_or_path).absolute()
    return home(data_dir) / check_name(name_or_path)


def _not_found(name: str, path: Path, data_dir: Path | None) -> str:
    if name in recipe_paths():
        return f"data set {name} is not prepared: run `nanogpt prepare {name}`"
    if (path / "train.bin").is_file():
        return (
            f"{path} has no meta.json, as nanoGPT's own folders: make a data set of its files with "
            f"`nanogpt prepare tokens {shlex.quote(str(path))}`"
        )
    known = sorted({*recipe_paths(), *prepared_names(data_dir)})
    return f"no data set {name!r}.{nearest(name, known)} `nanogpt datasets` lists them all"


def _repair_advice(name: str, meta: Meta | None = None) -> str:
    if name in recipe_paths():
        what = name
    elif meta is not None and meta.source.get("kind") == "tokens":
        what = f"tokens PATH --tokenizer={meta.tokenizer} --output={name}"
    elif meta is not None and meta.source.get("kind") == "files" and "settings" in meta.source:
        what = f"documents PATH --output={name}"
    else:
        what = f"textfile FILE --output={name}"
    return f"prepare it again with `nanogpt prepare {what} --force`"


def _no_split(name: str, split: str, existing: list[str]) -> str:
    problem = f"data set {name} has no split {split!r}; it has {', '.join(existing)}"
    if split != "test":
        return problem
    what = name if name in recipe_paths() else "textfile FILE"
    return (
        f"{problem}, because it was prepared with test_ratio=0: prepare one with "
        f"`nanogpt prepare {what} --val_ratio=0.1 --test_ratio=0.1 --output={name}-test` and train on that"
    )


def _read_json(path: Path, name: str) -> Any:
    try:
        return json.loads(read_bytes(path, tokenizers.LARGEST))
    except PermissionError as error:
        raise UserError(f"cannot read {path}: {why(error)}") from error
    except (OSError, ValueError, RecursionError) as error:
        raise UserError(f"{path} cannot be read ({why(error)}); {_repair_advice(name)}") from error


def _read_meta(path: Path) -> Meta:
    values = _read_json(path / "meta.json", path.name)
    if isinstance(values, dict) and isinstance(values.get("format"), int) and values["format"] > FORMAT_OF_SHARDS:
        raise UserError(
            f"{path} was made by a newer version (format {values['format']}, here {FORMAT_OF_SHARDS}): update this one"
        )
    try:
        values = {"modified_ns": {}, "split_characters": {}, "split_bytes": {}, "shards": {}, **values}
        values["shards"] = {split: [TokenFile(**file) for file in files] for split, files in values["shards"].items()}
        meta = Meta(**{each.name: values[each.name] for each in fields(Meta)})
        sound = (
            meta.format == (FORMAT_OF_SHARDS if meta.shards else FORMAT)
            and meta.dtype in get_args(tokenizers.TokenDtype)
            and {"train", "val"} <= set(meta.tokens) <= set(SPLITS)
            and all(type(tokens) is int and tokens > 0 for tokens in meta.tokens.values())
            and set(meta.sha256) == set(meta.tokens)
            and isinstance(meta.modified_ns, dict)
            and all(_are_shards(files, meta.tokens[split]) for split, files in meta.shards.items())
            and all(
                set(sizes) <= set(meta.tokens) and all(type(size) is int and size > 0 for size in sizes.values())
                for sizes in (meta.split_characters, meta.split_bytes)
            )
            and type(meta.vocab_size) is int
            and meta.vocab_size > 0
            and type(meta.characters) is int
            and isinstance(meta.source, dict)
            and all(isinstance(text, str) for text in (meta.title, meta.licence, meta.tokenizer))
        )
    except (TypeError, KeyError, AttributeError):
        sound = False
    if not sound:
        raise UserError(f"{path / 'meta.json'} does not describe a data set; {_repair_advice(path.name)}")
    return meta


def _are_shards(files: list[TokenFile], tokens: int) -> bool:
    """Return whether a list from `meta.json` can be the shards of a split of `tokens` tokens."""
    return (
        all(_SHARD.fullmatch(file.name) and type(file.tokens) is int and file.tokens > 0 for file in files)
        and all(type(file.sha256) is str for file in files)
        and sum(file.tokens for file in files) == tokens
    )


def _check_size(path: Path, expected: int, meta: Meta) -> None:
    try:
        about = path.stat()
        found = about.st_size if stat.S_ISREG(about.st_mode) else 0
    except OSError as error:
        if error.errno not in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG):
            raise
        found = 0
    if found == expected:
        return
    advice = _repair_advice(path.parent.name, meta)
    if found < expected:
        raise UserError(f"{path} is truncated: {expected - found} of {expected} bytes are missing; {advice}")
    raise UserError(f"{path} has {found - expected} bytes more than the {expected} it should have; {advice}")


def _verify(dataset: Dataset) -> None:
    advice = _repair_advice(dataset.name, dataset.meta)
    for split in dataset.meta.tokens:
        for file in dataset.meta.files(split):
            path = dataset.path / file.name
            if sha256(path) != file.sha256:
                raise UserError(f"{path} has changed since it was prepared (sha256 differs); {advice}")
    if dataset.tokenizer.vocab_size != dataset.meta.vocab_size:
        raise UserError(f"{dataset.path / 'meta.json'} has another vocab_size than the tokenizer; {advice}")
