"""The format of shards: numbered files of token ids, which together are one split.

A shard is llm.c's: a header of 256 int32 (magic, version, number of tokens, zeros), then the ids as uint16 or uint32,
all little-endian. Source: `write_datafile` in dev/data/data_common.py of karpathy/llm.c; modded-nanogpt writes the
same. A split in one file `<split>.bin` without a header is called raw: it is what nanoGPT reads.
"""

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from nanogpt.errors import UserError
from nanogpt.files import open_regular, why
from nanogpt.tokenizers import TokenDtype

HEADER_BYTES = 256 * 4
MAX_TOKENS = 2**31 - 1  # of one shard: its number is an int32
DEFAULT_SHARD_TOKENS = 100_000_000  # as llm.c's and modded-nanogpt's
_FORMATS: dict[TokenDtype, tuple[int, int]] = {"uint16": (20240520, 1), "uint32": (20240801, 7)}  # magic, version
_MAGICS = {20240520, 20240522, 20240801}  # of llm.c's files of tokens, of multiple-choice questions, of Llama's tokens
ITEM_BYTES: dict[TokenDtype, int] = {"uint16": 2, "uint32": 4}


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenFile:
    """A complete file of token ids: its name in the folder of the data set, the number of its ids, the SHA-256 of all
    its bytes, and the time of its last change in ns since 1970.
    """

    name: str
    tokens: int
    sha256: str
    modified_ns: int


def shard_name(split: str, number: int) -> str:
    """Return the file name of a shard; the first number is 0."""
    return f"{split}-{number:05}.bin"


def pack_header(dtype: TokenDtype, tokens: int) -> bytes:
    """Return the header of a shard with this number of tokens."""
    return struct.pack("<3i", *_FORMATS[dtype], tokens).ljust(HEADER_BYTES, b"\0")


def read_header(path: Path) -> tuple[TokenDtype, int] | None:
    """Return the type and the number of the ids that the header of a file states; None if it has no shard's header.

    Raise `UserError` if it cannot be read.
    """
    try:
        with open_regular(path) as file:
            begin = file.read(HEADER_BYTES)
    except OSError as error:
        raise UserError(f"cannot read {path}: {why(error)}") from None
    if len(begin) < HEADER_BYTES:
        return None
    magic, version, tokens = struct.unpack_from("<3i", begin)
    return next(((dtype, tokens) for dtype, format in _FORMATS.items() if format == (magic, version)), None)


def read_magic(path: Path) -> tuple[int, int] | None:
    """Return the magic and the version of a file of llm.c, None of another file. Raise `UserError`."""
    try:
        with open_regular(path) as file:
            begin = file.read(8)
    except OSError as error:
        raise UserError(f"cannot read {path}: {why(error)}") from None
    if len(begin) < 8 or (numbers := struct.unpack("<2i", begin))[0] not in _MAGICS:
        return None
    return numbers[0], numbers[1]


def combined_sha256(files: Sequence[TokenFile]) -> str:
    """Return one SHA-256 for the files of a split: that of a raw file, or that of the lines of the shards' hashes."""
    if len(files) == 1:
        return files[0].sha256
    return hashlib.sha256("".join(f"{file.sha256}\n" for file in files).encode()).hexdigest()
