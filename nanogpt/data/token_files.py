"""Writing token ids to files, and reading several files of them as one sequence, in constant memory."""

import bisect
import mmap
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from io import FileIO
from itertools import accumulate, takewhile
from pathlib import Path
from typing import Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray

from nanogpt.data.shards import HEADER_BYTES, ITEM_BYTES, TokenFile, pack_header, read_header, shard_name
from nanogpt.errors import UserError
from nanogpt.files import open_regular, sha256, sync, why, write_atomically
from nanogpt.tokenizers import TokenDtype

FEWEST_MAPPED = 128  # files: each keeps a file descriptor open, of which macOS gives a process 256
MOST_MAPPED = 4096
_IDS_AT_ONCE = 1 << 16
_COPIED_BYTES = 1 << 20
_SHA256 = re.compile("[0-9a-f]{64}")

Ids = NDArray[np.unsignedinteger]


class TokenFiles:
    """The token ids of several shards as one read-only sequence, (n,).

    It is indexed like an array: by a number, a slice, or an array of numbers. When a shard is first read, its header is
    checked, and it is mapped into memory. If `most_mapped` are mapped, the others are opened for each read.
    """

    def __init__(self, paths: Sequence[Path], counts: Sequence[int], dtype: TokenDtype) -> None:
        """`counts` are the numbers of ids in the files, as `meta.json` has them."""
        self._paths, self._counts, self._kind = list(paths), list(counts), dtype
        self._ends = list(accumulate(counts))
        self._mapped: dict[int, Ids] = {}
        self._most_mapped = most_mapped()
        self._checked: set[int] = set()  # those of the others whose header was checked
        self.dtype = np.dtype(f"<u{ITEM_BYTES[dtype]}")

    def __len__(self) -> int:
        return self._ends[-1]

    def __iter__(self) -> Iterator[int]:
        for start in range(0, len(self), _IDS_AT_ONCE):
            yield from self._between(start, min(len(self), start + _IDS_AT_ONCE)).tolist()

    @overload
    def __getitem__(self, index: int) -> np.unsignedinteger: ...
    @overload
    def __getitem__(self, index: slice | NDArray[np.integer[Any]]) -> Ids: ...
    def __getitem__(self, index: int | slice | NDArray[np.integer[Any]]) -> np.unsignedinteger | Ids:
        """Raise IndexError like an array, and `UserError` if a file is damaged."""
        if isinstance(index, slice):
            start, stop, step = index.indices(len(self))
            if step > 0:
                return self._between(start, stop)[::step]
            return self._between(stop + 1, start + 1)[::-1][::-step]
        if isinstance(index, np.ndarray):
            return self._at(index)
        place = range(len(self))[index]
        return self._between(place, place + 1)[0]  # type: ignore[no-any-return]

    def windows(self, starts: NDArray[np.int64], length: int) -> NDArray[np.int64]:
        """Return the `length` ids from each place of `starts` (B) on, (B, length)."""
        rows = np.empty((len(starts), length), np.int64)
        for row, start in zip(rows, starts.tolist(), strict=True):
            row[:] = self._between(start, start + length)
        return rows

    def _between(self, start: int, stop: int) -> Ids:
        """Return the ids from `start` to before `stop`, 0 <= start; a view if they are in one file."""
        number = bisect.bisect_right(self._ends, start)
        if start < stop <= self._ends[number]:
            begin = self._ends[number] - self._counts[number]
            return self._read(number, start - begin, stop - begin)
        ids = np.empty(max(0, stop - start), self.dtype)
        done = 0
        while done < len(ids):  # copied one by one: a view of each would keep all files mapped
            part = self._between(start + done, min(stop, self._ends[number]))
            ids[done : done + len(part)] = part
            done, number = done + len(part), number + 1
        return ids

    def _at(self, index: NDArray[np.integer[Any]]) -> Ids:
        """Return the ids at the places of `index`, in its shape."""
        index = np.where(index < 0, index + len(self), index)
        if index.size and not 0 <= index.min() <= index.max() < len(self):
            raise IndexError(f"an index is out of bounds for {len(self)} tokens")
        numbers = np.searchsorted(self._ends, index, side="right")
        ids = np.empty(index.shape, self.dtype)
        for number in np.unique(numbers).tolist():
            chosen = numbers == number
            places = index[chosen] - (self._ends[number] - self._counts[number])
            first = int(places.min())
            ids[chosen] = self._read(number, first, int(places.max()) + 1)[places - first]
        return ids

    def _read(self, number: int, start: int, stop: int) -> Ids:
        """Return the ids from `start` to before `stop` of one file."""
        if (ids := self._mapped.get(number)) is not None:
            return ids[start:stop]
        path, tokens = self._paths[number], self._counts[number]
        if len(self._mapped) < self._most_mapped:
            self._mapped[number] = map_shard(path, self._kind, tokens)
            return self._mapped[number][start:stop]
        if number not in self._checked:
            check_header(path, self._kind, tokens)
            self._checked.add(number)
        try:
            ids = np.fromfile(path, self.dtype, stop - start, offset=HEADER_BYTES + start * self.dtype.itemsize)
        except OSError as error:
            raise UserError(f"cannot read {path}: {why(error)}") from None
        if len(ids) < stop - start:
            raise UserError(f"{path} became shorter while it was in use: it is damaged")
        return ids


Tokens: TypeAlias = NDArray[np.unsignedinteger] | TokenFiles


def most_mapped() -> int:
    """Return how many files to map: half of the file descriptors that this process may have."""
    try:
        import resource
    except ImportError:  # Windows, which has no such limit
        return MOST_MAPPED
    return min(max(FEWEST_MAPPED, resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2), MOST_MAPPED)


def map_shard(path: Path, dtype: TokenDtype, tokens: int) -> Ids:
    """Return the ids of a shard, (tokens,), mapped into memory. Raise `UserError` if it is damaged."""
    check_header(path, dtype, tokens)
    try:
        with open_regular(path) as file:
            content = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
        return np.frombuffer(content, f"<u{ITEM_BYTES[dtype]}", tokens, HEADER_BYTES)
    except (OSError, ValueError) as error:  # a mapped file that is too short is a ValueError
        raise UserError(f"cannot read {path}: {why(error)}") from None


def check_header(path: Path, dtype: TokenDtype, tokens: int) -> None:
    """Raise `UserError` if the header of a shard does not state this type and number of ids."""
    if read_header(path) != (dtype, tokens):
        raise UserError(f"the header of {path} does not say that it has {tokens:,} ids of type {dtype}: it is damaged")


class TokenWriter:
    """Writes the token ids of a split to shards of `shard_tokens` ids each; the last one may have fewer.

    `commit` says how many ids are on disk to stay. A writer that continues from such a number writes the same files as
    one that was never killed: it cuts off what was written after the commit. All calls block until the system has the
    data; the caller may use one background thread.
    """

    def __init__(self, folder: Path, split: str, dtype: TokenDtype, shard_tokens: int, *, committed: int = 0) -> None:
        """Continue after `committed` ids, 0 for a new split.

        Raise OSError, and `UserError` if the files have fewer ids than were committed.
        """
        self.tokens = committed  # of the split, also those that are not on disk yet
        self._folder, self._split, self._dtype, self._shard_tokens = folder, split, dtype, shard_tokens
        self._hashes = folder / f".{split}.sha256"  # of the complete shards, one a line
        self._file: FileIO | None = None  # the shard that is incomplete
        self._restore()

    def append(self, ids: NDArray[np.integer[Any]]) -> None:
        """Write ids (n,) after the others. They fit the type. Raise OSError."""
        content = np.ascontiguousarray(ids, f"<u{ITEM_BYTES[self._dtype]}").view(np.uint8).data
        while content:
            if self._file is None:
                self._file = FileIO(self._path(self.tokens // self._shard_tokens), "w")
                self._file.write(pack_header(self._dtype, 0))
            room = self._shard_tokens - self.tokens % self._shard_tokens
            part = content[: room * ITEM_BYTES[self._dtype]]
            content = content[len(part) :]
            self.tokens += len(part) // ITEM_BYTES[self._dtype]
            while part:  # a write may be partial
                part = part[self._file.write(part) :]
            if self.tokens % self._shard_tokens == 0:
                self._complete(self._shard_tokens)

    def commit(self) -> int:
        """Return the number of ids so far, once they are on disk. Raise OSError."""
        if self._file is not None:
            os.fsync(self._file.fileno())
        sync(self._folder)
        return self.tokens

    def finish(self, *, raw: bool) -> list[TokenFile]:
        """Complete the last shard, and return the files. Raise OSError.

        raw: if there is only one, turn it into the file `<split>.bin` without a header.
        """
        shards = -(-self.tokens // self._shard_tokens)
        if raw and shards <= 1:
            self.close()
            return [self._as_raw()]
        if self._file is not None:
            self._complete(self.tokens % self._shard_tokens)
        hashes = self._hashes.read_text().split()
        counts = [self._shard_tokens] * (shards - 1) + [self.tokens - (shards - 1) * self._shard_tokens]
        self._hashes.unlink()
        return [
            TokenFile(name=path.name, tokens=count, sha256=hash_, modified_ns=path.stat().st_mtime_ns)
            for path, count, hash_ in zip(map(self._path, range(shards)), counts, hashes, strict=True)
        ]

    def close(self) -> None:
        """Close the incomplete file. What is not committed may be lost."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _restore(self) -> None:
        """Bring the files to the state in which `self.tokens` ids were written, and nothing else."""
        complete, rest = divmod(self.tokens, self._shard_tokens)
        raw = self._folder / f"{self._split}.bin"
        if self.tokens and raw.is_file() and not self._path(0).exists():  # killed after the last commit, in `finish`
            raw_ids = np.fromfile(raw, f"<u{ITEM_BYTES[self._dtype]}", self.tokens)
            write_atomically(self._path(0), pack_header(self._dtype, len(raw_ids)) + raw_ids.tobytes())
        raw.unlink(missing_ok=True)
        for path in self._folder.glob(f"{self._split}-*.bin"):
            digits = path.stem.removeprefix(f"{self._split}-")
            if digits.isdecimal() and int(digits) >= complete + (rest > 0):
                path.unlink()
        for number in range(complete + (rest > 0)):
            expected = self._bytes(self._shard_tokens if number < complete else rest)
            path = self._path(number)
            found = path.stat().st_size if path.is_file() else 0
            if found < expected or (found > expected and number < complete):
                raise UserError(
                    f"cannot continue in {self._folder}: {path.name} has {found:,} bytes, not {expected:,}: delete the "
                    "folder and start again"
                )
        lines = self._hashes.read_text().split() if self._hashes.is_file() else []
        lines = list(takewhile(_SHA256.fullmatch, lines[:complete]))
        lines += [sha256(self._path(number)) for number in range(len(lines), complete)]
        write_atomically(self._hashes, "".join(f"{line}\n" for line in lines))
        if rest:
            self._file = FileIO(self._path(complete), "r+")
            self._file.truncate(self._bytes(rest))
            self._file.seek(0, os.SEEK_END)

    def _bytes(self, tokens: int) -> int:
        return HEADER_BYTES + tokens * ITEM_BYTES[self._dtype]

    def _path(self, number: int) -> Path:
        return self._folder / shard_name(self._split, number)

    def _complete(self, tokens: int) -> None:
        """Write the header and the hash of the incomplete shard, and close it."""
        assert self._file is not None
        self._file.seek(0)
        self._file.write(pack_header(self._dtype, tokens))
        os.fsync(self._file.fileno())
        self.close()
        path = self._path((self.tokens - 1) // self._shard_tokens)
        with self._hashes.open("a") as file:
            file.write(f"{sha256(path)}\n")
            file.flush()
            os.fsync(file.fileno())

    def _as_raw(self) -> TokenFile:
        """Turn the only shard into a raw file, or write an empty one."""
        shard, path = self._path(0), self._folder / f"{self._split}.bin"
        partial = path.with_name(f".{path.name}")
        with partial.open("wb") as target:
            if self.tokens:
                with open_regular(shard) as source:
                    source.seek(HEADER_BYTES)
                    shutil.copyfileobj(source, target, _COPIED_BYTES)
            target.flush()
            os.fsync(target.fileno())
        partial.replace(path)
        sync(self._folder)
        shard.unlink(missing_ok=True)
        self._hashes.unlink(missing_ok=True)
        return TokenFile(name=path.name, tokens=self.tokens, sha256=sha256(path), modified_ns=path.stat().st_mtime_ns)
